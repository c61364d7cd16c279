"""Prices, budgets, reservations and the ledger. Money is Decimal, all of it in one currency (`CURRENCY`)."""

from decimal import Decimal

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from projects.ids import new_id
from projects.models import Project
from projects.models.audit import append_only

# Of the whole ledger: amounts of two could not be added up. A constraint of each table that holds money.
CURRENCY = "USD"


def _one_currency(name: str) -> models.CheckConstraint:
    return models.CheckConstraint(condition=Q(currency=CURRENCY), name=f"{name}_in_the_ledgers_currency")


def _money(*, default: Decimal | None = None, help_text: str = "") -> "models.DecimalField[Decimal, Decimal]":
    """Return a column of money: up to 99,999,999 in steps of a millionth, the price of a fraction of a token."""
    if default is None:
        return models.DecimalField(max_digits=14, decimal_places=6, help_text=help_text)
    return models.DecimalField(max_digits=14, decimal_places=6, default=default, help_text=help_text)


class Price(models.Model):
    """What a model costs from a date (UTC) on, per million tokens. What something was paid by never changes again."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    model = models.CharField(max_length=100, help_text="Model id, without the date suffix.")
    valid_from = models.DateField()
    input_per_mtok = _money()
    output_per_mtok = _money()
    cache_write_per_mtok = _money(help_text="Written to the five-minute cache.")
    long_cache_write_per_mtok = _money(help_text="Written to the one-hour cache.")
    cache_read_per_mtok = _money()
    currency = models.CharField(max_length=3, default="USD")

    class Meta:
        ordering = ["model", "-valid_from"]
        constraints = [
            models.UniqueConstraint(fields=["model", "valid_from"], name="price_once_per_date"),
            models.CheckConstraint(
                condition=Q(input_per_mtok__gte=0)
                & Q(output_per_mtok__gte=0)
                & Q(cache_write_per_mtok__gte=0)
                & Q(long_cache_write_per_mtok__gte=0)
                & Q(cache_read_per_mtok__gte=0),
                name="price_not_negative",
            ),
            _one_currency("price"),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="price_no_change_once_used",
                operation=pgtrigger.Update,
                when=pgtrigger.Before,
                func="""
                    IF EXISTS (SELECT FROM billing_reservation WHERE price_id = OLD.id)
                        OR EXISTS (SELECT FROM billing_ledgerentry WHERE price_id = OLD.id)
                    THEN RAISE EXCEPTION 'this price was used: add another one with a later date'; END IF;
                    RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.valid_from}"


class Budget(models.Model):
    """A limit that cannot be overspent: the database refuses `settled + reserved > limit`.

    `scope_id` is the id of the client, project, agent or run; the account has none and uses `ACCOUNT_ID`. A level
    without a limit only counts. `default_limit` is the setting that the account's limit was last taken from.
    """

    class Scope(models.TextChoices):
        """What is limited, from the widest to the narrowest. A request holds its money in one of each."""

        ACCOUNT = "account"
        CLIENT = "client"
        PROJECT = "project"
        AGENT = "agent"
        RUN = "run"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    scope = models.CharField(max_length=8, choices=Scope)
    scope_id = models.UUIDField()
    project = models.ForeignKey(Project, null=True, blank=True, on_delete=models.CASCADE, related_name="budgets")
    limit = models.DecimalField(max_digits=14, decimal_places=6, null=True, blank=True, help_text="Empty: none.")
    default_limit = models.DecimalField(max_digits=14, decimal_places=6, null=True, blank=True, editable=False)
    reserved = _money(default=Decimal(0))
    settled = _money(default=Decimal(0))
    currency = models.CharField(max_length=3, default=CURRENCY)
    warned_percent = models.PositiveSmallIntegerField(default=0, help_text="Highest threshold already announced.")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["scope", "scope_id"], name="budget_once_per_scope"),
            models.CheckConstraint(
                condition=Q(limit__gte=0) & Q(reserved__gte=0) & Q(settled__gte=0), name="budget_not_negative"
            ),
            models.CheckConstraint(condition=Q(limit__gte=F("reserved") + F("settled")), name="budget_not_overspent"),
            models.CheckConstraint(
                condition=Q(scope__in=["account", "client"], project__isnull=True)
                | (~Q(scope__in=["account", "client"]) & Q(project__isnull=False)),
                name="budget_project_of_scope",
            ),
            models.CheckConstraint(
                condition=Q(limit__isnull=False) | ~Q(scope__in=["project", "run"]), name="budget_limit_of_scope"
            ),
            _one_currency("budget"),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.settled}/{self.limit if self.limit is not None else 'no limit'} {self.currency}"

    @property
    def available(self) -> Decimal | None:
        """What may still be reserved; None where there is no limit."""
        return None if self.limit is None else self.limit - self.reserved - self.settled


class Reservation(models.Model):
    """Money held for one model request until its real cost is known.

    `budget_ids` are the budgets that hold it: whoever closes it changes these, whatever was opened or renamed since.
    """

    class Status(models.TextChoices):
        """Open until settled (the cost is known) or released (nothing was spent).

        Expired: settled at its full amount, because nobody said what it cost. Whoever still does corrects that.
        """

        OPEN = "open"
        SETTLED = "settled"
        RELEASED = "released"
        EXPIRED = "expired"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="reservations")
    run_id = models.UUIDField()
    agent_id = models.UUIDField()
    client_id = models.UUIDField(null=True, blank=True)
    budget_ids = ArrayField(models.UUIDField())
    model = models.CharField(max_length=100)
    price = models.ForeignKey(Price, on_delete=models.PROTECT)
    amount = _money()
    status = models.CharField(max_length=8, choices=Status, default=Status.OPEN)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(help_text="From then on it is settled at its full amount and flagged.")
    audited = models.BooleanField(default=False, db_default=False, help_text="Its audit row is written.")

    class Meta:
        indexes = [
            models.Index(fields=["expires_at"], condition=Q(status="open"), name="reservation_open"),
            models.Index(fields=["run_id"], condition=Q(status="open"), name="reservation_open_of_run"),
            models.Index(
                fields=["created_at"], condition=Q(audited=False) & ~Q(status="open"), name="reservation_unaudited"
            ),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(amount__gte=0), name="reservation_not_negative"),
            models.CheckConstraint(condition=Q(expires_at__gt=F("created_at")), name="reservation_expires_later"),
        ]
        triggers = [
            pgtrigger.FSM(
                name="reservation_fsm",
                field="status",
                transitions=[
                    ("open", "settled"),
                    ("open", "released"),
                    ("open", "expired"),
                    ("expired", "settled"),
                    ("expired", "released"),
                ],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount} for {self.run_id}"


class LedgerEntry(models.Model):
    """One immutable line of money. A project's cost is the sum of its `settle` and `adjust` lines.

    Tokens are those of the request by kind, as it was billed (`prices.Usage`): no token is in two columns. `price` is
    the dated row by which it was. No other foreign keys: the ledger outlives what it names.
    """

    class Kind(models.TextChoices):
        """A request makes one reserve line and then one settle or release line."""

        RESERVE = "reserve"
        SETTLE = "settle"
        RELEASE = "release"
        ADJUST = "adjust"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kind = models.CharField(max_length=8, choices=Kind)
    project_id = models.UUIDField()
    client_id = models.UUIDField(null=True, blank=True)
    run_id = models.UUIDField(null=True, blank=True)
    agent_id = models.UUIDField(null=True, blank=True)
    request_id = models.UUIDField(help_text="The reservation's id.")
    amount = _money()
    currency = models.CharField(max_length=3)
    model = models.CharField(max_length=100, blank=True)
    price = models.ForeignKey(Price, null=True, blank=True, on_delete=models.PROTECT)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cache_write_tokens = models.PositiveBigIntegerField(default=0, help_text="To the five-minute cache.")
    long_cache_write_tokens = models.PositiveBigIntegerField(default=0, help_text="To the one-hour cache.")
    cache_read_tokens = models.PositiveBigIntegerField(default=0)
    note = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "ledger entries"
        indexes = [
            models.Index(fields=["project_id", "-created_at", "-id"], name="ledger_of_project"),
            models.Index(fields=["run_id"], name="ledger_of_run"),
            models.Index(fields=["-created_at", "-id"], name="ledger_newest"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["request_id"], condition=Q(kind="reserve"), name="ledger_reserved_once"),
            models.UniqueConstraint(
                fields=["request_id"], condition=Q(kind__in=["settle", "release"]), name="ledger_closed_once"
            ),
            models.CheckConstraint(condition=Q(kind="adjust") | Q(amount__gte=0), name="ledger_amount_not_negative"),
            _one_currency("ledger"),
        ]
        triggers = append_only("ledger")

    def __str__(self) -> str:
        return f"{self.kind} {self.amount} {self.currency}"
