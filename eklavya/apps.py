from django.apps import AppConfig


class EklavyaConfig(AppConfig):
    name = "eklavya"
