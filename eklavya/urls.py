"""Addresses of the portal. Each app brings its own."""

from django.contrib import admin
from django.urls import include, path

from eklavya import health, people, views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("login/link/<str:token>/", views.login_link, name="login_link"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("styleguide/", views.styleguide, name="styleguide"),
    path("settings/", views.settings_start, name="settings"),
    path("settings/people/", people.people, name="people"),
    path("settings/people/<int:user_id>/role/", people.person_role, name="person_role"),
    path("settings/people/<int:user_id>/off/", people.person_off, name="person_off"),
    path("settings/people/<int:user_id>/on/", people.person_on, name="person_on"),
    path("settings/people/<int:user_id>/unlock/", people.person_unlock, name="person_unlock"),
    path("settings/keys/", people.api_keys, name="api_keys"),
    path("settings/keys/<int:key_id>/revoke/", people.api_key_revoke, name="api_key_revoke"),
    path("api/", include("eklavya.api.urls")),
    path("", include("accounts.urls")),
    path("", include("projects.urls")),
    path("", include("agents.urls")),
    path("", include("demos.urls")),
    path("", include("billing.urls")),
]
