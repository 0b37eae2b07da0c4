"""Errors of accounts and tenants."""

from __future__ import annotations

from webvm.errors import WebVMError


class NotSignedIn(WebVMError):
    code = "not_signed_in"
    status = 401
    message = "Sign in, or send an API token in the Authorization header."


class LastOwner(WebVMError):
    code = "last_owner"
    status = 409
    message = "A tenant needs an owner. Make somebody else an owner first."


class PersonalTenant(WebVMError):
    code = "personal_tenant"
    status = 409
    message = "A personal tenant has one member only. Create a tenant to work with others."


class AlreadyMember(WebVMError):
    code = "already_member"
    status = 409
    message = "This person is already a member of the tenant."


class EmailTaken(WebVMError):
    code = "email_taken"
    status = 409
    message = "This email address cannot be used. Sign in if it is yours, or use another one."


class LinkNotUsable(WebVMError):
    """A sign-in link or invitation that is wrong, expired, used or revoked: one answer for all."""

    code = "link_not_usable"
    status = 404
    message = "This link cannot be used: it is wrong, has expired or was used before. Ask for a new one."


class TooMany(WebVMError):
    code = "too_many"
    status = 409
    message = "There are too many of these already. Remove one first."


class GuestNotAllowed(WebVMError):
    code = "guest_not_allowed"
    status = 403
    message = "Guests cannot do this. Keep your account by signing up first."


class CsrfFailed(WebVMError):
    code = "csrf_failed"
    status = 403
    message = "The request did not come from one of our pages. Reload the page and try again."


class TooFast(WebVMError):
    code = "too_fast"
    status = 429
    message = "That was tried too often. Wait a few minutes and try again."
