"""This process's runner: one thread, begun with the Celery worker, and again by any message that finds it gone."""

import logging
import os
import socket
import threading

from django.utils import timezone

from projects.actions import main_job, steps
from projects.workflows.runner import Runner

logger = logging.getLogger(__name__)

STOP_S = 3.0
_lock = threading.Lock()
_running: tuple[int, Runner, threading.Thread] | None = None


def ensure() -> None:
    """Have a runner at work in this process. Idempotent; a forked child gets one of its own.

    One that is held by a function without an end is left to it, so that such a node does not end all runners in turn.
    """
    global _running
    with _lock:
        if _running and _running[0] == os.getpid() and _running[2].is_alive():
            if not _running[1].is_overdue():
                return
            logger.warning("a node holds the runner for longer than it may take: beginning another runner")
            _running[1].stop()
        runner = Runner(f"{socket.gethostname()}:{os.getpid()}", begin_steps=_begin_steps)
        thread = threading.Thread(target=_run, args=[runner], name="workflows", daemon=True)
        _running = (os.getpid(), runner, thread)
        thread.start()


def stop() -> None:
    """End it after the node that it is at, if that takes no longer than a moment; else others take the node back."""
    with _lock:
        running = _running
    if running and running[0] == os.getpid():
        running[1].stop()
        running[2].join(STOP_S)


def _begin_steps() -> None:
    steps.begin_ready(now=timezone.now())
    main_job.begin_ready(now=timezone.now())


def _run(runner: Runner) -> None:
    try:
        runner.run()
    except Exception:  # the thread's edge: the next message begins another
        logger.exception("the runner of workflows ended")
