"""What Celery's signals set off."""

import threading

import pytest

from eklavya import wiring


def test_a_worker_retires_once_and_not_in_the_signal_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    retired: list[threading.Thread] = []
    monkeypatch.setattr(wiring, "_retiring", threading.Lock())
    monkeypatch.setattr(wiring, "retire_worker", lambda: retired.append(threading.current_thread()))

    wiring._end_worker(sig="SIGTERM")
    wiring._end_worker(sig="SIGTERM")

    for thread in threading.enumerate():
        if thread.name == "retirement":
            thread.join(timeout=10)
    assert len(retired) == 1
    assert retired[0] is not threading.main_thread()
