"""The Celery application. A worker takes light work and the runs of its own machine's queue:

`celery -A eklavya worker` (threads: a supervised run waits far more than it computes, and hundreds cost little memory)

Where that is too much for one process, EKLAVYA_WORKER=runs and EKLAVYA_WORKER=light (processes) share it. ADR 10.
"""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "eklavya.settings")

app = Celery("eklavya")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
