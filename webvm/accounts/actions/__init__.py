"""Every change to users, tenants, memberships and their secrets."""

from webvm.accounts.actions.guests import create_guest, expire_guests, keep_guest
from webvm.accounts.actions.members import (
    accept_invitation,
    add_member,
    change_role,
    create_invitation,
    remove_member,
    revoke_invitation,
)
from webvm.accounts.actions.secrets import (
    create_sign_in_link,
    create_token,
    revoke_token,
    use_sign_in_link,
)
from webvm.accounts.actions.tenants import create_tenant, delete_tenant, restore_tenant, update_tenant
from webvm.accounts.actions.users import delete_account, rotate_journal_keys, update_profile

__all__ = [
    "accept_invitation",
    "add_member",
    "change_role",
    "create_guest",
    "create_invitation",
    "create_sign_in_link",
    "create_tenant",
    "create_token",
    "delete_account",
    "delete_tenant",
    "expire_guests",
    "keep_guest",
    "remove_member",
    "restore_tenant",
    "revoke_invitation",
    "revoke_token",
    "rotate_journal_keys",
    "update_profile",
    "update_tenant",
    "use_sign_in_link",
]
