"""Pages of machines, their history and their links. Every form works without a script: it posts, the view
calls one action, and the page that follows says what happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from sessions import lists
from sessions.access import get_vm
from sessions.actions import links as link_actions
from sessions.actions import snapshots, vms
from sessions.actions.leases import held_by
from sessions.addresses import link_url, secret_of
from sessions.models import VM, Snapshot
from sessions.opening import describe_vm
from sessions.paging import page_of
from sessions.schemas import LinkState, link_state, thumbnail_url
from webvm.accounts.access import SESSION_KEY, current_tenant, signed_in, tenants_of
from webvm.accounts.actions.tenants import undo_time
from webvm.accounts.limits import limit
from webvm.accounts.models import User
from webvm.accounts.signin import sign_in
from webvm.errors import InvalidInput, WebVMError

View = Callable[..., HttpResponse]


def action(view: View) -> View:
    """A view that a form posts to. A refusal is a message on the page that the form was on (its field
    `next`).
    """

    @login_required
    @require_POST
    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except WebVMError as error:
            if error.status == 404:  # what does not exist has no page to go back to
                raise
            messages.error(request, error.text)
            return redirect(next_page(request, reverse("machines")))

    return wrapped


def next_page(request: HttpRequest, default: str) -> str:
    """Where a form wants to go afterwards; only within this site."""
    wanted = request.POST.get("next", "")
    return wanted if url_has_allowed_host_and_scheme(wanted, allowed_hosts=None) else default


@login_required
@require_safe
@never_cache
def machines(request: HttpRequest) -> HttpResponse:
    """My machines: those of the current tenant, or the deleted ones (`?deleted=1`)."""
    user = signed_in(request)
    tenant = current_tenant(request)
    if "tenant" in request.GET:  # remembered: the catalogue makes machines there too
        request.session[SESSION_KEY] = str(tenant.pk)
    deleted = request.GET.get("deleted") == "1"
    undo = optional_uuid(request.GET.get("undo"))
    page = page_of(lists.listed_vms([tenant], deleted=deleted), "last_used_at", request.GET.get("after"))
    context = {
        "tenant": tenant,
        "tenants": tenants_of(user),
        "deleted": deleted,
        "undo_days": undo_time().days,
        "vms": [{"vm": vm, "picture": thumbnail_url(vm.head), "holder": held_by(vm)} for vm in page.items],
        "next": page.next,
        "first_page": "after" not in request.GET,
        "has_deleted": not deleted and lists.listed_vms([tenant], deleted=True).exists(),
        "undo": None if undo is None else lists.listed_vms([tenant], deleted=True).filter(pk=undo).first(),
    }
    return render(request, "sessions/machines.html", context)


@action
def create(request: HttpRequest) -> HttpResponse:
    """`image=<slug>` (and `name`): straight on to the console, so that the prompt is one click away."""
    vm = vms.create_vm(
        request.POST.get("image", ""),
        acting_user=signed_in(request),
        tenant=current_tenant(request),
        name=request.POST.get("name", ""),
    )
    return redirect("vm-console", vm.pk)


@login_required
@require_safe
@never_cache
def console(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    """The running machine. All that its script needs to begin is in the context; the rest it asks the API."""
    user = signed_in(request)
    vm = get_vm(user, vm_id)
    context = {
        "vm": vm,
        "descriptor": describe_vm(user, vm_id).model_dump(mode="json"),
        "descriptor_url": reverse("api:open_vm", args=[vm.pk]),
        "history_url": reverse("vm-history", args=[vm.pk]),
        "links_url": reverse("vm-links", args=[vm.pk]),
        "machines_url": reverse("machines"),
    }
    return render(request, "sessions/console.html", context)


@action
def rename(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    vm = vms.rename_vm(vm_id, request.POST.get("name", ""), acting_user=signed_in(request))
    messages.success(request, f"Renamed to “{vm.name}”.")
    return redirect(next_page(request, reverse("machines")))


@action
def autosave(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    """`seconds=<number>`."""
    seconds = request.POST.get("seconds", "")
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) < 6):
        raise InvalidInput("Give a number of seconds, or 0 for never.", field="seconds")
    vm = vms.set_autosave(vm_id, int(seconds), acting_user=signed_in(request))
    every = f"every {vm.autosave_seconds} seconds" if vm.autosave_seconds else "never"
    messages.success(request, f"“{vm.name}” saves by itself {every}.")
    return redirect(next_page(request, reverse("vm-history", args=[vm_id])))


@action
def delete(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    vm = vms.delete_vm(vm_id, acting_user=signed_in(request))
    messages.success(request, f"“{vm.name}” is deleted. It can be brought back for {undo_time().days} days.")
    return redirect(f"{reverse('machines')}?undo={vm.pk}")


@action
def restore(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    vm = vms.restore_vm(vm_id, acting_user=signed_in(request))
    messages.success(request, f"“{vm.name}” is back.")
    return redirect("machines")


@login_required
@require_safe
@never_cache
def history(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    """The chain of snapshots, newest first, or the deleted ones (`?deleted=1`)."""
    vm = get_vm(signed_in(request), vm_id)
    deleted = request.GET.get("deleted") == "1"
    undo = optional_uuid(request.GET.get("undo"))
    page = page_of(lists.listed_snapshots(vm, deleted=deleted), "created_at", request.GET.get("after"))
    context = {
        "vm": vm,
        "holder": held_by(vm),
        "deleted": deleted,
        "undo_days": undo_time().days,
        "snapshots": history_rows(vm, page.items),
        "next": page.next,
        "has_deleted": not deleted and lists.listed_snapshots(vm, deleted=True).exists(),
        "undo": None if undo is None else lists.listed_snapshots(vm, deleted=True).filter(pk=undo).first(),
    }
    return render(request, "sessions/history.html", context)


def history_rows(vm: VM, chain: Sequence[Snapshot]) -> list[dict[str, Any]]:
    """What the page shows of each snapshot. `branches_from` is set where the one below is not the parent:
    somebody resumed from an older snapshot there."""
    by_id = {snapshot.pk: snapshot for snapshot in chain}
    rows: list[dict[str, Any]] = []
    for snapshot, below in zip(chain, [*chain[1:], None], strict=False):
        parent = by_id.get(snapshot.parent_id) if snapshot.parent_id else None
        rows.append(
            {
                "snapshot": snapshot,
                "title": snapshot.title,
                "picture": thumbnail_url(snapshot),
                "is_head": snapshot.pk == vm.head_id,
                "branches_from": parent if parent is not below else None,
            }
        )
    return rows


@action
def resume_from(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    """Move the head and open the machine there. An empty `snapshot` is the image as it was published."""
    wanted = request.POST.get("snapshot", "")
    snapshots.resume_from(vm_id, uuid_of(wanted) if wanted else None, acting_user=signed_in(request))
    return redirect("vm-console", vm_id)


@action
def name_snapshot(request: HttpRequest, snapshot_id: UUID) -> HttpResponse:
    snapshot = snapshots.name_snapshot(
        snapshot_id, request.POST.get("name", ""), acting_user=signed_in(request)
    )
    return redirect("vm-history", snapshot.vm_id)


@action
def delete_snapshot(request: HttpRequest, snapshot_id: UUID) -> HttpResponse:
    snapshot = snapshots.delete_snapshot(snapshot_id, acting_user=signed_in(request))
    messages.success(request, f"The snapshot is deleted. It can be brought back for {undo_time().days} days.")
    return redirect(f"{reverse('vm-history', args=[snapshot.vm_id])}?undo={snapshot.pk}")


@action
def restore_snapshot(request: HttpRequest, snapshot_id: UUID) -> HttpResponse:
    snapshot = snapshots.restore_snapshot(snapshot_id, acting_user=signed_in(request))
    messages.success(request, "The snapshot is back.")
    return redirect("vm-history", snapshot.vm_id)


@action
def fork_snapshot(request: HttpRequest, snapshot_id: UUID) -> HttpResponse:
    vm = snapshots.fork_snapshot(
        snapshot_id,
        acting_user=signed_in(request),
        tenant=current_tenant(request),
        name=request.POST.get("name", ""),
    )
    messages.success(request, f"“{vm.name}” is a machine of its own now. The original stays as it is.")
    return redirect("vm-console", vm.pk)


@login_required
@require_safe
@never_cache
def links(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    return links_page(request, get_vm(signed_in(request), vm_id))


@action
def make_link(request: HttpRequest, vm_id: UUID) -> HttpResponse:
    """The page that follows shows the link's address, this one time."""
    vm = get_vm(signed_in(request), vm_id)
    new = link_actions.make_link(
        uuid_of(request.POST.get("snapshot", "")),
        acting_user=signed_in(request),
        expires_in=link_actions.lifetime(number_of(request, "expires_in")),
        max_uses=number_of(request, "max_uses"),
    )
    return links_page(request, vm, link_url(request, new.secret))


@action
def revoke_link(request: HttpRequest, link_id: UUID) -> HttpResponse:
    link = link_actions.revoke_link(link_id, acting_user=signed_in(request))
    messages.success(request, "The link is revoked. Copies made with it stay.")
    return redirect("vm-links", link.snapshot.vm_id)


def links_page(request: HttpRequest, vm: VM, new_url: str | None = None) -> HttpResponse:
    page = page_of(lists.listed_links(vm), "created_at", request.GET.get("after"))
    now = timezone.now()
    labels: dict[LinkState, str] = {
        "active": "Active",
        "expired": "Expired",
        "used_up": "Used up",
        "revoked": "Revoked",
    }
    rows = [(link, link_state(link, now)) for link in page.items]
    context = {
        "vm": vm,
        "new_url": new_url,
        "links": [
            {"link": link, "active": state == "active", "state": labels[state]} for link, state in rows
        ],
        "next": page.next,
        "snapshots": lists.listed_snapshots(vm).order_by("-created_at")[:50],
        "chosen": optional_uuid(request.GET.get("snapshot")) or vm.head_id,
    }
    return render(request, "sessions/links.html", context)


@never_cache
@sensitive_post_parameters("secret")
@require_http_methods(["GET", "POST"])
def open_link(request: HttpRequest) -> HttpResponse:
    """`/s/#<secret>`: the browser keeps the fragment to itself, so this page learns the secret only when it
    is posted: by its script, or pasted by hand where there is none."""
    error: WebVMError | None = None
    if request.method == "POST":
        secret = secret_of(request.POST.get("secret", ""))
        try:
            if isinstance(request.user, User):
                vm = link_actions.exchange_link(secret, acting_user=request.user)
            else:
                limit(request, "guest")
                guest, vm = link_actions.exchange_link_as_guest(secret)
                sign_in(request, guest)
            return redirect("vm-console", vm.pk)
        except WebVMError as problem:
            error = problem
    return render(request, "sessions/open_link.html", {"error": error}, status=error.status if error else 200)


def optional_uuid(text: str | None) -> UUID | None:
    """None for what is no UUID, in addresses that people may have mangled."""
    try:
        return UUID(text or "")
    except ValueError:
        return None


def uuid_of(text: str) -> UUID:
    """Raises `InvalidInput`."""
    found = optional_uuid(text)
    if found is None:
        raise InvalidInput("Choose a snapshot.", field="snapshot")
    return found


def number_of(request: HttpRequest, field: str) -> int | None:
    """A whole number from a form; None when it is empty. Raises `InvalidInput`."""
    text = request.POST.get(field, "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise InvalidInput("Enter a whole number.", field=field)
    return int(text)
