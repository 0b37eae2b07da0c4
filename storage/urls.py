"""Pages of images and of publishing."""

from __future__ import annotations

from django.urls import path

from storage import views

urlpatterns = [
    path("images/", views.images, name="images"),
    path("admin-images/", views.admin_images, name="admin-images"),
    path("admin-images/publish/", views.publish, name="admin-publish"),
    path("admin-images/jobs/<uuid:job_id>/", views.job, name="admin-job"),
    path("admin-images/jobs/<uuid:job_id>/cancel/", views.cancel_job, name="admin-job-cancel"),
    path("admin-images/jobs/<uuid:job_id>/retry/", views.retry_job, name="admin-job-retry"),
    path(
        "admin-images/versions/<uuid:version_id>/withdraw/", views.withdraw_version, name="version-withdraw"
    ),
    path("admin-images/versions/<uuid:version_id>/restore/", views.restore_version, name="version-restore"),
]
