"""The work of a Celery task: make deliveries of new events, send what is due, write down what came of it.

One pump runs per process, whoever asks for it; several processes share the rows by SKIP LOCKED. It ends when nothing is
due and nothing on its way, or when its time is over. What a killed process had on its way is due again after a while.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from datetime import datetime

from projects.actions import webhook_deliveries as deliveries
from projects.errors import SecretUnreadable
from projects.models import AuditLog, WebhookDelivery
from projects.webhooks.answers import Answer, failed
from projects.webhooks.messages import compose
from projects.webhooks.sending import Sender

logger = logging.getLogger(__name__)
Clock = Callable[[], datetime]
OnTheirWay = dict["Future[Answer]", WebhookDelivery]

MOST_AT_ONCE = 64
RUNS_FOR_S = 60.0
# So often it looks for what became due meanwhile.
_LOOKS_EVERY_S = 0.5

# A worker's log has the kind of error.
_UNRECORDED = Answer("broken", "What came of it could not be recorded. The worker's log has the kind of error.")

_running = threading.Lock()
_asked = threading.Event()


def pump(sender: Sender, clock: Clock) -> None:
    """Send what is due, unless this process does already: then that one looks once more before it ends."""
    _asked.set()
    while _asked.is_set() and _running.acquire(blocking=False):
        try:
            _asked.clear()
            _run(sender, clock, until=time.monotonic() + RUNS_FOR_S)
        finally:
            _running.release()


def _run(sender: Sender, clock: Clock, *, until: float) -> None:
    on_their_way: OnTheirWay = {}
    while True:
        if time.monotonic() < until:
            deliveries.queue_events(now=clock())
            on_their_way |= _begin(sender, on_their_way, now=clock())
        if not on_their_way:
            return
        done, _ = wait(on_their_way, timeout=_LOOKS_EVERY_S, return_when=FIRST_COMPLETED)
        if done:
            _record([(on_their_way.pop(future), future.result()) for future in done], now=clock())


def _record(results: Sequence[tuple[WebhookDelivery, Answer]], *, now: datetime) -> None:
    """Write down results in one transaction; when that fails, each in its own, so that one takes no other along.

    Of one that fails alone only that is written: it is tried again, and given up, as any other.
    """
    try:
        deliveries.record(results, now=now)
    except Exception as error:  # whatever it is: the others arrived, and would be sent a second time
        # Not the error's text, which may quote the receiver's answer.
        logger.error("%s results of webhooks cannot be recorded: %s", len(results), type(error).__name__)
        if len(results) > 1:
            for result in results:
                _record([result], now=now)
        elif results[0][1] != _UNRECORDED:
            _record([(results[0][0], _UNRECORDED)], now=now)


def _begin(sender: Sender, on_their_way: OnTheirWay, *, now: datetime) -> OnTheirWay:
    busy = Counter(delivery.endpoint_id for delivery in on_their_way.values())
    claimed = deliveries.claim_due(room=MOST_AT_ONCE - len(on_their_way), busy=busy, now=now)
    events = _events_of(claimed)
    begun: OnTheirWay = {}
    for delivery in claimed:
        try:
            message = compose(delivery, events.get(delivery.event_id), now=now)
        except SecretUnreadable as error:
            _record([(delivery, failed(error))], now=now)
        else:
            begun[sender.send(message)] = delivery
    return begun


def _events_of(claimed: Iterable[WebhookDelivery]) -> dict[object, AuditLog]:
    return dict(AuditLog.objects.in_bulk({delivery.event_id for delivery in claimed}))
