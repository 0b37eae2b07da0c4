"""The one family of typed errors: each with a code, an HTTP status and a sentence that helps."""

from __future__ import annotations

from typing import Any, ClassVar


class WebVMError(Exception):
    """Base of every error that a client may see.

    `code` is stable and machine-readable, `status` the HTTP status, `message` a sentence for a person, and
    `details` further JSON fields of the answer.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 400
    message: ClassVar[str] = "The request could not be carried out."

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.text = message or self.message
        self.details = details
        super().__init__(self.text)

    def as_json(self) -> dict[str, Any]:
        """The body's `error` object: `{code, message, **details}`."""
        return {"code": self.code, "message": self.text, **self.details}


class NotFound(WebVMError):
    """What does not exist and what is somebody else's: the same answer."""

    code = "not_found"
    status = 404
    message = "There is nothing here, or it is not yours. Check the address, or sign in with another account."


class PermissionDenied(WebVMError):
    """The thing is visible to this person, but their role does not allow the change."""

    code = "permission_denied"
    status = 403
    message = "Your role does not allow this. Ask an owner or admin of the tenant."


class InvalidInput(WebVMError):
    code = "invalid_input"
    status = 422
    message = "Some of the input is not valid."


class QuotaExceeded(WebVMError):
    """Details: `used_bytes`, `quota_bytes`."""

    code = "quota_exceeded"
    status = 413
    message = (
        "The tenant's storage quota is used up, so this cannot be saved now. What runs keeps running: delete "
        "snapshots or machines that are not needed, or ask an admin for more, then save again."
    )


class MethodNotAllowed(WebVMError):
    code = "method_not_allowed"
    status = 405
    message = "This address does not take this method. See /api/v1/docs."


class ServerError(WebVMError):
    code = "server_error"
    status = 500
    message = "Something broke on our side. Nothing of yours was lost; try again in a moment."
