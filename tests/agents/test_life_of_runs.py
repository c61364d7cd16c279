"""No sequence of calls leads runs, agents and workers to an illegal state.

Hypothesis drives them through their actions, against PostgreSQL: right and wrong calls, on fresh rows and on copies
read long ago, while time goes by and the project is paused and resumed.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

import pytest
from django.db import models, transaction
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from agents.actions import agents, leases, outcomes, recovery, runs, workers
from agents.actions.dispatch import dispatch
from agents.actions.runs import Ending
from agents.actions.workers import Registration
from agents.models import Agent, Run, Worker
from agents.sandboxes import repository
from agents.states import (
    ACTIVE_RUN,
    AGENT_TRANSITIONS,
    LEASED_RUN,
    RUN_TRANSITIONS,
    WORKER_TRANSITIONS,
    AgentStatus,
    RunStatus,
    WorkerStatus,
)
from projects.actions import conflicts, projects, steering, tasks
from projects.actions.tasks import Setback
from projects.models import AuditChain, Project, Task
from projects.states import AWAITING_MERGE, RUNNING_TASK, TaskStatus
from tests.factories import COMMIT, NOW, TESTER, ProjectFactory, TaskFactory
from tests.projects import lives
from tests.stateful import Watched, explore

PICK = st.integers(0, 1_000)
BAD = sorted(set(RunStatus) - ACTIVE_RUN - {RunStatus.SUCCEEDED})
# The steps of a run that goes well.
NEXT = {
    RunStatus.QUEUED: "begin",
    RunStatus.STARTING: "work",
    RunStatus.RUNNING: "evaluate",
    RunStatus.EVALUATING: "merge",
    RunStatus.MERGING: "succeed",
}


class Work(Watched):
    """A project whose tasks are handed out to two machines."""

    tables: ClassVar[dict[type[models.Model], Any]] = {
        Run: RUN_TRANSITIONS,
        Agent: AGENT_TRANSITIONS,
        Worker: WORKER_TRANSITIONS,
    }

    @initialize()
    def begin(self) -> None:
        self.enter()
        self.now = NOW
        self.project = ProjectFactory(status="building")
        repository(self.project.pk).create()
        TaskFactory.create_batch(3, project=self.project)
        self.copies: list[Run] = []
        self.verbs: dict[str, Callable[[Run], object]] = {
            "hold": lambda run: leases.hold_run(run, owner="here", prompt_version_id=None, now=self.now),
            "claim": lambda run: leases.claim_run(run, now=self.now),
            "begin": self._hold_and_claim,
            "work": lambda run: runs.begin_running(run, base_commit=COMMIT, working_dir="/w", now=self.now),
            "note process": lambda run: runs.note_process(run, 7),
            "evaluate": lambda run: runs.begin_evaluation(run, commit=COMMIT, now=self.now),
            "merge": lambda run: runs.begin_merge(run, merge_commit=COMMIT, now=self.now),
            "merge again": lambda run: runs.merge_again(run, now=self.now),
            "succeed": lambda run: runs.succeed(run, result={}, now=self.now),
            "ask": self._ask,
            "conflict": self._conflict,
            "stop": lambda run: runs.stop_run(run, by=TESTER, now=self.now),
        }
        for name in ("one", "two"):
            self.register(name)
        self.hand_out()

    def is_recorded(self, model: type[models.Model], old: str, new: str) -> bool:
        # That a worker is busy follows from its runs.
        return {old, new} != {WorkerStatus.ONLINE, WorkerStatus.BUSY}

    def _hold_and_claim(self, run: Run) -> None:
        with transaction.atomic():
            leases.hold_run(run, owner="here", prompt_version_id=None, now=self.now)
            leases.claim_run(run, now=self.now)

    def _ask(self, run: Run) -> None:
        with transaction.atomic():
            runs.wait_for_answer(run, reason="blocked", detail="Which?", needs_admin=True, now=self.now)
            tasks.block_task(run.task, Setback("blocked", "Which?"), ask_person=True, by=TESTER, now=self.now)

    def _conflict(self, run: Run) -> None:
        told = {"conflict": {"paths": ["a"], "detail": "", "main": COMMIT, "commit": COMMIT, "run": str(run.pk)}}
        run.outcome = run.outcome or {"verb": "task_complete", "args": {"summary": "Done."}}
        outcomes.conflict(run, Ending(RunStatus.FAILED, "conflict", "Both.", told, counts=False), now=self.now)

    def _runs(self) -> list[Run]:
        return list(Run.objects.select_related("task__project", "project", "agent").order_by("created_at", "pk"))

    # -- runs

    @rule()
    def hand_out(self) -> None:
        closed = set(Worker.objects.exclude(cordoned_at=None, reason="").values_list("pk", flat=True))
        made: list[Any] = []
        self.attempt(lambda: made.extend(dispatch(now=self.now)))
        new = Run.objects.filter(pk__in=[one.run_id for one in made])
        assert not new.filter(worker__in=closed).exists()
        for worker in Worker.objects.filter(runs__in=new):
            assert worker.runs.filter(status__in=ACTIVE_RUN).count() <= worker.capacity

    @rule(pick=PICK, steps=st.integers(1, 5))
    def do_right(self, pick: int, steps: int) -> None:
        if not [run for run in self._runs() if run.is_active]:
            self.hand_out()
        for _ in range(steps):
            if going := [run for run in self._runs() if run.is_active]:
                run = going[pick % len(going)]
                self.attempt(partial(self.verbs[NEXT[RunStatus(run.status)]], run))

    @rule(pick=PICK, verb=st.sampled_from(
        ["hold", "claim", "work", "evaluate", "merge", "merge again", "succeed", "ask", "conflict", "conflict",
         "stop", "note process"]
    ), is_stale=st.booleans())  # fmt: skip
    def do_anything(self, pick: int, verb: str, is_stale: bool) -> None:
        found = self.copies if is_stale else self._runs()
        if found:
            self.attempt(partial(self.verbs[verb], found[-1 - pick % len(found)]))

    @rule(
        pick=PICK, status=st.sampled_from(BAD), counts=st.booleans(), what=st.sampled_from("ab"), is_stale=st.booleans()
    )
    def fail(self, pick: int, status: RunStatus, counts: bool, what: str, is_stale: bool) -> None:
        found = self.copies if is_stale else self._runs()
        if found:
            ending = Ending(status, "cli_failed", "It broke off.", counts=counts, what=what)
            self.attempt(partial(runs.fail, found[-1 - pick % len(found)], ending, now=self.now))

    @rule(owner=st.sampled_from(["here", "there"]))
    def renew_and_keep_copies(self, owner: str) -> None:
        self.copies = self._runs()
        renewed: dict[Any, Any] = {}
        keys = [run.pk for run in self.copies]
        self.attempt(lambda: renewed.update(leases.renew_leases(keys, owner=owner, now=self.now)))
        assert set(renewed) == {run.pk for run in self.copies if run.lease_owner == owner and run.is_active}

    # -- what happens around them

    @rule(name=st.sampled_from(["one", "two"]), verb=st.sampled_from(
        ["register", "break", "beat", "fill", "sign_off", "cordon", "drain", "uncordon", "uncordon", "forget"]
    ))  # fmt: skip
    def steer_worker(self, name: str, verb: str) -> None:
        if verb in {"register", "break"}:
            self.register(name, problem="no_docker" if verb == "break" else "")
        elif verb in {"beat", "fill"}:
            self.attempt(partial(workers.beat, name, running=2 if verb == "fill" else 0, now=self.now))
        elif verb == "sign_off":
            self.attempt(partial(workers.sign_off, name, now=self.now))
        elif worker := Worker.objects.filter(name=name).first():
            self.attempt(partial(getattr(workers, f"{verb}_worker"), worker, by=TESTER, now=self.now))

    def register(self, name: str, problem: str = "") -> None:
        given = Registration(name, f"runs.{name}", 2, "local", machine_id=f"id-{name}", problem=problem)
        self.attempt(partial(workers.register_worker, given, now=self.now))

    @rule(seconds=st.sampled_from([1, 20, 60, 3_600]))
    def let_time_pass(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        for look in (workers.notice_silent, recovery.end_lost_runs, recovery.requeue, recovery.stop_unwanted):
            self.attempt(partial(look, now=self.now))
        self.attempt(partial(recovery.stop_at_cancelled, now=self.now))
        self.attempt(partial(conflicts.ask_about_unresolved, by=recovery.SWEEP, now=self.now))
        waiting = Task.objects.filter(status=TaskStatus.BLOCKED, reason=AWAITING_MERGE)
        assert all(tasks.open_conflict_of(task) for task in waiting)
        assert not Run.objects.filter(status__in=LEASED_RUN, lease_until__lt=self.now).exists()

    @rule(pick=PICK, verb=st.sampled_from(
        ["pause", "resume", "resume", "retry", "skip", "reassign", "reassign", "dismiss"]
    ))  # fmt: skip
    def steer_project(self, pick: int, verb: str) -> None:
        project = Project.objects.get(pk=self.project.pk)
        match verb:
            case "pause":
                call: Any = partial(projects.pause_project, project, reason="")
            case "resume":
                call = partial(projects.resume_project, project)
            case "retry" | "skip" | "reassign":
                found = list(project.tasks.order_by("pk"))
                given = {"role": ("tester", "developer", "mentor")[pick % 3]} if verb == "reassign" else {}
                call = partial(getattr(steering, f"{verb}_task"), found[pick % len(found)], **given)
            case _ if pick % 5:  # for good
                return
            case _:
                call = partial(agents.dismiss_agents, project)
        self.attempt(partial(call, by=TESTER, now=self.now))

    # -- what always holds

    @invariant()
    def a_run_has_what_belongs_to_its_status(self) -> None:
        for run in self._runs():
            assert run.is_active == (run.finished_at is None), run
            assert run.is_active or not run.token_hash, f"{run} has ended, and its token lives"
            assert run.status not in LEASED_RUN or (run.lease_owner and run.lease_until and run.token_hash), run
            assert bool(run.reason) != run.is_active, f"{run}: {run.reason!r}"
            if run.is_active and run.task.status == TaskStatus.CANCELLED:
                continue  # a person left its task out: it is asked to end, and its work is not taken
            if run.is_active:
                assert run.task.status in RUNNING_TASK, f"{run}: its task is {run.task.status}"
                assert run.task.agent_id == run.agent_id

    @invariant()
    def an_agent_works_as_long_as_its_run(self) -> None:
        busy = set(Run.objects.filter(status__in=ACTIVE_RUN).values_list("agent_id", flat=True))
        for agent in Agent.objects.all():
            assert (agent.status == AgentStatus.WORKING) == (agent.pk in busy), agent
            assert agent.status == AgentStatus.WORKING or (agent.pid, agent.working_dir) == (None, ""), agent

    @invariant()
    def a_worker_is_shut_as_its_status_says(self) -> None:
        for worker in Worker.objects.all():
            assert worker.status != WorkerStatus.DRAINING or worker.cordoned_at, worker
            assert worker.status != WorkerStatus.ERROR or worker.reason, worker

    def teardown(self) -> None:
        for chain in AuditChain.objects.values_list("key", flat=True):
            lives.check_whole(chain)
        super().teardown()


@pytest.mark.django_db
def test_no_sequence_of_calls_reaches_an_illegal_state() -> None:
    explore(Work, examples=8, steps=20)
