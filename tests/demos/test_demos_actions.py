"""The life of a demo: each verb once as it should go, and once for each refusal."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, ProgrammingError, connection, transaction
from django.test.utils import CaptureQueriesContext

from demos import actions, queries
from demos.addresses import new_token, preview_url
from demos.errors import (
    CannotExtend,
    DemoClosed,
    EmptyFeedback,
    NotADemoTask,
    NotInDemoPhase,
    Reason,
)
from demos.models import Demo
from demos.states import DemoStatus
from projects.actions import approvals, projects
from projects.actors import Actor
from projects.errors import IllegalTransition, InvalidDecision, ProjectNotActive, StaleState
from projects.models import Approval, AuditLog, ChatMessage, Notification, Project
from projects.states import ApprovalStatus, ProjectStatus, TaskKind, TaskStatus
from tests.demos.making import (
    ADMIN,
    COMMIT,
    LATER,
    NOW,
    again,
    complete_demo_task,
    decide,
    demo_tasks,
    make_project,
    open_demo,
    question_of,
    ready_demo,
    recorded,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return make_project()


# open_demo


def test_open_demo_numbers_it_and_gives_it_an_address(project: Project) -> None:
    task = complete_demo_task(project)
    token = new_token()

    demo = actions.open_demo(task, commit=COMMIT, summary="It sells.", token=token, now=NOW, by=ADMIN)

    assert (demo.demo_number, demo.status, demo.commit) == (1, DemoStatus.BUILDING, COMMIT)
    assert demo.preview_url == f"http://d-{token}.preview.localhost:8000/"
    assert demo.expires_at == NOW + timedelta(days=7)
    assert recorded("demo.opened") == [{"number": 1, "commit": COMMIT}]


def test_open_demo_twice_gives_the_same_one(project: Project) -> None:
    task = complete_demo_task(project)
    demo = actions.open_demo(task, commit=COMMIT, summary="", token=new_token(), now=NOW, by=ADMIN)

    again_ = actions.open_demo(task, commit=COMMIT, summary="", token=new_token(), now=LATER, by=ADMIN)

    assert again_.pk == demo.pk
    assert Demo.objects.count() == 1


def test_open_demo_of_an_old_task_gives_the_old_demo(project: Project) -> None:
    first = ready_demo(project)
    decide(first, "amend", "Make it blue.")
    second = open_demo(project)

    found = actions.open_demo(demo_tasks(project)[0], commit=COMMIT, summary="", token=new_token(), now=NOW, by=ADMIN)

    assert found.pk == first.pk
    assert second.demo_number == 2


def test_open_demo_refuses_a_task_that_is_not_completed(project: Project) -> None:
    with pytest.raises(NotADemoTask):
        actions.open_demo(demo_tasks(project)[0], commit=COMMIT, summary="", token=new_token(), now=NOW, by=ADMIN)


def test_open_demo_refuses_a_task_of_another_kind(project: Project) -> None:
    task = project.tasks.get(kind=TaskKind.REQUIREMENTS)

    with pytest.raises(NotADemoTask):
        actions.open_demo(task, commit=COMMIT, summary="", token=new_token(), now=NOW, by=ADMIN)


def test_open_demo_refuses_a_task_without_commit(project: Project) -> None:
    task = complete_demo_task(project)

    with pytest.raises(NotADemoTask):
        actions.open_demo(task, commit="", summary="", token=new_token(), now=NOW, by=ADMIN)


def test_open_demo_refuses_a_project_that_was_given_up(project: Project) -> None:
    task = complete_demo_task(project)
    projects.cancel_project(project, reason="no money", by=ADMIN, now=NOW)

    with pytest.raises(NotInDemoPhase):
        actions.open_demo(task, commit=COMMIT, summary="", token=new_token(), now=NOW, by=ADMIN)
    assert not Demo.objects.exists()


# mark_ready


def test_mark_ready_opens_it_and_asks(project: Project) -> None:
    demo = open_demo(project)

    actions.mark_ready(demo, sandbox="demo-7", address="127.0.0.1:4711", now=NOW, by=ADMIN)

    again(demo)
    assert (demo.status, demo.sandbox, demo.address, demo.ready_at) == ("ready", "demo-7", "127.0.0.1:4711", NOW)
    assert question_of(demo).title == f"Demo 1 of {project.name}"
    assert question_of(demo).body == "It sells."


def test_mark_ready_tells_the_world(project: Project) -> None:
    demo = ready_demo(project)

    event = AuditLog.objects.get(event_type="demo:ready")

    expected = {"projectId": str(project.pk), "demoNumber": 1, "previewUrl": demo.preview_url}
    assert event.event_payload == expected
    assert demo.preview_url in ChatMessage.objects.latest("pk").body


def test_mark_ready_refuses_a_second_time(project: Project) -> None:
    demo = ready_demo(project)

    with pytest.raises(IllegalTransition):
        actions.mark_ready(demo, sandbox="x", address="127.0.0.1:2", now=NOW, by=ADMIN)


def test_mark_ready_refuses_a_stale_row_and_leaves_nothing(project: Project) -> None:
    demo = open_demo(project)
    stale = Demo.objects.select_related("project").get(pk=demo.pk)
    actions.mark_ready(demo, sandbox="demo-1", address="127.0.0.1:1", now=NOW, by=ADMIN)

    with pytest.raises(StaleState):
        actions.mark_ready(stale, sandbox="demo-1", address="127.0.0.1:2", now=NOW, by=ADMIN)
    assert len(recorded("demo.ready")) == 1
    assert again(demo).address == "127.0.0.1:1"


def test_mark_ready_refuses_a_project_that_was_given_up(project: Project) -> None:
    demo = open_demo(project)
    projects.cancel_project(demo.project, reason="", by=ADMIN, now=NOW)

    with pytest.raises(NotInDemoPhase):
        actions.mark_ready(demo, sandbox="x", address="127.0.0.1:2", now=NOW, by=ADMIN)


# mark_failed


def fail(project: Project, reason: Reason = Reason.NO_MANIFEST) -> Demo:
    demo = open_demo(project)
    actions.mark_failed(demo, reason, "There is no file.", now=NOW, by=ADMIN)
    return again(demo)


def test_mark_failed_has_the_demo_built_anew_and_says_why(project: Project) -> None:
    demo = fail(project)

    assert (demo.status, demo.reason, demo.detail) == ("expired", "no_manifest", "There is no file.")
    task = demo_tasks(project)[1]
    assert (task.key, task.status) == ("demo-2", TaskStatus.READY)
    text = "The platform could not show this demo (no_manifest). There is no file."
    assert task.context == {"feedback": [{"demo": 1, "text": text}]}


def test_mark_failed_locks_the_project_before_the_demo(project: Project) -> None:
    """As whoever decides does: the other way round each could wait for the other."""
    demo = open_demo(project)
    with CaptureQueriesContext(connection) as asked:
        actions.mark_failed(demo, Reason.NO_MANIFEST, "It ended.", now=NOW, by=ADMIN)

    said = [one["sql"] for one in asked]
    locked = next(at for at, sql in enumerate(said) if 'FROM "projects_project"' in sql and "FOR NO KEY UPDATE" in sql)
    assert locked < next(at for at, sql in enumerate(said) if sql.startswith('UPDATE "demos_demo"'))


def test_mark_failed_asks_nobody(project: Project) -> None:
    demo = fail(project)

    assert not Approval.objects.filter(subject_id=demo.pk).exists()
    assert demo.project.status == ProjectStatus.DEMO


def test_the_third_failure_in_a_row_pauses_the_project(project: Project) -> None:
    for _ in range(3):
        demo = fail(project)

    assert demo.project.status == ProjectStatus.PAUSED
    assert demo.project.paused_from == ProjectStatus.DEMO
    assert demo.project.status_reason.startswith("3 demos in a row could not be shown")
    assert Notification.objects.get(level="error").message == "There is no file."


def test_a_project_that_is_resumed_has_its_next_demo_task_waiting(project: Project) -> None:
    for _ in range(3):
        demo = fail(project)

    projects.resume_project(demo.project, by=ADMIN, now=NOW)

    assert demo_tasks(project)[-1].key == "demo-4"
    assert demo_tasks(project)[-1].status == TaskStatus.READY


def test_failures_with_a_shown_demo_between_do_not_pause(project: Project) -> None:
    fail(project)
    fail(project)
    decide(ready_demo(project), "amend", "Nearly.")
    demo = fail(project)

    assert queries.failed_in_a_row(project) == 1
    assert demo.project.status == ProjectStatus.DEMO


def test_mark_failed_while_paused_keeps_the_project_paused(project: Project) -> None:
    demo = open_demo(project)
    projects.pause_project(demo.project, reason="lunch", by=ADMIN, now=NOW)

    actions.mark_failed(demo, Reason.DID_NOT_ANSWER, "", now=NOW, by=ADMIN)

    assert again(demo).project.status_reason == "lunch"
    assert len(demo_tasks(project)) == 2


def test_mark_failed_of_a_cancelled_project_makes_no_task(project: Project) -> None:
    demo = open_demo(project)
    projects.cancel_project(demo.project, reason="", by=ADMIN, now=NOW)

    actions.mark_failed(demo, Reason.DID_NOT_ANSWER, "", now=NOW, by=ADMIN)

    assert len(demo_tasks(project)) == 1


def test_mark_failed_refuses_a_demo_that_is_shown(project: Project) -> None:
    with pytest.raises(IllegalTransition):
        actions.mark_failed(ready_demo(project), Reason.DID_NOT_ANSWER, "", now=NOW, by=ADMIN)
    assert len(demo_tasks(project)) == 1


# decide_demo


def test_approve_builds_what_was_shown(project: Project) -> None:
    demo = ready_demo(project)

    decide(demo, "approve")

    assert (demo.status, demo.approved_at, demo.decided_at) == ("approved", NOW, NOW)
    assert demo.project.status == ProjectStatus.BUILDING
    assert (demo.project.approved_demo_id, demo.project.approved_demo_commit) == (demo.pk, COMMIT)
    build = project.tasks.filter(kind=TaskKind.BUILD)
    assert {task.key: task.status for task in build} == {"storage": "ready", "pages": "pending"}


@pytest.mark.parametrize(
    ("option", "decision"), [("approve", "approved"), ("amend", "changes_requested"), ("reject", "rejected")]
)
def test_each_decision_is_told_to_the_world(project: Project, option: str, decision: str) -> None:
    decide(ready_demo(project), option, "" if option == "approve" else "Blue.")

    event = AuditLog.objects.get(event_type="demo:approved")

    assert event.action == f"demo.{decision}"
    assert event.event_payload == {"projectId": str(project.pk), "demoNumber": 1, "decision": decision}


def test_amend_has_the_next_demo_built_with_the_feedback(project: Project) -> None:
    user = User.objects.create_user("ada")
    demo = ready_demo(project)

    decide(demo, "amend", "Make it blue.", by=Actor.person(user))

    assert (demo.status, demo.feedback, demo.decided_at) == ("changes_requested", "Make it blue.", NOW)
    assert demo.approved_at is None
    assert [(remark.user, remark.body) for remark in demo.remarks.all()] == [(user, "Make it blue.")]
    assert demo_tasks(project)[1].context == {"feedback": [{"demo": 1, "text": "Make it blue."}]}


def test_reject_says_to_start_over(project: Project) -> None:
    demo = ready_demo(project)

    decide(demo, "reject", "Not at all.")

    assert demo.status == DemoStatus.REJECTED
    [told] = demo_tasks(project)[1].context["feedback"]
    assert told == {"demo": 1, "text": "This demo was rejected: start over instead of changing it. Not at all."}


def test_the_next_demo_is_told_all_feedback_so_far(project: Project) -> None:
    first = ready_demo(project)
    actions.give_feedback(first, "The logo is small.", by=ADMIN, now=NOW)
    decide(first, "amend", "Make it blue.")
    fail(project, Reason.DID_NOT_ANSWER)
    decide(ready_demo(project), "amend", "Bluer.")

    told = demo_tasks(project)[-1].context["feedback"]

    assert [entry["demo"] for entry in told] == [1, 1, 2, 3]
    assert [told[0]["text"], told[1]["text"], told[3]["text"]] == ["The logo is small.", "Make it blue.", "Bluer."]
    assert "did_not_answer" in told[2]["text"]


def test_amend_without_a_comment_is_refused(project: Project) -> None:
    demo = ready_demo(project)

    with pytest.raises(InvalidDecision):
        decide(demo, "amend")
    assert again(demo).status == DemoStatus.READY


def test_a_decision_while_the_project_is_paused_is_refused_and_leaves_nothing(project: Project) -> None:
    demo = ready_demo(project)
    projects.pause_project(again(demo).project, reason="lunch", by=ADMIN, now=NOW)

    with pytest.raises(ProjectNotActive):
        decide(demo, "approve")
    assert again(demo).status == DemoStatus.READY
    assert question_of(demo).status == ApprovalStatus.PENDING
    assert not recorded("approval.decided")[1:]


def test_a_second_decision_is_refused(project: Project) -> None:
    demo = ready_demo(project)
    question = question_of(demo)
    decide(demo, "approve")

    with pytest.raises(IllegalTransition):
        approvals.decide(question.pk, approvals.Decision("reject", "No."), by=ADMIN, now=NOW)


def test_a_demo_stays_open_beside_the_next_and_closes_when_that_is_decided(project: Project) -> None:
    first = ready_demo(project)
    decide(first, "amend", "Make it blue.")
    second = ready_demo(project)
    assert {demo.pk for demo in queries.wanting_preview(NOW)} == {first.pk, second.pk}

    decide(second, "approve")

    assert again(first).revoked_at == NOW
    assert [demo.pk for demo in queries.wanting_preview(NOW)] == [second.pk]


# give_feedback


def test_give_feedback_refuses_nothing_at_all(project: Project) -> None:
    with pytest.raises(EmptyFeedback):
        actions.give_feedback(ready_demo(project), "  \n", by=ADMIN, now=NOW)


def test_give_feedback_keeps_what_postgresql_cannot_store(project: Project) -> None:
    remark = actions.give_feedback(ready_demo(project), "a\0b", by=ADMIN, now=NOW)

    assert remark.body == "a�b"


# expire, extend


def test_expire_withdraws_the_question_and_says_so(project: Project) -> None:
    demo = ready_demo(project)
    question = question_of(demo)

    actions.expire_demo(demo, now=LATER, by=ADMIN)

    question.refresh_from_db()
    assert (again(demo).status, demo.reason) == ("expired", "not_decided")
    assert question.status == ApprovalStatus.EXPIRED
    assert Notification.objects.filter(level="warning", title__contains="expired without a decision").exists()


def test_expire_by_a_person_notifies_nobody(project: Project) -> None:
    actions.expire_demo(ready_demo(project), reason=Reason.CLOSED, now=NOW, by=ADMIN)

    assert not Notification.objects.filter(level="warning").exists()


@pytest.mark.parametrize(("option", "comment"), [("approve", ""), ("amend", "Blue."), ("reject", "No.")])
def test_expire_refuses_a_decided_demo(project: Project, option: str, comment: str) -> None:
    demo = ready_demo(project)
    decide(demo, option, comment)

    with pytest.raises(IllegalTransition):
        actions.expire_demo(demo, now=LATER, by=ADMIN)


def test_extend_moves_the_end(project: Project) -> None:
    demo = ready_demo(project)

    actions.extend_demo(demo, days=3, now=NOW, by=ADMIN)

    assert again(demo).expires_at == NOW + timedelta(days=10)
    assert demo.status == DemoStatus.READY


def test_extend_opens_an_expired_demo_again_to_be_decided(project: Project) -> None:
    demo = ready_demo(project)
    actions.expire_demo(demo, now=LATER, by=ADMIN)

    actions.extend_demo(demo, days=3, now=LATER, by=ADMIN)
    assert (again(demo).status, demo.reason, demo.expires_at) == ("building", "", LATER + timedelta(days=3))

    actions.mark_ready(demo, sandbox="demo-1", address="127.0.0.1:1", now=LATER, by=ADMIN)
    decide(demo, "approve", now=LATER)
    assert demo.project.status == ProjectStatus.BUILDING


@pytest.mark.parametrize("days", [0, -1, 91])
def test_extend_refuses_unreasonable_times(project: Project, days: int) -> None:
    with pytest.raises(CannotExtend):
        actions.extend_demo(ready_demo(project), days=days, now=NOW, by=ADMIN)


def test_extend_refuses_a_closed_demo(project: Project) -> None:
    demo = ready_demo(project)
    actions.revoke_demo(demo, now=NOW, by=ADMIN)

    with pytest.raises(DemoClosed):
        actions.extend_demo(demo, days=1, now=NOW, by=ADMIN)


def test_extend_refuses_a_demo_that_could_not_be_shown(project: Project) -> None:
    with pytest.raises(CannotExtend, match="could not be shown"):
        actions.extend_demo(fail(project), days=1, now=NOW, by=ADMIN)


def test_extend_refuses_an_expired_demo_with_a_newer_one(project: Project) -> None:
    first = open_demo(project)
    actions.mark_failed(first, Reason.NO_MANIFEST, "", now=NOW, by=ADMIN)
    ready_demo(project)
    Demo.objects.filter(pk=first.pk).update(reason=Reason.NOT_DECIDED)

    with pytest.raises(CannotExtend, match="newer"):
        actions.extend_demo(again(first), days=1, now=NOW, by=ADMIN)


def test_extend_refuses_an_expired_demo_of_a_cancelled_project(project: Project) -> None:
    demo = ready_demo(project)
    projects.cancel_project(again(demo).project, reason="", by=ADMIN, now=NOW)
    actions.expire_demo(demo, reason=Reason.PROJECT_ENDED, now=NOW, by=ADMIN)

    with pytest.raises(NotInDemoPhase):
        actions.extend_demo(demo, days=1, now=NOW, by=ADMIN)


# revoke


def test_revoke_closes_the_address_but_not_the_decision(project: Project) -> None:
    demo = ready_demo(project)

    actions.revoke_demo(demo, now=NOW, by=ADMIN)

    assert (again(demo).revoked_at, demo.status) == (NOW, DemoStatus.READY)
    assert question_of(demo).is_open
    assert not queries.wanting_preview(NOW).exists()


def test_revoke_with_a_new_token_moves_the_demo(project: Project) -> None:
    demo = ready_demo(project)
    old, token = demo.token, new_token()

    actions.revoke_demo(demo, new_token=token, now=NOW, by=ADMIN)

    assert again(demo).preview_url == preview_url(token)
    assert queries.door(old) is None
    door = queries.door(token)
    assert door is not None
    assert door.is_open(NOW)


def test_a_closed_demo_opens_again_at_a_new_address(project: Project) -> None:
    demo = ready_demo(project)
    actions.revoke_demo(demo, now=NOW, by=ADMIN)

    actions.revoke_demo(demo, new_token=new_token(), now=NOW, by=ADMIN)

    assert again(demo).revoked_at is None


def test_revoke_refuses_a_second_time(project: Project) -> None:
    demo = ready_demo(project)
    actions.revoke_demo(demo, now=NOW, by=ADMIN)

    with pytest.raises(DemoClosed):
        actions.revoke_demo(demo, now=NOW, by=ADMIN)


# where the preview runs


def test_trouble_is_written_once_and_goes_when_it_runs(project: Project) -> None:
    demo = ready_demo(project)

    actions.record_trouble(demo, "No daemon answers.", now=NOW, by=ADMIN)
    actions.record_trouble(again(demo), "No daemon answers.", now=NOW, by=ADMIN)
    assert (again(demo).reason, demo.detail, demo.address) == ("preview_down", "No daemon answers.", "")
    assert len(recorded("demo.preview_down")) == 1

    actions.record_preview(demo, sandbox="demo-1", address="127.0.0.1:9", now=NOW, by=ADMIN)
    assert (again(demo).reason, demo.detail, demo.address) == ("", "", "127.0.0.1:9")


def test_trouble_of_a_demo_that_ended_meanwhile_is_not_written(project: Project) -> None:
    demo = ready_demo(project)
    stale = Demo.objects.get(pk=demo.pk)
    actions.expire_demo(demo, now=NOW, by=ADMIN)

    actions.record_trouble(stale, "No daemon answers.", now=NOW, by=ADMIN)

    assert again(demo).reason == "not_decided"
    assert recorded("demo.preview_down") == []


# What the database refuses, whoever asks


def test_the_database_refuses_a_build_without_a_demo(project: Project) -> None:
    with pytest.raises(IntegrityError, match="project_build_needs_approved_demo"), transaction.atomic():
        Project.objects.filter(pk=project.pk).update(status=ProjectStatus.BUILDING)


def test_the_database_refuses_a_build_of_a_demo_that_is_not_approved(project: Project) -> None:
    demo = ready_demo(project)

    with pytest.raises(IntegrityError, match="not approved at that commit"), transaction.atomic():
        Project.objects.filter(pk=project.pk).update(
            status=ProjectStatus.BUILDING, approved_demo_id=demo.pk, approved_demo_commit=demo.commit
        )


def test_the_database_refuses_a_build_of_another_commit_than_was_shown(project: Project) -> None:
    demo = ready_demo(project)
    Demo.objects.filter(pk=demo.pk).update(status=DemoStatus.APPROVED, approved_at=NOW)

    with pytest.raises(IntegrityError, match="not approved at that commit"), transaction.atomic():
        Project.objects.filter(pk=project.pk).update(
            status=ProjectStatus.BUILDING, approved_demo_id=demo.pk, approved_demo_commit="d" * 40
        )


def test_the_database_refuses_a_build_of_another_projects_demo(project: Project) -> None:
    demo = ready_demo(make_project())
    Demo.objects.filter(pk=demo.pk).update(status=DemoStatus.APPROVED, approved_at=NOW)

    with pytest.raises(IntegrityError, match="not approved at that commit"), transaction.atomic():
        Project.objects.filter(pk=project.pk).update(
            status=ProjectStatus.BUILDING, approved_demo_id=demo.pk, approved_demo_commit=demo.commit
        )


def test_the_database_refuses_a_second_approved_demo(project: Project) -> None:
    first = ready_demo(project)
    decide(first, "amend", "Blue.")
    second = ready_demo(project)
    decide(second, "approve")

    with pytest.raises(IntegrityError, match="demo_one_approved"), transaction.atomic():
        Demo.objects.create(
            project=project,
            demo_number=3,
            commit=COMMIT,
            status=DemoStatus.APPROVED,
            approved_at=NOW,
            token=new_token(),
            created_at=NOW,
            expires_at=LATER,
        )


def test_the_database_refuses_a_step_that_the_table_does_not_allow(project: Project) -> None:
    demo = ready_demo(project)
    decide(demo, "reject", "No.")

    with pytest.raises(ProgrammingError, match="Invalid transition"), transaction.atomic():
        Demo.objects.filter(pk=demo.pk).update(status=DemoStatus.APPROVED, approved_at=NOW)


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("demo_ready_has_commit", {"status": DemoStatus.READY, "commit": "", "ready_at": NOW}),
        ("demo_ready_has_commit", {"status": DemoStatus.READY, "commit": COMMIT}),
        ("demo_approved_has_commit", {"status": DemoStatus.APPROVED, "commit": "", "approved_at": NOW}),
        ("demo_number_once", {"demo_number": 1}),
    ],
)
def test_the_database_refuses_nonsense(project: Project, constraint: str, fields: dict[str, object]) -> None:
    open_demo(project)
    usual = {"demo_number": 2, "token": new_token(), "created_at": NOW, "expires_at": LATER}

    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Demo.objects.create(project=project, **(usual | fields))


def test_the_database_refuses_a_token_twice(project: Project) -> None:
    demo = open_demo(project)

    with pytest.raises(IntegrityError, match="token"), transaction.atomic():
        Demo.objects.create(project=project, demo_number=2, token=demo.token, created_at=NOW, expires_at=LATER)


def test_an_unknown_token_opens_nothing() -> None:
    assert queries.door(uuid4().hex) is None
