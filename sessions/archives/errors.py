"""What can go wrong with archives of machines."""

from __future__ import annotations

from webvm.errors import WebVMError


class TooManyDownloads(WebVMError):
    code = "too_many_downloads"
    status = 429
    message = "Too many machines are being downloaded just now. Wait for one to end, then try again."


class RangeNotSatisfiable(WebVMError):
    """Details: `size`, the bytes there are."""

    code = "range_not_satisfiable"
    status = 416
    message = "The disk ends before the part that was asked for. Start the download again."


class ArchiveTooLarge(WebVMError):
    """Details: `max_bytes`."""

    code = "archive_too_large"
    status = 413
    message = "The archive is larger than this site, or your storage quota, takes."


class BadArchive(WebVMError):
    """Not an archive of a machine as docs/design/archive.md has it; the message says where."""

    code = "bad_archive"
    status = 422
    message = "This file is not an archive of a machine."


class ArchiveDamaged(WebVMError):
    """The contents are not what their digests say, or the file ends early."""

    code = "archive_damaged"
    status = 422
    message = "The archive is damaged or not complete. Download it again from where it was made."


class ArchiveVersion(WebVMError):
    """Details: `version`."""

    code = "archive_version"
    status = 422
    message = "The archive was made by a newer version of WebVM. Bring this site up to date first."


class ImageMissing(WebVMError):
    """No image version here has the archive's machine. Details: `slug`, `title`, `version`."""

    code = "image_missing"
    status = 409
    message = "This site has no image with the machine that the archive is of."


class BadMemory(WebVMError):
    """The memory holds no device state that the machine of this site can resume."""

    code = "bad_memory"
    status = 422
    message = "The memory in the archive does not fit the machine it is of, so that it could not be resumed."


class ImportNotPossible(WebVMError):
    """The import is not in a state that allows the change, or too many are under way."""

    code = "import_not_possible"
    status = 409
    message = "The import has already ended."


class UploadBrokeOff(WebVMError):
    """The client has gone, or has fallen silent."""

    code = "upload_broke_off"
    status = 408
    message = "The upload broke off. Send the archive again."


class ImportCancelled(WebVMError):
    code = "import_cancelled"
    status = 409
    message = "The import was cancelled."
