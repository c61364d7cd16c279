"""Who may do what to a demo, and why not: `check_can_x` raises a sentence for people."""

from django.contrib.auth.models import AbstractUser

from demos.errors import FAILURES, CannotExtend, DemoClosed, NotInDemoPhase
from demos.models import Demo
from demos.queries import is_at_demos
from demos.states import DemoStatus
from projects.permissions import check_can_show, check_can_work, check_can_write


def check_can_extend(user: AbstractUser, demo: Demo) -> None:
    """Raise unless the demo can be shown for longer; an expired one only while it can still be decided."""
    check_can_work(user)
    _check_lives(user, demo)
    if demo.revoked_at is not None:
        raise DemoClosed
    if demo.status != DemoStatus.EXPIRED:
        return
    if not is_at_demos(demo.project):
        raise NotInDemoPhase(f"{demo.project.name} is not at its demos any more.")
    if demo.project.demos.filter(demo_number__gt=demo.demo_number).exists():
        raise CannotExtend("There is a newer demo.")


def check_can_close(user: AbstractUser, demo: Demo) -> None:
    """Raise unless the demo has an address that answers, or will."""
    check_can_work(user)
    if demo.revoked_at is not None or demo.status == DemoStatus.EXPIRED:
        raise DemoClosed("This demo's address is closed already.")


def check_can_readdress(user: AbstractUser, demo: Demo) -> None:
    """Raise unless the demo can answer at a new address."""
    check_can_work(user)
    _check_lives(user, demo)
    if demo.status == DemoStatus.EXPIRED:
        raise DemoClosed("This demo has expired. Extend it first.")


def check_can_remark(user: AbstractUser, demo: Demo) -> None:
    """Raise unless somebody will read what is said about the demo: whoever makes the next one, or builds."""
    check_can_write(user, demo.project)


def _check_lives(user: AbstractUser, demo: Demo) -> None:
    check_can_show(user, demo.project)
    if demo.reason in FAILURES:
        raise CannotExtend("This demo could not be shown; it is built anew.")
