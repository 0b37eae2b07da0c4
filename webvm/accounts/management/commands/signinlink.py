"""`manage.py signinlink EMAIL`: a one-time sign-in link for somebody who is locked out."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from webvm.accounts.actions import create_sign_in_link
from webvm.accounts.models import User


class Command(BaseCommand):
    help = "Print a sign-in link that works once, for 24 hours. Put it behind the service's address."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(email=options["email"].strip().lower(), is_active=True).first()
        if user is None:
            raise CommandError(f"No active account has the address {options['email']}.")
        self.stdout.write(f"{reverse('sign_in_link')}#{create_sign_in_link(user, acting_user=None)}")
