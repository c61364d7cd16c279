"""What threads, as gateways would, do to the same budgets at the same time."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import pytest
from django.db import connection
from django.db.models import Sum

from billing import actions, queries
from billing.errors import OverBudget
from billing.models import Budget, LedgerEntry, Price
from billing.prices import Usage
from projects.ids import new_id
from projects.models import Project

pytestmark = pytest.mark.django_db(transaction=True)

THREADS = 8
REQUESTS = 8


class Gateway:
    """Sends requests for one run until they are refused or used up."""

    def __init__(self, project: Project, run_id: UUID, price: Price, now: datetime) -> None:
        self.project, self.run_id, self.price, self.now = project, run_id, price, now

    def work(self, seed: int, start: threading.Barrier) -> None:
        dice = random.Random(seed)
        start.wait(timeout=30)
        try:
            for _ in range(REQUESTS):
                self._request(dice)
        finally:
            connection.close()

    def _request(self, dice: random.Random) -> None:
        tokens = dice.randrange(1, 60_000)
        try:
            reservation = actions.reserve(
                run_id=self.run_id,
                agent_id=UUID(int=7),
                project_id=self.project.pk,
                model="claude-sonnet-4-5",
                amount=Decimal(tokens) * 15 / 1_000_000,
                price=self.price,
                now=self.now,
            )
        except OverBudget:
            return
        match dice.randrange(4):
            case 0:
                actions.release(reservation.pk, now=self.now)
            case 1:
                actions.settle(reservation.pk, Usage(output_tokens=tokens), now=self.now)
            case _:
                actions.settle(reservation.pk, Usage(output_tokens=dice.randrange(tokens)), now=self.now)


def spent_by_ledger(**scope: UUID) -> Decimal:
    lines = LedgerEntry.objects.filter(kind__in=queries.SPENT, **scope)
    return lines.aggregate(total=Sum("amount"))["total"] or Decimal(0)


def test_concurrent_requests_never_exceed_a_limit_and_the_ledger_agrees(
    project: Project, price: Price, now: datetime
) -> None:
    runs = [new_id() for _ in range(2)]
    for run_id in runs:
        actions.open_budgets(project, run_id=run_id, run_limit=Decimal(8), now=now)
    start = threading.Barrier(THREADS)
    gateways = [Gateway(project, runs[index % 2], price, now) for index in range(THREADS)]

    with ThreadPoolExecutor(THREADS) as pool:
        for result in [pool.submit(gateway.work, seed, start) for seed, gateway in enumerate(gateways)]:
            result.result(timeout=120)

    for budget in Budget.objects.all():
        scope = {"account": {}, "project": {"project_id": budget.scope_id}, "run": {"run_id": budget.scope_id}}
        assert budget.reserved == 0
        assert budget.settled == spent_by_ledger(**scope[budget.scope])
        assert 0 < budget.settled <= budget.limit


def test_concurrent_reserves_fill_a_limit_exactly(project: Project, price: Price, now: datetime) -> None:
    run_id = new_id()
    actions.open_budgets(project, run_id=run_id, run_limit=Decimal(1), now=now)
    start = threading.Barrier(THREADS)

    def reserve() -> int:
        start.wait(timeout=30)
        done = 0
        try:
            for _ in range(REQUESTS):
                done += reserve_one()
        finally:
            connection.close()
        return done

    def reserve_one() -> bool:
        try:
            actions.reserve(
                run_id=run_id,
                agent_id=UUID(int=7),
                project_id=project.pk,
                model="claude-sonnet-4-5",
                amount=Decimal("0.04"),
                price=price,
                now=now,
            )
        except OverBudget:
            return False
        return True

    with ThreadPoolExecutor(THREADS) as pool:
        done = sum(result.result(timeout=120) for result in [pool.submit(reserve) for _ in range(THREADS)])

    assert done == 25 < THREADS * REQUESTS
    assert Budget.objects.get(scope="run").reserved == 1
