"""Pages of accounts and tenants."""

from django.urls import path

from webvm.accounts.views import doors

urlpatterns = [
    path("sign-in-link/", doors.sign_in_link, name="sign_in_link"),
    path("join/", doors.join, name="join"),
    path("keep/", doors.keep, name="keep_guest"),
]
