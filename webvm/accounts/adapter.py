"""How allauth makes users."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.db import transaction
from django.http import HttpRequest
from django.urls import reverse

from webvm.accounts.access import personal_tenant
from webvm.accounts.audit import record
from webvm.accounts.models import User


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """Sign-up writes its audit row in one transaction with the user and the personal tenant (`User.save`)."""

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        with transaction.atomic():
            saved: User = super().save_user(request, user, form, commit=commit)
            if commit:
                record("sign_up", acting_user=saved, tenant=personal_tenant(saved), target=saved)
        return saved

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("settings")
