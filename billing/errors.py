"""What can be wrong with a request to billing."""

from decimal import Decimal
from uuid import UUID

from projects.errors import DomainError


class UnknownPrice(DomainError):
    """There is no price for this model."""


class InvalidPrices(DomainError):
    """This table of prices cannot be used."""


class InvalidExport(DomainError):
    """This is no export of a provider's usage that can be read."""


class NoBudget(DomainError):
    """No budget was opened for this run."""


class ReservationClosed(DomainError):
    """This reservation was settled or released before."""


class InvalidLimit(DomainError):
    """This limit cannot be set."""


class OverBudget(DomainError):
    """A request does not fit a limit; nothing was reserved.

    `scope` and `budget_id` say which: of the limits that it does not fit, one that waiting does not help if there is
    any, and of these the widest. `spent` is settled money, `held` what open reservations hold.
    """

    def __init__(
        self, scope: str, limit: Decimal, spent: Decimal, *, held: Decimal, amount: Decimal, budget_id: UUID
    ) -> None:
        self.scope = scope
        self.budget_id = budget_id
        self.limit = limit
        self.spent = spent
        self.held = held
        self.amount = amount
        super().__init__(
            f"The budget of the {scope} is used up: {spent:.4f} of {limit:.2f} are spent"
            + (f", {held:.4f} are held for requests under way" if held else "")
            + f", and this request may cost up to {amount:.4f}."
        )

    @property
    def is_final(self) -> bool:
        """Whether it would not fit either once all requests under way turned out to cost nothing."""
        return self.spent + self.amount > self.limit
