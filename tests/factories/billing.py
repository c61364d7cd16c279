"""Prices, budgets and the ledger."""

from datetime import date, timedelta
from decimal import Decimal

import factory
from factory.django import DjangoModelFactory

from billing.models import Budget, LedgerEntry, Price, Reservation
from projects.ids import new_id
from tests.factories.common import NOW
from tests.factories.projects import ProjectFactory


class PriceFactory(DjangoModelFactory[Price]):
    class Meta:
        model = Price

    model = factory.Sequence("claude-test-{}".format)
    valid_from = date(2025, 1, 1)
    input_per_mtok = Decimal(3)
    output_per_mtok = Decimal(15)
    cache_write_per_mtok = Decimal("3.75")
    long_cache_write_per_mtok = Decimal(6)
    cache_read_per_mtok = Decimal("0.30")


class BudgetFactory(DjangoModelFactory[Budget]):
    """A project's budget."""

    class Meta:
        model = Budget

    scope = Budget.Scope.PROJECT
    project = factory.SubFactory(ProjectFactory)
    scope_id = factory.SelfAttribute("project.pk")
    limit = Decimal(25)
    created_at = NOW


class ReservationFactory(DjangoModelFactory[Reservation]):
    class Meta:
        model = Reservation

    project = factory.SubFactory(ProjectFactory)
    run_id = factory.LazyFunction(new_id)
    agent_id = factory.LazyFunction(new_id)
    price = factory.SubFactory(PriceFactory)
    model = factory.SelfAttribute("price.model")
    amount = Decimal("0.5")
    budget_ids = factory.LazyFunction(list)
    created_at = NOW
    expires_at = NOW + timedelta(minutes=20)


class LedgerEntryFactory(DjangoModelFactory[LedgerEntry]):
    """A settlement; its price is the reservation's."""

    class Meta:
        model = LedgerEntry

    kind = LedgerEntry.Kind.SETTLE
    project_id = factory.LazyFunction(new_id)
    run_id = factory.LazyFunction(new_id)
    agent_id = factory.LazyFunction(new_id)
    request_id = factory.LazyFunction(new_id)
    amount = Decimal("0.0123")
    currency = "USD"
    price = factory.SubFactory(PriceFactory)
    model = factory.SelfAttribute("price.model")
    input_tokens = 1_000
    output_tokens = 200
    created_at = NOW
