"""Tenants, members, roles, invitations, the audit log."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone

from tests.support.pages import browser, call
from webvm.accounts import actions
from webvm.accounts.access import personal_tenant, tenants_of
from webvm.accounts.actions.tenants import MAX_OWNED_TENANTS
from webvm.accounts.errors import GuestNotAllowed, LastOwner, LinkNotUsable, PersonalTenant
from webvm.accounts.models import AuditEntry, Invitation, Membership, Role, Tenant, User
from webvm.errors import NotFound, PermissionDenied

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada@example.org")


@pytest.fixture
def grace() -> User:
    return User.objects.create_user("grace@example.org")


@pytest.fixture
def lab(ada: User) -> Tenant:
    return actions.create_tenant("Lab", acting_user=ada)


def member(lab: Tenant, email: str, role: str) -> User:
    user = User.objects.create_user(email)
    Membership.objects.create(tenant=lab, user=user, role=role)
    return user


def test_making_adding_and_listing_through_the_api(ada: User, grace: User) -> None:
    client = browser(ada)
    status, lab = call(client, "POST", "/tenants", {"name": "  Compiler   lab "})
    assert (status, lab["name"], lab["role"], lab["used_bytes"]) == (201, "Compiler lab", "owner", 0)
    assert [t["name"] for t in call(client, "GET", "/tenants")[1]["items"]] == ["ada", "Compiler lab"]
    members = f"/tenants/{lab['id']}/members"
    assert call(client, "POST", members, {"email": "Grace@example.org"})[0] == 201
    assert (
        call(client, "POST", members, {"email": "grace@example.org"})[1]["error"]["code"] == "already_member"
    )
    assert call(client, "POST", members, {"email": "nobody@example.org"})[0] == 404
    listed = call(browser(grace), "GET", members)[1]["items"]
    assert [(m["user"]["email"], m["role"]) for m in listed] == [
        ("ada@example.org", "owner"),
        ("grace@example.org", "member"),
    ]
    assert call(client, "PATCH", f"/tenants/{lab['id']}", {"allow_guests": False})[1]["allow_guests"] is False
    assert call(browser(grace), "PATCH", f"/tenants/{lab['id']}", {"name": "x"})[0] == 403
    assert call(client, "PATCH", f"{members}/{listed[1]['id']}", {"role": "admin"})[1]["role"] == "admin"
    assert call(browser(grace), "PATCH", f"/tenants/{lab['id']}", {"name": "Renamed"})[0] == 200
    assert call(client, "DELETE", f"{members}/{listed[1]['id']}")[0] == 204
    assert call(browser(grace), "GET", f"/tenants/{lab['id']}")[0] == 404


def test_members_come_in_pages(ada: User, lab: Tenant) -> None:
    for number in range(4):
        member(lab, f"m{number}@example.org", Role.MEMBER)
    client, path, seen = browser(ada), f"/tenants/{lab.pk}/members?limit=2", []
    after = "0"
    while after:
        page = call(client, "GET", f"{path}&after={after}")[1]
        seen += [m["user"]["email"] for m in page["items"]]
        after = page["next"]
    assert len(seen) == len(set(seen)) == 5


def test_what_each_role_may_do(ada: User, lab: Tenant) -> None:
    admin = member(lab, "admin@example.org", Role.ADMIN)
    plain = member(lab, "plain@example.org", Role.MEMBER)
    new = User.objects.create_user("new@example.org")
    owners = Membership.objects.get(user=ada, tenant=lab)
    plains = Membership.objects.get(user=plain, tenant=lab)
    with pytest.raises(PermissionDenied):
        actions.add_member(lab, email=new.email, role="member", acting_user=plain)
    with pytest.raises(PermissionDenied):
        actions.add_member(lab, email=new.email, role="owner", acting_user=admin)
    with pytest.raises(PermissionDenied):
        actions.change_role(plains, role="owner", acting_user=admin)
    with pytest.raises(PermissionDenied):
        actions.change_role(owners, role="member", acting_user=admin)
    with pytest.raises(PermissionDenied):
        actions.remove_member(owners, acting_user=admin)
    with pytest.raises(PermissionDenied):
        actions.delete_tenant(lab, acting_user=admin)
    with pytest.raises(NotFound):
        actions.add_member(lab, email=new.email, role="member", acting_user=new)
    actions.add_member(lab, email=new.email, role="admin", acting_user=admin)
    actions.change_role(plains, role="admin", acting_user=admin)
    actions.remove_member(plains, acting_user=plain)  # everybody may leave
    assert set(lab.memberships.values_list("user__email", "role")) == {
        ("ada@example.org", "owner"),
        ("admin@example.org", "admin"),
        ("new@example.org", "admin"),
    }


def test_the_last_owner_cannot_go(ada: User, lab: Tenant) -> None:
    grace = member(lab, "grace@example.org", Role.MEMBER)
    mine = Membership.objects.get(user=ada, tenant=lab)
    for attempt in (
        lambda: actions.remove_member(mine, acting_user=ada),
        lambda: actions.change_role(mine, role="member", acting_user=ada),
        lambda: actions.delete_account(ada, acting_user=ada),
    ):
        with pytest.raises(LastOwner):
            attempt()
    actions.change_role(Membership.objects.get(user=grace, tenant=lab), role="owner", acting_user=ada)
    actions.remove_member(mine, acting_user=ada)
    assert list(lab.memberships.values_list("user__email", "role")) == [("grace@example.org", "owner")]


def test_a_personal_tenant_is_for_one(ada: User, grace: User) -> None:
    mine = personal_tenant(ada)
    with pytest.raises(PersonalTenant):
        actions.add_member(mine, email=grace.email, role="member", acting_user=ada)
    with pytest.raises(PersonalTenant):
        actions.create_invitation(mine, role="member", acting_user=ada)
    with pytest.raises(PersonalTenant):
        actions.remove_member(mine.memberships.get(), acting_user=ada)
    with pytest.raises(PersonalTenant):
        actions.delete_tenant(mine, acting_user=ada)


def test_the_number_of_tenants_is_bounded(ada: User) -> None:
    client = browser(ada)
    made = [call(client, "POST", "/tenants", {"name": str(n)})[0] for n in range(MAX_OWNED_TENANTS)]
    assert made[-1] == 409
    assert Membership.objects.filter(user=ada, role=Role.OWNER).count() == MAX_OWNED_TENANTS


def test_invitation_from_the_page_to_the_member(ada: User, lab: Tenant, grace: User) -> None:
    page = browser(ada).post(
        f"/settings/tenants/{lab.pk}/invitations/", {"role": "admin", "email": "grace@example.org"}
    )
    url = page.content.decode().split('id="invitation-url">')[1].split("<")[0]
    path, secret = url.replace("http://testserver", "").split("#")
    stranger = browser()
    assert stranger.get(path).status_code == 200
    client = browser(grace)
    assert client.get(path).status_code == 200  # looking does not use it up
    assert client.post(path, {"secret": secret}).headers["Location"] == "/machines/"
    assert Membership.objects.get(tenant=lab, user=grace).role == "admin"
    assert client.session["tenant"] == str(lab.pk)
    other = User.objects.create_user("other@example.org")
    assert browser(other).post(path, {"secret": secret}).status_code == 404


def test_invitations_that_do_not_work_answer_alike(ada: User, lab: Tenant, grace: User) -> None:
    _, expired = actions.create_invitation(lab, role="member", acting_user=ada)
    Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    revoked_row, revoked = actions.create_invitation(lab, role="member", acting_user=ada)
    actions.revoke_invitation(revoked_row, acting_user=ada)
    dead = actions.create_tenant("Dead", acting_user=ada)
    _, of_dead = actions.create_invitation(dead, role="member", acting_user=ada)
    actions.delete_tenant(dead, acting_user=ada)
    for secret in (expired, revoked, of_dead, "wrong", ""):
        with pytest.raises(LinkNotUsable):
            actions.accept_invitation(secret, acting_user=grace)
    assert not Membership.objects.filter(user=grace, tenant__is_personal=False).exists()


def test_a_member_who_opens_an_invitation_keeps_their_role(ada: User, lab: Tenant) -> None:
    _, secret = actions.create_invitation(lab, role="member", acting_user=ada)
    assert actions.accept_invitation(secret, acting_user=ada).role == "owner"
    new = User.objects.create_user("new@example.org")
    assert actions.accept_invitation(secret, acting_user=new).role == "member"


def test_guests_neither_make_nor_join_tenants(ada: User, lab: Tenant) -> None:
    guest = actions.create_guest()
    _, secret = actions.create_invitation(lab, role="member", acting_user=ada)
    with pytest.raises(GuestNotAllowed):
        actions.create_tenant("x", acting_user=guest)
    with pytest.raises(GuestNotAllowed):
        actions.accept_invitation(secret, acting_user=guest)
    with pytest.raises(NotFound):
        actions.add_member(lab, email=guest.email, role="member", acting_user=ada)


def test_a_deleted_tenant_is_out_of_reach(ada: User, lab: Tenant) -> None:
    client = browser(ada)
    assert call(client, "DELETE", f"/tenants/{lab.pk}")[0] == 204
    assert lab not in tenants_of(ada)
    for method in ("GET", "DELETE"):
        assert call(client, method, f"/tenants/{lab.pk}")[0] == 404
    assert client.get(f"/settings/tenants/{lab.pk}/").status_code == 404
    assert not lab.memberships.exists()
    assert Tenant.objects.filter(pk=lab.pk).exists()  # forks elsewhere may read its chunks


def test_deleting_an_account_takes_its_own_tenants_along(ada: User, lab: Tenant) -> None:
    mine = personal_tenant(ada)
    client = browser(ada)
    assert client.post("/settings/delete-account/", {"confirm": "no"}).status_code == 422
    assert User.objects.filter(pk=ada.pk).exists()
    client.post("/settings/delete-account/", {"confirm": "Delete"})
    assert not User.objects.filter(pk=ada.pk).exists()
    assert client.get("/settings/").status_code == 302
    assert set(Tenant.objects.exclude(deleted_at=None)) == {mine, lab}


def test_the_session_remembers_the_tenant_in_use(ada: User, lab: Tenant) -> None:
    client = browser(ada)
    assert client.post(f"/settings/tenants/{lab.pk}/switch/").headers["Location"] == "/machines/"
    assert client.session["tenant"] == str(lab.pk)
    back = client.post(f"/settings/tenants/{lab.pk}/switch/", {"next": "https://evil.example/"})
    assert back.headers["Location"] == "/machines/"
    assert (
        client.post(
            f"/settings/tenants/{personal_tenant(User.objects.create_user('x@y.z')).pk}/switch/"
        ).status_code
        == 404
    )


def test_the_audit_log_is_for_owners_and_admins(ada: User, lab: Tenant) -> None:
    plain = member(lab, "plain@example.org", Role.MEMBER)
    actions.update_tenant(lab, name="New name", acting_user=ada)
    page = browser(ada).get(f"/settings/tenants/{lab.pk}/audit/")
    assert b"update tenant" in page.content
    assert browser(plain).get(f"/settings/tenants/{lab.pk}/audit/").status_code == 403
    stranger = User.objects.create_user("stranger@example.org")
    assert browser(stranger).get(f"/settings/tenants/{lab.pk}/audit/").status_code == 404


def test_every_change_leaves_one_audit_row(ada: User, lab: Tenant, grace: User) -> None:
    AuditEntry.objects.all().delete()
    joined = actions.add_member(lab, email=grace.email, role="member", acting_user=ada)
    actions.change_role(joined, role="admin", acting_user=ada)
    actions.remove_member(joined, acting_user=ada)
    invitation, _ = actions.create_invitation(lab, role="member", acting_user=ada)
    actions.revoke_invitation(invitation, acting_user=ada)
    with pytest.raises(NotFound):
        actions.update_tenant(lab, name="x", acting_user=grace)
    assert list(AuditEntry.objects.order_by("pk").values_list("action", flat=True)) == [
        "add_member",
        "change_role",
        "remove_member",
        "create_invitation",
        "revoke_invitation",
    ]
    assert set(AuditEntry.objects.values_list("tenant", "acting_user")) == {(lab.pk, ada.pk)}


def test_names_are_shown_as_text(ada: User) -> None:
    name = "<script>alert(1)</script>"
    lab = actions.create_tenant(name, acting_user=ada)
    for path in ("/settings/tenants/", f"/settings/tenants/{lab.pk}/", f"/settings/tenants/{lab.pk}/audit/"):
        page = browser(ada).get(path).content.decode()
        assert name not in page
        assert "&lt;script&gt;" in page


def test_invitations_and_the_audit_log_through_the_api(ada: User, lab: Tenant, grace: User) -> None:
    client, path = browser(ada), f"/tenants/{lab.pk}/invitations"
    status, made = call(client, "POST", path, {"role": "admin", "email": "grace@example.org"})
    assert status == 201
    assert made["url"].startswith("http://testserver/join/#")
    listed = call(client, "GET", path)[1]["items"]
    assert [(row["id"], row["role"], row["email"]) for row in listed] == [
        (made["id"], "admin", "grace@example.org")
    ]
    assert "url" not in listed[0]
    secret = made["url"].partition("#")[2]
    assert call(browser(grace), "POST", "/invitations/accept", {"secret": secret}) == (
        200,
        {"tenant": str(lab.pk), "role": "admin"},
    )
    assert call(client, "GET", path)[1]["items"] == []
    again = User.objects.create_user("hedy@example.org")
    status, answer = call(browser(again), "POST", "/invitations/accept", {"secret": secret})
    assert (status, answer["error"]["code"]) == (404, "link_not_usable")

    _, second = call(client, "POST", path, {"role": "member"})
    assert call(browser(again), "DELETE", f"{path}/{second['id']}")[0] == 404  # not hers to see
    assert call(client, "DELETE", f"{path}/{second['id']}")[0] == 204
    assert call(client, "DELETE", f"{path}/{second['id']}")[0] == 404

    page = call(client, "GET", f"/tenants/{lab.pk}/audit?limit=2")[1]
    assert [row["action"] for row in page["items"]] == ["revoke_invitation", "create_invitation"]
    older = call(client, "GET", f"/tenants/{lab.pk}/audit?limit=2&before={page['next']}")[1]
    assert [(row["action"], row["acting_user"]) for row in older["items"]] == [
        ("accept_invitation", "grace@example.org"),
        ("create_invitation", "ada@example.org"),
    ]


def test_a_member_is_told_neither_invitations_nor_the_audit_log(lab: Tenant) -> None:
    client = browser(member(lab, "hedy@example.org", Role.MEMBER))
    for method, tail in (("GET", "invitations"), ("GET", "audit"), ("POST", "invitations")):
        status, answer = call(client, method, f"/tenants/{lab.pk}/{tail}", {} if method == "POST" else None)
        assert (status, answer["error"]["code"]) == (403, "permission_denied")


def test_a_name_is_changed_through_the_api(ada: User) -> None:
    status, me = call(browser(ada), "PATCH", "/me", {"name": " Ada  King "})
    assert (status, me["name"]) == (200, "Ada King")
    assert call(browser(ada), "PATCH", "/me", {"name": "x" * 121})[1]["error"]["code"] == "invalid_input"
    assert call(browser(ada), "GET", "/me")[1]["name"] == "Ada King"
