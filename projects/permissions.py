"""Who may do what to a project, and why not.

`check_can_x` raises a sentence for people: a button that is refused shows it, and the endpoint behind the button
answers with it.
"""

from decimal import Decimal

from django.conf import settings
from django.contrib.auth.models import AbstractUser

from accounts.roles import AccountRole
from accounts.roles import refusal as role_refusal
from projects.errors import DomainError, NotAllowed, ProjectNotActive
from projects.models import Approval, Project
from projects.states import (
    ACTIVE_PROJECT,
    GIVEN_UP_PROJECT,
    OVER_PROJECT,
    PROJECT_TRANSITIONS,
    ApprovalKind,
    ApprovalStatus,
    ProjectStatus,
)


def check_can_work(user: AbstractUser) -> None:
    """Raise NotAllowed unless the user works with projects: an operator or an admin."""
    if why := role_refusal(user, AccountRole.OPERATOR):
        raise NotAllowed(why)


def check_can_administer(user: AbstractUser) -> None:
    """Raise NotAllowed unless the user sets limits, people, prompts, workers and keys: an admin."""
    if why := role_refusal(user, AccountRole.ADMIN):
        raise NotAllowed(why)


def check_can_fund(user: AbstractUser, limit: Decimal | None) -> None:
    """Raise NotAllowed unless the user may start a project with this limit: more than the usual is an admin's."""
    check_can_work(user)
    usual, currency = settings.EKLAVYA_BUDGET_LIMIT, settings.EKLAVYA_CURRENCY
    if limit is not None and limit > usual and (why := role_refusal(user, AccountRole.ADMIN)):
        raise NotAllowed(f"More than {usual:,.2f} {currency} for a project is an admin's to give. {why}")


def check_can_pause(user: AbstractUser, project: Project) -> None:
    """Raise unless the project may be paused."""
    check_can_work(user)
    if project.status not in ACTIVE_PROJECT:
        raise ProjectNotActive(f"Nothing to pause: {_is(project)}.")


def check_can_resume(user: AbstractUser, project: Project) -> None:
    """Raise unless the project is paused."""
    check_can_work(user)
    if project.status != ProjectStatus.PAUSED:
        raise ProjectNotActive(f"Nothing to resume: {_is(project)}.")


def check_can_cancel(user: AbstractUser, project: Project) -> None:
    """Raise unless the project may be given up."""
    check_can_work(user)
    if ProjectStatus.CANCELLED not in PROJECT_TRANSITIONS[ProjectStatus(project.status)]:
        raise ProjectNotActive(f"It cannot be cancelled: {_is(project)}.")


def check_can_archive(user: AbstractUser, project: Project) -> None:
    """Raise unless the project is over, or stopped."""
    check_can_work(user)
    if ProjectStatus.ARCHIVED not in PROJECT_TRANSITIONS[ProjectStatus(project.status)]:
        raise ProjectNotActive(f"Only what is over can be archived: {_is(project)}.")


def check_can_start(user: AbstractUser, project: Project) -> None:
    """Raise unless workflows may be started in the project."""
    check_can_work(user)
    if (project.paused_from or project.status) != ProjectStatus.BUILDING:
        raise ProjectNotActive(f"Workflows work on what is being built: {_is(project)}.")


def check_can_write(user: AbstractUser, project: Project) -> None:
    """Raise unless the squad still reads the conversation: when the project is over it has left."""
    check_can_work(user)
    if project.status in OVER_PROJECT:
        raise ProjectNotActive(f"Nobody reads here any more: {_is(project)}.")


def check_can_show(user: AbstractUser, project: Project) -> None:
    """Raise unless what the project made may still be shown: until it is put away."""
    check_can_work(user)
    if project.status in GIVEN_UP_PROJECT:
        raise ProjectNotActive(f"It is not shown any more: {_is(project)}.")


def check_can_decide(user: AbstractUser, approval: Approval) -> None:
    """Raise unless the approval is open; the sentence says who was first. More money is an admin's to give."""
    check_can_work(user)
    if approval.kind == ApprovalKind.BUDGET:
        check_can_administer(user)
    if approval.is_open:
        return
    what = ApprovalStatus(approval.status).label.lower()
    if approval.decided_by is not None:
        raise DomainError(f"{approval.decided_by.get_username()} already decided: {what}.")
    raise DomainError(f"This is closed: {what}.")


def _is(project: Project) -> str:
    at = "at its demo" if project.status == ProjectStatus.DEMO else ProjectStatus(project.status).label.lower()
    return f"{project.name} is {at}"
