"""What accounts announce to the apps above them, which accounts must not import."""

from django.dispatch import Signal

tenant_retired = Signal()
"""Sent inside the transaction that puts a tenant out of reach, with `tenant` and `acting_user` (may be None).

Receivers end what could still lead into the tenant: links, leases, live sockets."""
