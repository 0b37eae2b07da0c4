"""Settings of a user: profile, API tokens, deletion of the account."""

from __future__ import annotations

from datetime import timedelta

from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from webvm.accounts.access import signed_in
from webvm.accounts.actions import create_token, delete_account, revoke_token, update_profile
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.forms import DeleteAccountForm, ProfileForm, TokenForm
from webvm.accounts.journal import forget_journals, journal_owner
from webvm.accounts.models import ApiToken
from webvm.accounts.views.attempt import attempt
from webvm.errors import WebVMError


@login_required
@require_http_methods(["GET", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    user = signed_in(request)
    form = ProfileForm(request.POST or None, initial={"name": user.name})
    if request.method == "POST" and form.is_valid():
        name = form.cleaned_data["name"]
        attempt(request, lambda: update_profile(user, name=name, acting_user=user), "Your profile is saved.")
        return redirect("settings")
    return render(request, "settings/profile.html", {"form": form, "tab": "profile"})


@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    """The tokens, and the answer to making one, the only page that ever shows its secret."""
    user = signed_in(request)
    form = TokenForm(request.POST or None)
    secret = ""
    if request.method == "POST" and form.is_valid():
        days = form.cleaned_data["days"]
        expires_at = timezone.now() + timedelta(days=days) if days else None
        try:
            _, secret = create_token(name=form.cleaned_data["name"], expires_at=expires_at, acting_user=user)
        except WebVMError as error:
            messages.error(request, error.text)
        form = TokenForm()
    rows = ApiToken.objects.filter(user=user).order_by("-pk")
    context = {"form": form, "secret": secret, "tokens": rows, "tab": "tokens"}
    return render(request, "settings/tokens.html", context)


@login_required
@require_POST
def revoke(request: HttpRequest, token_id: int) -> HttpResponse:
    user = signed_in(request)
    attempt(request, lambda: revoke_token(token_id, acting_user=user), "The token is revoked.")
    return redirect("tokens")


@login_required
@require_http_methods(["GET", "POST"])
def delete(request: HttpRequest) -> HttpResponse:
    user = signed_in(request)
    form = DeleteAccountForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        owner = journal_owner(user)
        try:
            delete_account(user, acting_user=user)
        except WebVMError as error:
            form.add_error(None, error.text)
        else:
            logout(request)
            forget_journals(request, owner)
            messages.success(request, "Your account is deleted.")
            return redirect("landing")
    context = {"form": form, "undo_days": undo_time().days}
    return render(request, "settings/delete_account.html", context, status=422 if form.errors else 200)
