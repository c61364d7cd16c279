"""The Celery application. A worker takes light work and the runs of its own machine's queue:

`celery -A eklavya worker` (threads: a supervised run waits far more than it computes, and hundreds cost little memory)
"""

import os

import django
from celery import Celery, signals
from django.conf import settings
from kombu import Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "eklavya.settings")
django.setup()

from agents.tasks import announce_worker, retire_worker  # noqa: E402

app = Celery("eklavya")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.task_queues = [Queue(settings.CELERY_TASK_DEFAULT_QUEUE), Queue(settings.EKLAVYA_WORKER_QUEUE)]
app.autodiscover_tasks()


# Celery's own signals: its only way to tell a program that a worker begins and ends.
@signals.worker_ready.connect(dispatch_uid="announce_worker")
def _ready(**_: object) -> None:
    announce_worker()


@signals.worker_shutting_down.connect(dispatch_uid="retire_worker")
def _stopping(**_: object) -> None:
    retire_worker()
