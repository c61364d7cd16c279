"""Addresses of the pages of demos."""

from django.urls import path

from demos import views

urlpatterns = [path("projects/<uuid:project_id>/demos/", views.project_demos, name="project_demos")]
