"""No sequence of calls leads to an illegal state.

Hypothesis drives projects, plans, tasks and approvals through their actions, against PostgreSQL: right and wrong calls,
on fresh rows and on copies read long ago. Each call does its work or raises a DomainError; a database error, or a
broken invariant after any call, is a defect.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from projects.actions import approvals, conflicts, plans, projects, steering, tasks
from projects.actions.approvals import Decision
from projects.actions.plans import RequirementDraft
from projects.actions.tasks import Setback
from projects.errors import DomainError
from projects.models import Approval, Plan, Project, Task
from projects.plans import PlannedTask
from projects.states import (
    APPROVAL_TRANSITIONS,
    AWAITING_MERGE,
    OPEN_TASK,
    PLAN_TRANSITIONS,
    PROJECT_TRANSITIONS,
    TASK_TRANSITIONS,
    TaskKind,
    TaskStatus,
)
from tests.factories import COMMIT, NOW, TESTER, AgentFactory
from tests.projects import lives
from tests.stateful import reachable

WHO: Any = {"by": TESTER, "now": NOW}
TABLES = {
    Project: PROJECT_TRANSITIONS,
    Plan: PLAN_TRANSITIONS,
    Task: TASK_TRANSITIONS,
    Approval: APPROVAL_TRANSITIONS,
}
PICK = st.integers(0, 10_000)
OFTEN_NOT = st.integers(0, 5).map(lambda number: number == 0)
GRAPH = st.lists(st.sets(st.integers(0, 5), max_size=3), min_size=1, max_size=6).map(
    lambda edges: [
        PlannedTask(f"t{number}", "T", "developer", depends_on=tuple(f"t{of}" for of in sorted(edge) if of < number))
        for number, edge in enumerate(edges)
    ]
)
NEXT = {
    TaskStatus.READY: "allocate",
    TaskStatus.ALLOCATED: "start",
    TaskStatus.IN_PROGRESS: "review",
    TaskStatus.REVIEW: "complete",
    TaskStatus.BLOCKED: "unblock",
    TaskStatus.FAILED: "unblock",
}


class Life(RuleBasedStateMachine):
    """One project, whatever happens to it."""

    @initialize(phase=st.sampled_from(["building", "building", "demo", "planning"]), graph=GRAPH)
    def begin(self, phase: str, graph: list[PlannedTask]) -> None:
        self._undo = transaction.atomic()
        self._undo.__enter__()
        self.project = projects.create_project(projects.NewProject("We lend tools."), **WHO)
        self.agent_id = AgentFactory(project=self.project).pk
        self.copies: list[Task] = []
        self.freed: list[UUID] = []
        self.seen: dict[tuple[type, UUID], str] = {}
        self.verbs: dict[str, Callable[[Task], object]] = {
            "allocate": lambda task: tasks.allocate_tasks([(task, self.agent_id)], **WHO),
            "start": lambda task: tasks.start_tasks([task], **WHO),
            "progress": lambda task: tasks.report_progress(task, 50, "Half.", **WHO),
            "review": lambda task: tasks.review_task(task, **WHO),
            "complete": lambda task: self.freed.extend(tasks.complete_task(task, {}, **WHO)),
            "set_back": lambda task: tasks.set_back(task, Setback("oops", "Oops."), **WHO),
            "lose": lambda task: tasks.set_back(task, Setback("lost", "", counts=False), **WHO),
            "block": lambda task: tasks.block_task(task, Setback("stuck", "How?"), ask_person=True, **WHO),
            "wait": lambda task: tasks.block_task(task, Setback("waits", "How?"), ask_person=False, **WHO),
            "conflict": self._conflict,
            "ask": lambda task: tasks.ask_questions(task, [{"question": "Why?"}], **WHO),
            "unblock": self._unblock,
            "fail": lambda task: tasks.fail_task(task, reason="given_up", detail="", **WHO),
        }
        if phase != "planning":
            self.require()
            lives.decide(lives.propose(self.project, graph), "approve")
        if phase == "building":
            self.build()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self._undo.__exit__(None, None, None)

    def _try(self, call: Callable[[], object]) -> None:
        with suppress(DomainError):
            call()

    def _fresh(self) -> Project:
        return Project.objects.get(pk=self.project.pk)

    def _unblock(self, task: Task) -> None:
        # What waits for a person goes on by the person's decision.
        if not task.approvals.filter(status__in=["pending", "escalated"]).exists():
            tasks.unblock_task(task, {}, **WHO)

    def _conflict(self, task: Task) -> None:
        if task.kind == TaskKind.CONFLICT:
            tasks.set_back(task, Setback("conflict", "", counts=False), **WHO)
            return
        told = Setback("conflict", "", {"conflict": {"paths": ["a"], "commit": COMMIT, "main": COMMIT}}, counts=False)
        key = f"conflict-{task.key[:30]}-{task.subtasks.count()}"
        conflicts.open_conflict(task, told, key=key, handed_in={"summary": "Done."}, **WHO)

    # -- the project

    @rule(graph=GRAPH)
    def propose(self, graph: list[PlannedTask]) -> None:
        self._try(lambda: plans.propose_plan(self._fresh(), "Small.", graph, **WHO))

    @rule()
    def require(self) -> None:
        draft = RequirementDraft("Lend", "", ["Lent."])
        self._try(lambda: plans.record_requirements(self._fresh(), "Lendery", [draft], **WHO))

    @rule()
    def build(self) -> None:
        project = self._fresh()
        if not project.plans.filter(status="active").exists():
            return
        self._try(lambda: lives.build(project))

    @rule(is_stale=st.booleans())
    def pause(self, is_stale: bool) -> None:
        project = self.project if is_stale else self._fresh()
        self._try(lambda: projects.pause_project(project, reason="", **WHO))

    @rule(is_stale=st.booleans())
    def resume(self, is_stale: bool) -> None:
        project = self.project if is_stale else self._fresh()
        self._try(lambda: projects.resume_project(project, **WHO))

    @rule()
    def deliver(self) -> None:
        self._try(lambda: projects.complete_project(self._fresh(), commit="c" * 40, **WHO))

    @rule(really=OFTEN_NOT)
    def cancel(self, really: bool) -> None:
        if really:
            self._try(lambda: projects.cancel_project(self._fresh(), reason="", **WHO))

    @rule(really=OFTEN_NOT)
    def archive(self, really: bool) -> None:
        if really:
            self._try(lambda: projects.archive_project(self._fresh(), **WHO))

    @rule()
    def sweep(self) -> None:
        conflicts.ask_about_unresolved(**WHO)
        waiting = Task.objects.filter(reason=AWAITING_MERGE, status="blocked")
        assert all(task.subtasks.filter(kind="conflict", status__in=OPEN_TASK).count() == 1 for task in waiting)

    @rule(pick=PICK, verb=st.sampled_from(["retry", "reassign"]))
    def steer(self, pick: int, verb: str) -> None:
        if found := list(Task.objects.exclude(status="completed").order_by("pk")):
            given = {"role": ("tester", "developer")[pick % 2]} if verb == "reassign" else {}
            self._try(partial(getattr(steering, f"{verb}_task"), found[pick % len(found)], **given, **WHO))

    @rule()
    def escalate(self) -> None:
        approvals.escalate_overdue(by=TESTER, now=NOW + approvals.DEADLINE)

    # -- decisions and tasks

    @rule(pick=PICK, option=st.sampled_from(["approve", "amend", "reject", "answer", "retry", "give_up", "no"]))
    def decide_any(self, pick: int, option: str) -> None:
        found = list(self.project.approvals.order_by("pk"))
        approval = found[pick % len(found)] if found else None
        if approval:
            self._try(lambda: approvals.decide(approval.pk, Decision(option, "Because.", ["So."]), **WHO))

    @rule(pick=PICK)
    def decide_rightly(self, pick: int) -> None:
        waiting = list(self.project.approvals.filter(status__in=["pending", "escalated"]).order_by("pk"))
        if waiting:
            approval = waiting[pick % len(waiting)]
            decision = Decision(approval.recommended, "", ["So."] if approval.questions else [])
            self._try(lambda: approvals.decide(approval.pk, decision, **WHO))

    @rule(pick=PICK, verb=st.sampled_from(
        ["allocate", "start", "progress", "review", "complete", "set_back", "lose", "block", "wait", "ask", "unblock",
         "fail", "conflict", "conflict"]
    ), is_stale=st.booleans())  # fmt: skip
    def do_anything(self, pick: int, verb: str, is_stale: bool) -> None:
        found = self.copies if is_stale else list(Task.objects.select_related("project").order_by("pk"))
        if found:
            task = found[pick % len(found)]
            self._try(lambda: self.verbs[verb](task))

    @rule(pick=PICK, steps=st.integers(1, 4))
    def do_right(self, pick: int, steps: int) -> None:
        going = list(Task.objects.select_related("project").filter(status__in=NEXT).order_by("pk"))
        task = going[pick % len(going)] if going else None
        for _ in range(steps):
            if task and task.status in NEXT:
                verb = self.verbs[NEXT[TaskStatus(task.status)]]
                self._try(partial(verb, task))

    @rule()
    def keep_copies(self) -> None:
        self.copies = list(Task.objects.select_related("project").order_by("pk"))

    # -- what always holds

    @invariant()
    def everything_holds(self) -> None:
        lives.check_invariants(self._fresh())

    @invariant()
    def states_only_go_where_their_tables_lead(self) -> None:
        for model, table in TABLES.items():
            for key, new in model._default_manager.values_list("pk", "status"):
                old = self.seen.get((model, key), new)
                assert new in reachable(table, old), f"{model.__name__}: {old} → {new}"
                self.seen[model, key] = new

    @invariant()
    def what_resolves_a_conflict_is_below_a_task_that_waits_for_it(self) -> None:
        for task in Task.objects.filter(kind="conflict").select_related("parent"):
            assert task.parent is not None
            if task.status in OPEN_TASK:
                assert (task.parent.status, task.parent.reason) == ("blocked", AWAITING_MERGE)
        assert not Task.objects.filter(status="completed", kind="conflict", parent__reason=AWAITING_MERGE).exists()

    @invariant()
    def what_is_free_was_freed_once(self) -> None:
        assert len(self.freed) == len(set(self.freed))
        waited = Task.objects.filter(kind="build", dependency_edges__isnull=False).exclude(status="pending")
        assert set(waited.exclude(status="cancelled").values_list("pk", flat=True)) <= set(self.freed)


@pytest.mark.timeout(900)  # of chance how many steps it takes, and it is one of three that share two processors
@pytest.mark.django_db
@pytest.mark.usefixtures("published")
def test_no_sequence_of_calls_reaches_an_illegal_state() -> None:
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
