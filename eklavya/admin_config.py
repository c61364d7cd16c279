from django.contrib.admin.apps import AdminConfig


class PortalAdminConfig(AdminConfig):
    """Django's admin with our site. A module of its own: the site itself needs the apps to be loaded."""

    default_site = "eklavya.admin_site.PortalAdminSite"
