"""Whether money can be overspent: 200 requests at once against a budget that fits 37, and a gateway that is killed.

python bench/budget.py [--rounds 10] [--seed 1]

The first part sends 200 requests at the same moment, from 50 runs of a project whose limit is 37 times the most that
one can cost; their streams last until all are decided. Exactly 37 may pass. The second part does so again and again,
and kills the gateway (SIGKILL) at a random moment after the first reservation of each round; the seed makes the moments
the same again. All the time spent and held money together must not be above the limit. In the end all that the dead
gateways left behind must expire into settlements, and ledger and budgets agree to the millionth.
"""

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.gateway_only import gateway_only, make_runs  # noqa: E402
from bench.installation import free_ports  # noqa: E402
from bench.programs import program  # noqa: E402
from bench.streams import body  # noqa: E402

AT_ONCE = 200
FITS = 37
RUNS = 50
_EVENTS, _PACE_S = 40, 0.1
_DEADLINE_S = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with ExitStack() as stack:
        var = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eklavya-bench-")))
        [port] = free_ports(1)
        model = f"http://127.0.0.1:{port}"
        command = [sys.executable, str(ROOT / "bench" / "streams.py"), "model", "--port", str(port)]
        stack.enter_context(program(command, url=model, log=var / "model.log"))
        address = stack.enter_context(gateway_only(var, model, parts=("postgres", "valkey", "migrations")))
        with _Gateway(var, address) as gateway:
            found = _round(gateway, after_s=None)
            found.show("no kill")
            if found.statuses[200] != FITS:
                raise SystemExit(f"{found.statuses[200]} requests passed, not {FITS}")
        for number in range(1, options.rounds + 1):
            # Half of them while money is being held, the others at any time.
            after_s = chance.uniform(0, chance.choice([0.05, _EVENTS * _PACE_S + 1]))
            with _Gateway(var, address) as gateway:
                _round(gateway, after_s=after_s).show(f"round {number}, killed after {after_s:.2f} s")
        _settle_all()


class _Gateway:
    """A gateway of its own process, started as `manage.py run` starts it."""

    def __init__(self, var: Path, address: str) -> None:
        self.url = f"{address}/models/anthropic/v1/messages"
        self._address = address
        self._log = var / "gateway.log"

    def __enter__(self) -> "_Gateway":
        options = ["--host", "127.0.0.1", "--port", str(urlsplit(self._address).port), "--log-level", "warning"]
        command = [sys.executable, "-m", "uvicorn", "eklavya.gateway_asgi:application", *options]
        with open(self._log, "a") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ.copy())
        _until(lambda: self.is_dead or self._is_ready(), "the gateway did not start")
        if self.is_dead:
            raise SystemExit(f"the gateway did not start: {self._log.read_text()[-2000:]}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)

    @property
    def is_dead(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)

    def _is_ready(self) -> bool:
        return asyncio.run(_ask(self.url, "none")) == 401


@dataclass
class _Found:
    """What a round came to."""

    statuses: Counter[int]
    most: Decimal
    limit: Decimal
    deadlocks: int
    left_open: int

    def show(self, title: str) -> None:
        overshoot = max(self.most - self.limit, Decimal(0))
        answers = ", ".join(f"{count} x {status or 'cut'}" for status, count in sorted(self.statuses.items()))
        sys.stdout.write(
            f"{title}: {answers}; at most {self.most} of {self.limit} spent or held, overshoot {overshoot};"
            f" {self.left_open} left open, {self.deadlocks} deadlocks\n"
        )
        sys.stdout.flush()
        if overshoot or self.deadlocks:
            raise SystemExit("the budget does not hold")


def _round(gateway: _Gateway, *, after_s: float | None) -> _Found:
    from billing.models import Budget, Reservation

    limit = FITS * _worst_case()
    keys = make_runs(RUNS, limit=Decimal(90_000), project_limit=limit, per_project=RUNS)
    budget = Budget.objects.filter(scope="project").latest("created_at")
    before = _deadlocks()
    with _Watch(budget.pk) as watch:
        if after_s is not None:
            threading.Thread(target=_kill_later, args=(gateway, watch, after_s)).start()
        statuses = Counter(asyncio.run(_crowd(gateway.url, keys)))
        if after_s is None:
            _until(lambda: not Reservation.objects.filter(status="open").exists(), "a reservation stays open")
        else:
            _until(lambda: gateway.is_dead, "the gateway was not killed")
    left = Reservation.objects.filter(status="open", project_id=budget.project_id).count()
    return _Found(statuses, watch.most, limit, _deadlocks() - before, left)


def _kill_later(gateway: "_Gateway", watch: "_Watch", after_s: float) -> None:
    watch.has_begun.wait(_DEADLINE_S)
    time.sleep(after_s)
    gateway.kill()


async def _crowd(url: str, keys: list[str]) -> list[int]:
    asking = (_ask(url, keys[number % len(keys)]) for number in range(AT_ONCE))
    return list(await asyncio.wait_for(asyncio.gather(*asking), _DEADLINE_S))


async def _ask(url: str, key: str) -> int:
    """Send one request and read its answer. Return its status, 0 where it was cut or never came."""
    parts, sent = urlsplit(url), body(_EVENTS, _PACE_S)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\nx-api-key: {key}\r\n"
        f"content-length: {len(sent)}\r\nconnection: close\r\n\r\n"
    )
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(head.encode() + sent)
        answer = await reader.read()
        writer.close()
    except OSError:
        return 0
    status = int(answer.split(b" ", 2)[1]) if answer else 0
    return 0 if status == 200 and not answer.endswith(b"0\r\n\r\n") else status


class _Watch:
    """Looks at a budget all the time, from a thread."""

    def __init__(self, budget_id: Any) -> None:
        self.most = Decimal(0)
        self.has_begun = threading.Event()
        self._budget_id = budget_id
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        from django.db import connection

        from billing.models import Budget

        while not self._over.is_set():
            budget = Budget.objects.get(pk=self._budget_id)
            self.most = max(self.most, budget.settled + budget.reserved)
            if self.most:
                self.has_begun.set()
            self._over.wait(0.02)
        connection.close()


def _worst_case() -> Decimal:
    from django.utils import timezone

    from agents.gateway.model_request import read_request
    from billing.prices import worst_case
    from billing.queries import price_for

    asked = read_request(body(_EVENTS, _PACE_S))
    price = price_for(asked.model, timezone.now().date())
    return worst_case(price, input_tokens=asked.input_bound, max_tokens=asked.max_tokens)


def _deadlocks() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        count: int = cursor.fetchone()[0]
        return count


def _settle_all() -> None:
    """Let the time pass after which nobody closes a reservation any more, and compare the books."""
    from django.db.models import Sum
    from django.utils import timezone

    from billing.actions import RESERVATION_LIFETIME, expire_reservations
    from billing.models import Budget, LedgerEntry, Reservation

    left, expired = Reservation.objects.filter(status="open").count(), 0
    while count := expire_reservations(timezone.now() + RESERVATION_LIFETIME + timedelta(minutes=1)):
        expired += count
    still = Reservation.objects.filter(status="open").count()
    for budget in Budget.objects.filter(scope="project"):
        lines = LedgerEntry.objects.filter(project_id=budget.project_id, kind__in=["settle", "adjust"])
        booked = lines.aggregate(sum=Sum("amount"))["sum"] or Decimal(0)
        if budget.reserved or budget.settled > budget.limit or booked != budget.settled:
            raise SystemExit(f"{budget}: {budget.reserved} are held, and the ledger says {booked}")
    closings = LedgerEntry.objects.filter(kind__in=["settle", "release"]).count()
    reserved = LedgerEntry.objects.filter(kind="reserve").count()
    sys.stdout.write(
        f"{left} reservations were left by dead gateways, {expired} expired into settlements, {still} stay open;"
        f" {reserved} reserve lines, {closings} settle or release lines; all budgets agree with the ledger\n"
    )
    if still or left != expired or reserved != closings:
        raise SystemExit("money is held for ever, or lost")


def _until(condition: Any, problem: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(problem)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
