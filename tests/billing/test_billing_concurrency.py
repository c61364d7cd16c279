"""What threads, as gateways would, do to the same budgets at the same time, whose levels they share in part."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import cycle, islice
from uuid import UUID

import pytest
from django.db import connection
from django.db.models import Sum

from billing import actions, queries
from billing.errors import OverBudget
from billing.models import Budget, LedgerEntry, Price, Reservation
from billing.prices import Usage
from projects.ids import new_id
from projects.models import Project

pytestmark = pytest.mark.django_db(transaction=True)

THREADS = 8
REQUESTS = 8
LEVELS = Budget.Scope.values


@dataclass(frozen=True)
class Line:
    """Sends requests for one run until they are refused or used up."""

    project: Project
    agent_id: UUID
    run_id: UUID
    price: Price
    now: datetime

    def reserve(self, amount: Decimal) -> Reservation:
        return actions.reserve(
            run_id=self.run_id,
            agent_id=self.agent_id,
            project_id=self.project.pk,
            model="claude-sonnet-4-5",
            amount=amount,
            price=self.price,
            now=self.now,
        )

    def request(self, dice: random.Random) -> None:
        """Take a request of a random size to one of the ways it can end."""
        tokens = dice.randrange(1, 60_000)
        try:
            reservation = self.reserve(Decimal(tokens) * 15 / 1_000_000)
        except OverBudget:
            return
        match dice.randrange(4):
            case 0:
                actions.release(reservation.pk, now=self.now)
            case 1:
                actions.settle(reservation.pk, Usage(output_tokens=tokens), now=self.now)
            case _:
                actions.settle(reservation.pk, Usage(output_tokens=dice.randrange(tokens)), now=self.now)


@pytest.fixture
def house(db: None, price: Price, now: datetime) -> list[Line]:
    """Six runs of four agents, in three projects of two clients."""
    projects = [
        Project.objects.create(name=f"P{n}", client_name=f"C{n // 2}", description="x", budget_limit=90, created_at=now)
        for n in range(3)
    ]
    agents = [(project, new_id()) for project in [*projects, projects[0]]]
    lines = [Line(project, agent, new_id(), price, now) for project, agent in islice(cycle(agents), 6)]
    for line in lines:
        actions.open_budgets(
            [actions.Opening(line.project, run_id=line.run_id, run_limit=Decimal(90), agent_id=line.agent_id)], now=now
        )
    return lines


def at_once(work: Callable[[int], int]) -> int:
    """Have threads do it at the same time, and return the sum of what they say."""
    start = threading.Barrier(THREADS)

    def one(number: int) -> int:
        start.wait(timeout=30)
        try:
            return work(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(result.result(timeout=120) for result in [pool.submit(one, n) for n in range(THREADS)])


def spent_by_ledger(budget: Budget) -> Decimal:
    """What the lines of a budget's level add up to."""
    lines = LedgerEntry.objects.filter(kind__in=queries.SPENT)
    if budget.scope != Budget.Scope.ACCOUNT:
        lines = lines.filter(**{f"{budget.scope}_id": budget.scope_id})
    return lines.aggregate(total=Sum("amount"))["total"] or Decimal(0)


def test_requests_of_many_runs_never_exceed_a_limit_and_the_ledger_agrees(house: list[Line]) -> None:
    for scope, limit in zip(LEVELS, [20, 11, 8, 5, 4], strict=True):
        Budget.objects.filter(scope=scope).update(limit=limit)

    def work(seed: int) -> int:
        dice = random.Random(seed)
        for _ in range(3 * REQUESTS):
            dice.choice(house).request(dice)
        return 0

    at_once(work)

    assert {budget.scope for budget in Budget.objects.all()} == set(LEVELS)
    for budget in Budget.objects.all():
        assert budget.reserved == 0
        assert budget.limit is not None
        assert budget.settled == spent_by_ledger(budget) <= budget.limit
    assert Budget.objects.get(scope="account").settled > 10


@pytest.mark.parametrize("scope", LEVELS)
def test_last_cent_of_each_level_is_given_once(house: list[Line], scope: str) -> None:
    """All runs below one budget want it at the same time; others must not be in their way."""
    first = house[0]
    ids = {budget.scope: budget for budget in queries.budgets_of(first.project.pk, first.run_id, first.agent_id)}
    Budget.objects.filter(pk=ids[scope].pk).update(limit=1)
    below = [line for line in house if ids[scope] in queries.budgets_of(line.project.pk, line.run_id, line.agent_id)]

    in_the_way = set()

    def work(number: int) -> int:
        return sum(reserves(below[(number + turn) % len(below)]) for turn in range(REQUESTS))

    def reserves(line: Line) -> bool:
        try:
            line.reserve(Decimal("0.04"))
        except OverBudget as refused:
            in_the_way.add(refused.scope)
            return False
        return True

    assert at_once(work) == 25 < THREADS * REQUESTS
    assert in_the_way == {scope}
    assert Budget.objects.get(pk=ids[scope].pk).reserved == 1
    assert len(below) == {"account": 6, "client": 5, "project": 3, "agent": 2, "run": 1}[scope]
