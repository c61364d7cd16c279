"""Addresses of the pages of money."""

from django.urls import path

from billing import views

urlpatterns = [
    path("projects/<uuid:project_id>/money/", views.project_money, name="project_money"),
    path("projects/<uuid:project_id>/limit/", views.project_limit, name="project_limit"),
    path("budget/", views.budget, name="budget"),
    path("budget/<uuid:budget_id>/limit/", views.budget_limit, name="budget_limit"),
]
