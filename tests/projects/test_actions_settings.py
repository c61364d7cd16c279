"""Plain settings, changed by people."""

import pytest
from django.db import IntegrityError, transaction

from projects.actions import settings
from projects.models import AuditLog, Squad
from tests.factories import NOW, TESTER, ProjectFactory, RequirementFactory

pytestmark = pytest.mark.django_db
WHO = {"by": TESTER, "now": NOW}


def test_changed_columns_are_saved_and_recorded_with_what_they_were() -> None:
    squad = ProjectFactory().squad
    settings.change_row(squad, {"max_concurrent_runs": 9}, project_id=squad.project_id, **WHO)
    assert Squad.objects.get(pk=squad.pk).max_concurrent_runs == 9
    row = AuditLog.objects.get()
    assert (row.action, row.chain) == ("squad.changed", str(squad.project_id))
    assert row.details == {"max_concurrent_runs": {"from": 4, "to": 9}}


def test_other_columns_of_a_stale_row_are_left_alone() -> None:
    stale = ProjectFactory(client_name="We")
    type(stale).objects.filter(pk=stale.pk).update(status="cancelled")
    settings.change_row(stale, {"client_name": "They"}, **WHO)
    stale.refresh_from_db()
    assert (stale.status, stale.client_name) == ("cancelled", "They")


@pytest.mark.parametrize("name", ["status", "id"])
def test_status_and_key_are_no_settings(name: str) -> None:
    with pytest.raises(AssertionError):
        settings.change_row(ProjectFactory(), {name: "complete"}, **WHO)


def test_added_row_is_recorded_on_the_accounts_chain() -> None:
    row = RequirementFactory.build(project=ProjectFactory())
    settings.add_row(row, **WHO)
    found = AuditLog.objects.get()
    assert (found.action, found.chain, found.object_id) == ("requirement.added", "account", str(row.pk))


def test_row_that_is_refused_is_not_recorded() -> None:
    row = RequirementFactory()
    twin = RequirementFactory.build(project=row.project, position=row.position)
    with pytest.raises(IntegrityError), transaction.atomic():
        settings.add_row(twin, **WHO)
    assert not AuditLog.objects.exists()
