"""Every write to billing, as verbs: limits, reservations and their settlement.

Each model request holds its worst-case cost in a budget of each level (account, client, project, agent, run) before it
is sent, and leaves its real cost there afterwards. The ledger is the record of requests; the audit log gets what
concerns people at once (limits, warnings, refusals, costs that could not be foreseen), and each request a little later.
"""

from billing.actions.limits import (
    Opening,
    decide_budget,
    open_budgets,
    raise_limit,
    record_spending,
    set_limit,
)
from billing.actions.requests import audit_requests
from billing.actions.reservations import (
    RESERVATION_LIFETIME,
    expire_reservations,
    record_refusal,
    release,
    reserve,
    settle,
)
from billing.actions.warnings import CASHIER, THRESHOLDS, threshold_of

__all__ = [
    "CASHIER",
    "RESERVATION_LIFETIME",
    "THRESHOLDS",
    "Opening",
    "audit_requests",
    "decide_budget",
    "expire_reservations",
    "open_budgets",
    "raise_limit",
    "record_refusal",
    "record_spending",
    "release",
    "reserve",
    "set_limit",
    "settle",
    "threshold_of",
]
