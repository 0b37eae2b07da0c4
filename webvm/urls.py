"""Every URL of the service."""

from django.contrib import admin
from django.urls import include, path

from webvm import views
from webvm.api import api

handler404 = "webvm.views.not_found"
handler500 = "webvm.views.server_error"
handler429 = "webvm.views.too_many_requests"

urlpatterns = [
    path("", views.landing, name="landing"),
    path("favicon.svg", views.favicon, name="favicon"),
    path("favicon.ico", views.favicon),  # what the Django admin and old browsers ask for
    path("admin/", admin.site.urls),
    path("", include("webvm.accounts.urls")),  # before allauth's: it guards some of those pages
    path("accounts/", include("allauth.urls")),
    path("", include("sessions.urls")),
    path("", include("storage.urls")),
    path("api/v1/", api.urls),
]
