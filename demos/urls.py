"""Addresses of the pages of demos."""

from django.urls import path

from demos import views

urlpatterns = [
    path("projects/<uuid:project_id>/demos/", views.project_demos, name="project_demos"),
    path("projects/<uuid:project_id>/demos/<int:number>/decide/", views.demo_decide, name="demo_decide"),
    path("projects/<uuid:project_id>/demos/<int:number>/extend/", views.demo_extend, name="demo_extend"),
    path("projects/<uuid:project_id>/demos/<int:number>/close/", views.demo_close, name="demo_close"),
    path("projects/<uuid:project_id>/demos/<int:number>/readdress/", views.demo_readdress, name="demo_readdress"),
    path("projects/<uuid:project_id>/demos/<int:number>/remark/", views.demo_remark, name="demo_remark"),
]
