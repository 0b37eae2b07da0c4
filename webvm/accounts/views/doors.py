"""Ways in: one-time sign-in links, invitations, and a guest's way to a full account."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.models import EmailAddress
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from webvm.accounts.access import SESSION_KEY, signed_in
from webvm.accounts.actions import accept_invitation, keep_guest, use_sign_in_link
from webvm.accounts.errors import LinkNotUsable
from webvm.accounts.forms import KeepGuestForm
from webvm.accounts.limits import limit
from webvm.accounts.signin import sign_in
from webvm.errors import WebVMError


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def sign_in_link(request: HttpRequest) -> HttpResponse:
    """`/sign-in-link/#<secret>`: the secret stays in the fragment until a person presses the button, so that
    neither a log nor a link previewer gets at it."""
    error = None
    if request.method == "POST":
        limit(request, "sign_in_link")
        try:
            user = use_sign_in_link(request.POST.get("secret", "").strip())
        except LinkNotUsable as problem:
            error = problem
        else:
            sign_in(request, user)
            if not user.has_usable_password():
                messages.info(request, "Welcome. Set a password under Settings to be able to come back.")
            return redirect("/machines/")
    return render(
        request, "account/sign_in_link.html", {"error": error}, status=error.status if error else 200
    )


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def join(request: HttpRequest) -> HttpResponse:
    """`/join/#<secret>`: accept an invitation to a tenant."""
    error: WebVMError | None = None
    if request.method == "POST":
        limit(request, "invitation")
        try:
            membership = accept_invitation(
                request.POST.get("secret", "").strip(), acting_user=signed_in(request)
            )
        except WebVMError as problem:
            error = problem
        else:
            request.session[SESSION_KEY] = str(membership.tenant_id)
            messages.success(request, f"You are now a member of {membership.tenant}.")
            return redirect("/machines/")
    return render(request, "account/join.html", {"error": error}, status=error.status if error else 200)


@login_required
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def keep(request: HttpRequest) -> HttpResponse:
    """A guest signs up: the same user and machines, with their own address and password."""
    user = signed_in(request)
    if not user.is_guest:
        return redirect("/machines/")
    form = KeepGuestForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        limit(request, "keep_guest")
        try:
            user = keep_guest(user, acting_user=user, **form.cleaned_data)
        except WebVMError as problem:
            form.add_error(problem.details.get("field"), problem.text)
        else:
            update_session_auth_hash(request, user)
            EmailAddress.objects.get(user=user, primary=True).send_confirmation(request)
            messages.success(request, "Your account is yours to keep, with every machine in it.")
            return redirect("/machines/")
    return render(request, "account/keep.html", {"form": form}, status=422 if form.errors else 200)


def not_for_guests(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Guests who open `view` are led to the form that makes them full users."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if getattr(request.user, "is_guest", False):
            return redirect("keep_guest")
        return view(request, *args, **kwargs)

    return wrapped
