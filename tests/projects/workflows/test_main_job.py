"""The main job as an execution: every project has one, and goes from stage to stage by it."""

from typing import Any

import pytest
from django.db import transaction

from projects import queries
from projects.actions import main_job, nodes, plans, projects, redoing, workflow_watch, workflows
from projects.actions.workflows import InvalidExecution
from projects.errors import ProjectNotActive
from projects.models import AuditLog, Execution, ExecutionLog, ExecutionNode, Notification, Project, Workflow
from projects.states import MAIN_JOB, ExecutionStatus, NodeStatus, ProjectStatus, Stage, TaskKind
from projects.workflows import statements
from projects.workflows.definition import Definition, InvalidWorkflow
from projects.workflows.documents import Document
from projects.workflows.shipped import shipped
from tests.factories import COMMIT, NOW, TESTER, ProjectFactory
from tests.projects import lives
from tests.projects.conftest import Together

pytestmark = pytest.mark.django_db
WHO: Any = {"by": TESTER, "now": NOW}
DRAFT = plans.RequirementDraft("Lend", "", ["Lent."])


def made() -> Project:
    return projects.create_project(projects.NewProject("We lend tools."), **WHO)


def job(project: Project) -> Execution:
    return Execution.objects.select_related("workflow").get(project=project, workflow__key=MAIN_JOB)


def at(project: Project) -> list[str]:
    """The stages that are under way."""
    return list(job(project).nodes.filter(status=NodeStatus.RUNNING).values_list("key", flat=True))


def kinds(project: Project) -> list[str]:
    return list(project.tasks.order_by("created_at", "id").values_list("kind", flat=True))


def document() -> Document:
    return next(one for one in shipped() if one.key == MAIN_JOB)


def with_nodes(*added: dict[str, Any], edges: list[dict[str, Any]], without: tuple[str, str]) -> Document:
    """The main job with more nodes, and other edges than one of its own."""
    data = document().definition.to_json()
    data["nodes"] += added
    data["edges"] = [one for one in data["edges"] if (one["from"], one["to"]) != without] + edges
    return Document(MAIN_JOB, "Ours", "", Definition.from_json(data))


def test_project_begins_with_an_execution_of_the_main_job() -> None:
    project = made()
    assert (at(project), kinds(project)) == (["requirements"], [TaskKind.REQUIREMENTS])
    told = AuditLog.objects.get(project_id=project.pk, action="execution.started")
    assert told.details["workflow"] == MAIN_JOB


def test_project_goes_through_all_stages_by_its_execution() -> None:
    project = made()
    plans.record_requirements(project, "", [DRAFT], **WHO)
    assert (at(project), kinds(project)) == (["plan"], ["requirements", "plan"])
    approval = lives.propose(project)
    assert at(project) == ["plan-approval"]
    lives.decide(approval, "approve")
    project.refresh_from_db()
    assert (at(project), project.status, kinds(project)[-1]) == (["demo"], ProjectStatus.DEMO, TaskKind.DEMO)
    lives.build(project)
    project.refresh_from_db()
    assert (at(project), project.status) == (["build"], ProjectStatus.BUILDING)
    for key in ("storage", "pages", "report", "review"):
        lives.complete(project.tasks.get(key=key))
    assert queries.is_built(project)
    main_job.reached(project, Stage.BUILD, **WHO)
    projects.complete_project(project, commit=COMMIT, **WHO)
    execution = job(project)
    assert (execution.status, execution.result) == (ExecutionStatus.COMPLETED, {"delivery": {"commit": COMMIT}})
    lines = list(ExecutionLog.objects.filter(execution_id=execution.pk, event="begun").order_by("id"))
    assert [line.position for line in lines] == [0, 1, 2, 3, 4, 5, 6]


def test_plan_is_made_anew_as_often_as_people_ask() -> None:
    project = made()
    plans.record_requirements(project, "", [DRAFT], **WHO)
    for _ in range(3):
        lives.decide(lives.propose(project), "amend", "Smaller, please.")
        assert at(project) == ["plan"]
    lives.decide(lives.propose(project), "reject", "Not at all.")
    assert list(project.tasks.filter(kind="plan").order_by("id").values_list("key", flat=True))[-1] == "plan-5"
    lives.decide(lives.propose(project), "approve")
    assert at(project) == ["demo"]
    node = job(project).nodes.get(key="plan-approval")
    assert (node.repeats, node.result["decision"]) == (4, "approve")
    again = ExecutionLog.objects.filter(execution_id=job(project).pk, event="again")
    assert [line.detail.startswith("“plan-approval” leads back here") for line in again] == [True] * 4


def test_nothing_begins_while_the_project_is_paused() -> None:
    project = made()
    projects.pause_project(project, reason="", **WHO)
    plans.record_requirements(project, "", [DRAFT], **WHO)
    assert (job(project).status, at(project), kinds(project)) == (ExecutionStatus.PAUSED, [], ["requirements"])
    main_job.begin_ready(now=NOW)
    assert kinds(project) == ["requirements"]
    projects.resume_project(project, **WHO)
    assert (job(project).status, at(project), kinds(project)) == ("running", ["plan"], ["requirements", "plan"])


def test_cancelled_project_cancels_its_main_job() -> None:
    project = made()
    projects.cancel_project(project, reason="Too dear.", **WHO)
    assert (job(project).status, at(project)) == (ExecutionStatus.CANCELLED, [])


def test_stage_that_is_reached_twice_changes_nothing() -> None:
    project = made()
    assert main_job.reached(project, Stage.REQUIREMENTS, **WHO)
    assert not main_job.reached(project, Stage.REQUIREMENTS, **WHO)
    assert kinds(project) == ["requirements", "plan"]


def test_stage_whose_end_comes_before_its_beginning_ends_when_it_begins() -> None:
    project = made()
    main_job.reached(project, Stage.PLAN, **WHO)
    assert at(project) == ["requirements"]
    main_job.reached(project, Stage.REQUIREMENTS, **WHO)
    assert (at(project), kinds(project)) == (["plan-approval"], ["requirements"])


@pytest.mark.parametrize(
    ("status", "stage", "following"),
    [("planning", Stage.PLAN, "plan-approval"), ("building", Stage.BUILD, "delivery")],
)
def test_project_from_before_is_taken_up_where_it_is(status: str, stage: Stage, following: str) -> None:
    project = ProjectFactory(status=status)
    assert main_job.reached(project, stage, **WHO)
    assert at(project) == [following]
    done = job(project).nodes.get(key=stage.value)
    before = job(project).nodes.filter(position__lt=done.position)
    assert (done.status, {node.status for node in before}) == ("completed", {"skipped"})
    opened = job(project).nodes.filter(status__in=["pending", "running"]).count()
    assert job(project).open_count == opened == 7 - done.position - 1


def test_main_job_is_steered_with_its_project_only() -> None:
    execution = job(made())
    for verb in (workflows.pause_execution, workflows.resume_execution):
        with pytest.raises(InvalidExecution, match="the project instead"):
            verb(execution, **WHO)
    with pytest.raises(InvalidExecution, match="Cancel the project instead"):
        workflows.cancel_execution(execution, reason="", **WHO)
    with pytest.raises(InvalidExecution, match="has begun"):
        redoing.retry_from(execution, "requirements", **WHO)
    with pytest.raises(InvalidExecution, match="cannot be left out"):
        redoing.skip_node(execution, "requirements", **WHO)


def test_project_is_not_delivered_before_its_main_job_is_there() -> None:
    project = Project.objects.get(pk=next(iter(lives.building().values())).project_id)
    project.tasks.filter(kind="build").delete()
    with pytest.raises(ProjectNotActive, match="is not at “Delivery”"):
        projects.complete_project(project, commit=COMMIT, **WHO)


def test_two_decisions_at_the_same_moment_begin_one_demo(transactional_db: None, together: Together) -> None:
    approval = lives.planned()
    project = Project.objects.get(pk=approval.project_id)
    decided = {"decision": "approve"}
    project.plans.update(status="active", decided_at=NOW)

    def decide() -> bool:
        with transaction.atomic():
            found = Project.objects.get(pk=project.pk)
            return main_job.reached(found, Stage.PLAN_APPROVAL, decided, **WHO)

    results = [one.result() for one in together(decide, decide, decide)]
    assert sorted(results) == [False, False, True]
    assert kinds(project).count(TaskKind.DEMO) == 1


# What an agency adds to it


def test_agency_adds_a_step_of_its_own_before_the_delivery() -> None:
    audit = {"key": "audit", "role": "qa", "title": "Audit the whole", "brief": "Read all of it."}
    ours = with_nodes(
        audit,
        edges=[{"from": "build", "to": "audit"}, {"from": "audit", "to": "delivery"}],
        without=("build", "delivery"),
    )
    workflows.save_workflow(ours, **WHO)
    project = Project.objects.get(pk=next(iter(lives.building().values())).project_id)
    assert job(project).workflow.name == "Ours"

    main_job.reached(project, Stage.BUILD, **WHO)
    assert at(project) == ["audit"]
    with pytest.raises(ProjectNotActive, match="not at “Delivery”"):
        main_job.check_at(project, Stage.DELIVERY)
    lives.complete(project.tasks.get(kind=TaskKind.STEP))
    main_job.begin_ready(now=NOW)
    assert at(project) == ["delivery"]


def test_project_whose_own_step_failed_is_paused_and_goes_on_when_that_is_done_anew() -> None:
    check = {"key": "licence", "function": "tests.nowhere", "title": "Check the licences"}
    ours = with_nodes(
        check,
        edges=[{"from": "requirements", "to": "licence"}, {"from": "licence", "to": "plan"}],
        without=("requirements", "plan"),
    )
    workflows.save_workflow(ours, **WHO)
    project = made()
    main_job.reached(project, Stage.REQUIREMENTS, **WHO)
    execution = job(project)
    node = execution.nodes.get(key="licence")
    assert node.status == NodeStatus.READY
    ExecutionNode.objects.filter(pk=node.pk).update(status="running", runner=1, lease_until=NOW, attempts=1)
    ExecutionNode.objects.filter(pk=node.pk).update(status="failed", runner=None, lease_until=None, finished_at=NOW)
    with transaction.atomic():
        nodes.execute(statements.STOP, {"execution": execution.pk, "status": "failed", "detail": "GPL is in it."})

    assert workflow_watch.pause_stuck(now=NOW) == 1
    project.refresh_from_db()
    assert (project.status, project.status_reason) == ("paused", "Its main job ended: GPL is in it.")
    assert Notification.objects.filter(project=project, title__contains="its main job ended").count() == 1
    assert workflow_watch.pause_stuck(now=NOW) == 0

    redoing.retry_from(job(project), "licence", **WHO)
    projects.resume_project(project, **WHO)
    assert job(project).nodes.get(key="licence").status == NodeStatus.READY
    assert workflow_watch.pause_stuck(now=NOW) == 0


def edge(start: str, end: str, **fields: Any) -> dict[str, Any]:
    return {"from": start, "to": end, **fields}


NODE = {"key": "more", "function": "noop"}
ROLE = {"key": "more", "role": "qa", "title": "More"}


@pytest.mark.parametrize(
    ("added", "edges", "without", "said"),
    [
        ([], [edge("requirements", "demo")], ("plan-approval", "demo"), "“demo” must come after “plan_approval”"),
        ([ROLE], [edge("plan", "more"), edge("more", "build")], ("", ""), "must come after the stage “build”"),
        ([NODE], [edge("delivery", "more")], ("", ""), "does not wait for “more”"),
        ([], [edge("build", "plan", when="result.ok == false", repeat=3)], ("", ""), "would repeat: build, demo"),
        ([{"key": "more", "stage": "build", "title": "x"}], [edge("build", "more")], ("", ""), "each stage once"),
    ],
)
def test_main_job_that_cannot_be_carried_out_is_refused(
    added: list[Any], edges: list[Any], without: tuple[str, str], said: str
) -> None:
    with pytest.raises(InvalidWorkflow) as caught:
        workflows.save_workflow(with_nodes(*added, edges=edges, without=without), **WHO)
    assert said in str(caught.value)


def test_stages_are_the_main_job_s_alone() -> None:
    with pytest.raises(InvalidWorkflow, match="Only main_job has stages"):
        workflows.save_workflow(Document("ours", "Ours", "", document().definition), **WHO)


def test_version_that_was_only_a_picture_is_not_carried_out() -> None:
    picture = {"nodes": [{"key": "only", "role": "pm", "title": "Write"}], "edges": []}
    Workflow.objects.create(key=MAIN_JOB, version=1, name="Old", definition=picture, created_by="tests", created_at=NOW)
    assert job(made()).workflow.version == 2
