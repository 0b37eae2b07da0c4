"""The first admin of a new installation."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from webvm.accounts.actions.secrets import create_sign_in_link
from webvm.accounts.audit import record
from webvm.accounts.models import User


def ensure_first_admin() -> str | None:
    """Make the first site admin if there is none, and a sign-in link as long as no admin has signed in.

    Answers the link as a path with a fragment (`/sign-in-link/#…`, to be put behind the service's address),
    or None when an admin has signed in before. Every call ends the link of the call before.
    """
    with transaction.atomic():
        admins = User.objects.filter(is_staff=True, is_active=True)
        if admins.exclude(last_login=None).exists():
            return None
        admin = admins.filter(is_superuser=True).order_by("pk").first()
        if admin is None:
            admin = User.objects.create_superuser(settings.ADMIN_EMAIL, name="Admin")
            record("create_first_admin", acting_user=None, target=admin, email=admin.email)
        return f"{reverse('sign_in_link')}#{create_sign_in_link(admin, acting_user=None)}"
