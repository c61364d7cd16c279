"""States of a demo. Data only: `demos.actions` writes them."""

from django.db import models

from projects.states import Transitions


class DemoStatus(models.TextChoices):
    """A preview of one commit."""

    BUILDING = "building"  # its preview sandbox is being started
    READY = "ready"  # open at its address, awaits the decision
    APPROVED = "approved"
    CHANGES_REQUESTED = "changes_requested"
    REJECTED = "rejected"
    EXPIRED = "expired"  # nobody decided in time, or it could not be shown


DEMO_TRANSITIONS: Transitions[DemoStatus] = {
    DemoStatus.BUILDING: frozenset({DemoStatus.READY, DemoStatus.EXPIRED}),
    DemoStatus.READY: frozenset(
        {DemoStatus.APPROVED, DemoStatus.CHANGES_REQUESTED, DemoStatus.REJECTED, DemoStatus.EXPIRED}
    ),
    DemoStatus.APPROVED: frozenset(),
    DemoStatus.CHANGES_REQUESTED: frozenset(),
    DemoStatus.REJECTED: frozenset(),
    DemoStatus.EXPIRED: frozenset({DemoStatus.BUILDING}),
}
