"""Beat's look at the audit log: people are told of a break, once, and of nothing else."""

from datetime import timedelta

import pgtrigger
import pytest
from django.db import connection

from projects import tasks
from projects.actions.audit_watch import watch_chains
from projects.models import AuditLog, Notification
from tests.factories import NOW, AuditLogFactory, ProjectFactory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("published")]


def tamper(statement: str) -> None:
    with pgtrigger.ignore(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_whole_chains_leave_nothing_behind() -> None:
    AuditLogFactory()
    AuditLogFactory(project_id=ProjectFactory().pk)
    assert watch_chains(now=NOW) == []
    tasks.verify_audit()
    assert AuditLog.objects.count() == 2
    assert not Notification.objects.exists()


def test_people_are_told_of_each_break_once() -> None:
    project = ProjectFactory()
    for _ in range(3):
        AuditLogFactory(project_id=project.pk)
    tamper(f"UPDATE projects_auditlog SET actor_name = 'nobody' WHERE chain = '{project.pk}' AND seq = 2")

    (found,) = watch_chains(now=NOW)
    assert watch_chains(now=NOW + timedelta(days=1)) == [found]

    told = Notification.objects.get()
    assert told.level == "error"
    assert f"Chain {project.pk}, row 2: was changed after it was written" in told.message
    assert told.actions[0]["url"] == f"/projects/{project.pk}/audit/"
    row = AuditLog.objects.get(action="audit.broken")
    assert row.details == {"chain": str(project.pk), "seq": 2, "problem": "was changed after it was written"}


def test_people_are_told_though_the_chain_of_the_account_takes_no_more_rows() -> None:
    AuditLogFactory()
    tamper("DELETE FROM projects_auditchain")

    assert watch_chains(now=NOW)[0].problem == "its head is missing"
    watch_chains(now=NOW + timedelta(days=1))

    assert Notification.objects.get().title == "The audit log of the account was tampered with"
