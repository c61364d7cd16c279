"""Addresses of the portal. Each app brings its own."""

from django.contrib import admin
from django.urls import include, path

from eklavya import health, views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("login/link/<str:token>/", views.login_link, name="login_link"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("styleguide/", views.styleguide, name="styleguide"),
    path("api/", include("eklavya.api.urls")),
    path("", include("accounts.urls")),
    path("", include("projects.urls")),
    path("", include("agents.urls")),
    path("", include("demos.urls")),
    path("", include("billing.urls")),
]
