"""Users, tenants, memberships, API tokens and the audit log."""

from __future__ import annotations

import secrets
import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models, transaction
from django.utils import timezone


def default_quota_bytes() -> int:
    return settings.QUOTA_BYTES


def default_max_vms() -> int:
    return settings.MAX_VMS


def default_max_sessions() -> int:
    return settings.MAX_SESSIONS


def new_chunk_key() -> bytes:
    """A tenant's 32-byte secret for the names of its chunks in the store."""
    return secrets.token_bytes(32)


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **extra: Any) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)


class User(AbstractBaseUser, PermissionsMixin):
    """A person, known by email. Guests have a made-up address. `is_staff` marks site admins."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    is_guest = models.BooleanField(default=False)
    guest_expires_at = models.DateTimeField(null=True, blank=True)
    date_joined = models.DateTimeField(default=timezone.now)
    journal_generation = models.PositiveIntegerField(
        default=0, help_text="Raising it makes what browsers keep of unsaved work unreadable"
    )

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[UserManager] = UserManager()

    def __str__(self) -> str:
        return self.name or ("Guest" if self.is_guest else self.email)

    def clean(self) -> None:
        """Addresses are one spelling each, so that the form's check for a taken one sees what is stored."""
        super().clean()
        self.email = self.email.lower()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; a new user gets a personal tenant in the same transaction, whichever way it is made."""
        self.email = self.email.lower()
        is_new = self._state.adding
        with transaction.atomic():
            super().save(*args, **kwargs)
            if is_new:
                limits = {}
                if self.is_guest:
                    limits = {
                        "quota_bytes": settings.GUEST_QUOTA_BYTES,
                        "max_vms": settings.GUEST_MAX_VMS,
                        "max_sessions": settings.GUEST_MAX_SESSIONS,
                    }
                tenant = Tenant.objects.create(
                    name=self.name or ("Guest" if self.is_guest else self.email.split("@")[0])[:120],
                    is_personal=True,
                    **limits,
                )
                Membership.objects.create(tenant=tenant, user=self, role=Role.OWNER)


class Tenant(models.Model):
    """An organisation: owns VMs, snapshots, chunks and a quota. Every user has a personal one."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=120)
    is_personal = models.BooleanField(default=False)
    allow_guests = models.BooleanField(default=True)
    chunk_key = models.BinaryField(max_length=32, default=new_chunk_key, editable=False)
    quota_bytes = models.BigIntegerField(default=default_quota_bytes)
    used_bytes = models.BigIntegerField(default=0)
    condemned_bytes = models.BigIntegerField(
        default=0, help_text="No longer counted, still in the store until the collector has deleted it"
    )
    max_vms = models.PositiveIntegerField("most VMs", default=default_max_vms)
    max_sessions = models.PositiveIntegerField(
        "most concurrent sessions", default=default_max_sessions, help_text="VMs that may run at one time"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Out of reach since; the row stays while forks elsewhere read its chunks",
    )

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    MEMBER = "member", "Member"


class Membership(models.Model):
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="one_membership_per_tenant")]

    def __str__(self) -> str:
        return f"{self.user} in {self.tenant} ({self.role})"


class Invitation(models.Model):
    """A link that makes whoever accepts it a member, once; only the secret's SHA-256 is kept."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="invitations")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)
    email = models.EmailField(blank=True, help_text="Whom it was meant for; a note, not a condition")
    secret_hash = models.CharField(max_length=64, unique=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    accepted_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    accepted_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"Invitation to {self.tenant} ({self.role})"


class ApiToken(models.Model):
    """A personal token for programs; only its SHA-256 is kept."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=12)
    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class SignInLink(models.Model):
    """A one-time sign-in link (the first admin's); only its SHA-256 is kept."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sign_in_links")
    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"Sign-in link for {self.user}"


class AuditEntry(models.Model):
    """Who changed what; written in the same transaction as the change."""

    tenant = models.ForeignKey(
        Tenant, on_delete=models.SET_NULL, null=True, blank=True, related_name="audit_entries"
    )
    acting_user = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="audit_entries"
    )
    action = models.CharField(max_length=60)
    target_type = models.CharField(max_length=40, blank=True)
    target_id = models.CharField(max_length=64, blank=True)
    data = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["tenant", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.action} {self.target_type} {self.target_id}"
