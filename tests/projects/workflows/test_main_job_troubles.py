"""Troubles of the main job: nodes of an agency that fail, decisions meanwhile, versions that would not do."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from projects.actions import main_job, nodes, plans, projects, redoing, steps, workflow_watch, workflows
from projects.models import Execution, ExecutionNode, Project
from projects.states import MAIN_JOB, NodeStatus, Stage
from projects.workflows.definition import Definition, InvalidWorkflow
from projects.workflows.documents import Document
from projects.workflows.finishing import write
from projects.workflows.work import Claimed, failed, succeeded
from tests.factories import NOW
from tests.projects import lives
from tests.projects.workflows.test_main_job import DRAFT, WHO, at, document, edge, job, kinds, made, with_nodes

pytestmark = pytest.mark.django_db


def claim(execution: Execution, key: str) -> Claimed:
    """Take a function node, as a runner does."""
    node = execution.nodes.get(key=key)
    assert node.status == NodeStatus.READY, node.status
    ExecutionNode.objects.filter(pk=node.pk).update(
        status="running", runner=1, lease_until=NOW, attempts=node.attempts + 1
    )
    node.refresh_from_db()
    plan = nodes.plan_of(execution.workflow_id)
    return Claimed(execution.pk, node.position, node.attempts, execution.workflow_id, plan, 1)


def end(execution: Execution, key: str, value: Any = None, *, fails: str = "") -> None:
    """Run a function node to its end."""
    claimed = claim(execution, key)
    outcome = failed(claimed, fails) if fails else succeeded(claimed, value or {})
    with transaction.atomic():
        written = write(lambda s, g: nodes.execute(s, {**g, "runner": 1}), [outcome], keep=0)
    steps.begin_ready(executions=written.to_begin, now=NOW)
    main_job.begin_ready(now=NOW)


def ours(*added: dict[str, Any], edges: list[dict[str, Any]], without: tuple[str, str] = ("", "")) -> None:
    workflows.save_workflow(with_nodes(*added, edges=edges, without=without), **WHO)


LICENCE = {"key": "licence", "function": "tests.nowhere", "title": "Check the licences"}


def test_function_beside_the_build_that_failed_is_retried_and_the_project_resumed() -> None:
    ours(LICENCE, edges=[edge("demo-approval", "licence"), edge("licence", "delivery")])
    project = Project.objects.get(pk=next(iter(lives.building().values())).project_id)
    assert at(project) == ["build"]
    end(job(project), "licence", fails="GPL")
    assert workflow_watch.pause_stuck(now=NOW) == 1
    redoing.retry_from(job(project), "licence", **WHO)
    project.refresh_from_db()
    projects.resume_project(project, **WHO)  # IllegalTransition: it is building already
    assert "build" in at(project)


def test_function_beside_the_plan_that_failed_makes_no_second_plan() -> None:
    ours(LICENCE, edges=[edge("requirements", "licence"), edge("licence", "demo")])
    project = made()
    plans.record_requirements(project, "", [DRAFT], **WHO)
    assert (at(project), kinds(project)) == (["plan"], ["requirements", "plan"])
    end(job(project), "licence", fails="GPL")
    workflow_watch.pause_stuck(now=NOW)
    redoing.retry_from(job(project), "licence", **WHO)
    project.refresh_from_db()
    projects.resume_project(project, **WHO)
    assert kinds(project) == ["requirements", "plan"]


def test_decision_while_the_main_job_had_failed_counts_after_the_retry() -> None:
    ours(LICENCE, edges=[edge("requirements", "licence"), edge("licence", "demo")])
    project = made()
    plans.record_requirements(project, "", [DRAFT], **WHO)
    approval = lives.propose(project)
    end(job(project), "licence", fails="GPL")
    workflow_watch.pause_stuck(now=NOW)
    lives.decide(approval, "amend", "Smaller.")
    redoing.retry_from(job(project), "licence", **WHO)
    project.refresh_from_db()
    projects.resume_project(project, **WHO)
    assert kinds(project).count("plan") == 2, f"the project stands still at {at(project)}"


def test_decision_kept_on_the_node_survives_a_retry_of_what_comes_before() -> None:
    ours(LICENCE, edges=[edge("plan", "licence"), edge("licence", "plan-approval")], without=("plan", "plan-approval"))
    project = made()
    plans.record_requirements(project, "", [DRAFT], **WHO)
    lives.decide(lives.propose(project), "approve")  # kept: the function is still at work
    claim(job(project), "licence")
    redoing.retry_from(job(project), "licence", **WHO)
    end(job(project), "licence")
    assert at(project) == ["demo"]


def test_function_whose_condition_left_out_the_rest_can_be_retried() -> None:
    ours(
        LICENCE,
        edges=[
            edge("demo-approval", "licence", when="result.decision == 'approve'"),
            edge("licence", "build", when="result.ok == true"),
        ],
        without=("demo-approval", "build"),
    )
    approval = lives.planned()
    lives.decide(approval, "approve")
    project = Project.objects.get(pk=approval.project_id)
    lives.build(project)
    end(job(project), "licence", {"ok": False})
    workflow_watch.pause_stuck(now=NOW)
    project.refresh_from_db()
    assert project.status == "paused"
    redoing.retry_from(job(project), "licence", **WHO)  # InvalidExecution: “build” has begun
    projects.resume_project(project, **WHO)
    end(job(project), "licence", {"ok": True})
    assert at(project) == ["build"]


def rounds(repeat: int) -> None:
    back = edge("plan-approval", "plan", when="result.decision != 'approve'", repeat=repeat)
    ours(edges=[back], without=("plan-approval", "plan"))


def test_people_who_ask_once_more_than_a_version_repeats_do_not_end_the_project() -> None:
    try:
        rounds(1)
    except InvalidWorkflow:
        return  # refused: just as well
    project = made()
    plans.record_requirements(project, "", [DRAFT], **WHO)
    lives.decide(lives.propose(project), "amend", "Smaller.")
    lives.decide(lives.propose(project), "amend", "Smaller still.")
    if workflow_watch.pause_stuck(now=NOW):
        redoing.retry_from(job(project), "plan-approval", **WHO)
        project.refresh_from_db()
        projects.resume_project(project, **WHO)
    assert at(project) == ["plan"]


def test_version_in_which_a_rejection_leads_nowhere_is_refused() -> None:
    with pytest.raises(InvalidWorkflow):
        ours(edges=[], without=("plan-approval", "plan"))


def test_version_in_which_a_stage_waits_for_any_is_refused() -> None:
    data = document().definition.to_json()
    data["edges"].append(edge("requirements", "build"))
    for node in data["nodes"]:
        if node["key"] == "build":
            node["join"] = "any"
    with pytest.raises(InvalidWorkflow):
        workflows.save_workflow(Document(MAIN_JOB, "Ours", "", Definition.from_json(data)), **WHO)


def test_version_in_which_a_branch_beside_stages_leads_back_before_them_is_refused() -> None:
    first = {"key": "first", "function": "tests.nowhere"}
    second = {"key": "second", "function": "tests.nowhere"}
    with pytest.raises(InvalidWorkflow):
        ours(
            first,
            second,
            edges=[
                edge("requirements", "first"),
                edge("first", "plan"),
                edge("first", "second"),
                edge("second", "delivery"),
                edge("second", "first", when="result.ok == false", repeat=5),
            ],
            without=("requirements", "plan"),
        )


def test_version_with_a_node_that_the_delivery_does_not_wait_for_is_refused() -> None:
    audit = {"key": "audit", "role": "qa", "title": "Audit the whole"}
    with pytest.raises(InvalidWorkflow):
        ours(audit, edges=[edge("build", "audit")])


def test_failed_main_job_of_a_paused_project_is_not_forgotten() -> None:
    ours(
        LICENCE,
        edges=[edge("plan-approval", "licence", when="result.decision == 'approve'"), edge("licence", "demo")],
        without=("plan-approval", "demo"),
    )
    project = made()
    plans.record_requirements(project, "", [DRAFT], **WHO)
    lives.decide(lives.propose(project), "approve")
    end(job(project), "licence", fails="GPL")
    workflow_watch.pause_stuck(now=NOW)
    Execution.objects.filter(project=project).update(finished_at=NOW)
    workflows.audit_executions(now=NOW)
    workflows.forget_old(now=NOW + timedelta(days=100))
    assert Execution.objects.filter(project=project).exists(), "and resumed it stands still for ever"


def test_project_paused_when_it_was_upgraded_gets_a_paused_main_job() -> None:
    project = made()
    Execution.objects.filter(project=project).delete()
    projects.pause_project(project, reason="", **WHO)
    main_job.reached(project, Stage.REQUIREMENTS, **WHO)
    assert job(project).status == "paused"
