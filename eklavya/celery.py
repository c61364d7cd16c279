"""The Celery application. Start a worker with `celery -A eklavya worker -P threads -Q eklavya,runs.<name>`."""

import os

import django
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "eklavya.settings")
django.setup()

app = Celery("eklavya")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
