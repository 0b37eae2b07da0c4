"""The two ways in which `up` ends before its time."""

from __future__ import annotations

import errno


class UpError(Exception):
    """`up` cannot go on. The message is one sentence that says why and what to do."""


class StopRequested(BaseException):
    """Somebody asked `up` to stop (Ctrl-C, SIGTERM, a closed terminal). Not an error."""


def sentence_for(error: OSError) -> str:
    """One sentence for an operating system error that nothing nearer to it has explained."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"The disk is full{where}: free some space, then run the same command again."
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"A file or folder cannot be written{where}: change its rights, or choose another --data-dir."
    return f"The operating system refused an operation{where}: {error.strerror or error}."
