"""What can go wrong with chunks, indexes, stores and publishing."""

from __future__ import annotations

from collections.abc import Iterable

from webvm.errors import NotFound, WebVMError


class BadChunk(WebVMError):
    """The bytes are not one zstd frame of what the digest names."""

    code = "bad_chunk"
    status = 422
    message = "The chunk was damaged on its way or is not what its digest says. Send it again."


class BadIndex(WebVMError):
    """An index node breaks the format (docs/design/formats.md)."""

    code = "bad_index"
    status = 422
    message = "The index of the disk or memory is not valid, so nothing was changed. Save again."


class BadPack(WebVMError):
    code = "bad_pack"
    status = 422
    message = "The pack is not valid."


class ChunkNotFound(NotFound):
    """No such chunk, or not for this reader: nobody can tell which."""


class StoreUnavailable(WebVMError):
    """The chunk store did not do what was asked: full, unreachable, refusing."""

    code = "store_unavailable"
    status = 503
    message = "The storage cannot be reached or is full. Nothing was lost; try again in a moment."


class ChunkBusy(StoreUnavailable):
    """An old object of the same digest is being deleted at this moment; what is passing is tried again."""

    message = "An old copy of this data is just being cleared away. Nothing was lost; try again in a moment."


class MissingChunks(WebVMError):
    """A commit names chunks that its tenant may not name or has not uploaded (hex digests in `digests`)."""

    code = "missing_chunks"
    status = 409
    message = "Some of the data has not arrived yet. It is sent again, then the save goes on."

    # One answer fits a text frame of the protocol; the client uploads these and commits again.
    LIMIT = 4096

    def __init__(self, digests: Iterable[bytes]) -> None:
        self.digests = sorted(set(digests))[: self.LIMIT]
        super().__init__(digests=[digest.hex() for digest in self.digests])


class UploadMissing(WebVMError):
    """What the client says it has put into the object store is not there."""

    code = "upload_missing"
    status = 409
    message = "An upload did not arrive in the storage. It is sent again another way."


class VersionFreed(WebVMError):
    """The image version's data has been deleted: it was withdrawn long ago, and no machine was of it."""

    code = "version_freed"
    status = 409
    message = (
        "The data of this image version has been deleted, since it was withdrawn long ago and no machine "
        "needed it. Publish its recipe again to get a new version."
    )


class PublishFailed(WebVMError):
    """A step of the publishing pipeline failed; the message says which and why."""

    code = "publish_failed"
    status = 500
    message = "The image could not be published."


class PublishCancelled(WebVMError):
    code = "publish_cancelled"
    status = 409
    message = "The publishing was cancelled."


class PublishNotPossible(WebVMError):
    """The job is not in a state that allows the change."""

    code = "publish_not_possible"
    status = 409
    message = "The job has already ended."
