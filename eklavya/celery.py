"""The Celery application. A worker takes light work and the runs of its own machine's queue:

`celery -A eklavya worker` (threads: a supervised run waits far more than it computes, and hundreds cost little memory)

Where that is too much for one process, EKLAVYA_WORKER=runs and EKLAVYA_WORKER=light (processes) share it. ADR 10.
"""

import os
from typing import Any

from celery import Celery
from kombu.transport.redis import QoS

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "eklavya.settings")

_restore_unacked: Any = QoS.restore_unacked


def _restore_if_connected(qos: Any, client: Any = None) -> None:
    """Give back the messages that were taken and not begun, unless the way to the broker is gone.

    kombu then raises an AttributeError, at which a worker ends that only had to connect anew. Messages are hints: the
    sweep sends what they asked for.
    """
    if client is not None or qos.channel.connection.client is not None:
        _restore_unacked(qos, client)


QoS.restore_unacked = _restore_if_connected  # type: ignore[method-assign]

app = Celery("eklavya")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
