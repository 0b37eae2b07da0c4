"""Pages of machines, their history and their links."""

from __future__ import annotations

from django.urls import path

from sessions import views
from sessions.archives.views import import_page

urlpatterns = [
    path("machines/", views.machines, name="machines"),
    path("machines/import/", import_page, name="machines-import"),
    path("vms/create/", views.create, name="vm-create"),
    path("vms/<uuid:vm_id>/", views.console, name="vm-console"),
    path("vms/<uuid:vm_id>/rename/", views.rename, name="vm-rename"),
    path("vms/<uuid:vm_id>/autosave/", views.autosave, name="vm-autosave"),
    path("vms/<uuid:vm_id>/delete/", views.delete, name="vm-delete"),
    path("vms/<uuid:vm_id>/restore/", views.restore, name="vm-restore"),
    path("vms/<uuid:vm_id>/history/", views.history, name="vm-history"),
    path("vms/<uuid:vm_id>/resume-from/", views.resume_from, name="vm-resume-from"),
    path("vms/<uuid:vm_id>/links/", views.links, name="vm-links"),
    path("snapshots/<uuid:snapshot_id>/name/", views.name_snapshot, name="snapshot-name"),
    path("snapshots/<uuid:snapshot_id>/delete/", views.delete_snapshot, name="snapshot-delete"),
    path("snapshots/<uuid:snapshot_id>/restore/", views.restore_snapshot, name="snapshot-restore"),
    path("snapshots/<uuid:snapshot_id>/fork/", views.fork_snapshot, name="snapshot-fork"),
    path("vms/<uuid:vm_id>/links/make/", views.make_link, name="vm-share"),
    path("links/<uuid:link_id>/revoke/", views.revoke_link, name="link-revoke"),
    path("s/", views.open_link, name="share-open"),
]
