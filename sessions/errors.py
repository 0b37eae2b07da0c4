"""What can go wrong with machines, leases, saves and share links."""

from __future__ import annotations

from webvm.errors import WebVMError


class LeaseHeld(WebVMError):
    """Details: `holder` (a name), `since` (ISO time), `yours` (whether it is the asking user)."""

    code = "lease_held"
    status = 409
    message = "This machine is open somewhere else. Close it there, or take it over."


class LeaseLost(WebVMError):
    """Details, when somebody has it now: `holder`, `since`, `yours` as in `LeaseHeld`."""

    code = "lease_lost"
    status = 409
    message = (
        "This machine was opened somewhere else in the meantime. Take it over, or keep your work as a copy."
    )


class HeadMoved(WebVMError):
    """A save's `expected_head` is not the head. Details: `head` (snapshot id or null)."""

    code = "head_moved"
    status = 409
    message = "This machine was saved or reset elsewhere since you opened it. Keep your work as a copy."


class KeyReused(WebVMError):
    """An idempotency key comes again with other roots: answering it would call unsaved work saved."""

    code = "key_reused"
    status = 409
    message = "This save has the key of another one. Save again with a new key."


class SnapshotIsHead(WebVMError):
    code = "snapshot_is_head"
    status = 409
    message = (
        "This is the state the machine opens with. Resume from another snapshot first, then delete this one."
    )


class ImageNotAvailable(WebVMError):
    code = "image_not_available"
    status = 404
    message = "There is no such image, or it has been withdrawn. Choose one from the catalogue."


class LinkNotUsable(WebVMError):
    """One answer for links that are wrong, expired, used up, revoked, or whose snapshot is deleted."""

    code = "link_not_usable"
    status = 404
    message = "This link does not work, or does not work any more. Ask whoever sent it for a new one."


class GuestsNotAllowed(WebVMError):
    """Told only to those who hold a working link's secret."""

    code = "guests_not_allowed"
    status = 401
    message = "Sign in to open this link: its owner does not allow guests."


class UndoTooLate(WebVMError):
    code = "undo_too_late"
    status = 410
    message = "This was deleted too long ago to be brought back."


class VMQuotaExceeded(WebVMError):
    """Details: `vms`, `max_vms`."""

    code = "vm_quota_exceeded"
    status = 409
    message = "This tenant has as many machines as it may have. Delete one first, or ask an admin for more."


class SessionQuotaExceeded(WebVMError):
    """Details: `sessions`, `max_sessions`."""

    code = "session_quota_exceeded"
    status = 409
    message = (
        "As many machines of this tenant are running as may run at one time. Close one of them, wait half a "
        "minute and open this one again, or ask an admin for more."
    )
