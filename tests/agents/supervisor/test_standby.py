"""Programs that boot before their runs are made: taken, not taken, rolled back, dead."""

import asyncio
from collections.abc import Callable, Iterator
from uuid import UUID

import psutil
import pytest
from django.utils import timezone

from agents.actions.dispatch import Host, dispatch
from agents.actions.leases import Held, Reserved
from agents.errors import UnknownToken
from agents.models import Run, Worker
from agents.queries import run_by_token
from agents.runtimes.contract import Runtime
from agents.runtimes.errors import RuntimeProblem
from agents.runtimes.local import LocalRuntime
from agents.sandboxes import repository, run_directory, runtime
from agents.states import RunStatus
from agents.supervisor import orphans, standby
from agents.supervisor.early import EarlyStart
from agents.supervisor.keeper import LeaseKeeper
from agents.supervisor.standby import Standbys
from agents.supervisor.supervise import Booted
from agents.supervisor.workplace import sandbox_name
from eklavya.rehearse.times import sessions
from projects.ids import new_id
from projects.models import Task
from projects.roles import Role
from projects.states import TaskKind
from tests.agents.supervisor.line import assert_nothing_is_left, processes_of, seed, task_of, wait_until

pytestmark = [pytest.mark.cli, pytest.mark.django_db(transaction=True)]


class Watched(Standbys):
    """Of which is known whose programs are up."""

    up: set[UUID]


@pytest.fixture
def standbys(keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    made = Watched(keeper=lambda: keeper, runtime=runtime, clock=timezone.now, size=2, keep_s=60)
    made.up, boot = set(), standby._Standby._boot

    def noted(self: standby._Standby, runner: asyncio.Runner, where: Runtime) -> Booted | None:
        booted = boot(self, runner, where)
        if booted is not None:
            made.up.add(self.reserved.run_id)
        return booted

    monkeypatch.setattr(standby._Standby, "_boot", noted)
    yield made
    made.close()
    assert not made.ids()


def chain() -> tuple[Task, Task]:
    """Two tasks of one role, of which the second waits for the first."""
    first = task_of(TaskKind.BUILD, Role.PM, key="guide")
    second = task_of(TaskKind.BUILD, Role.PM, key="more", project=first.project, depends_on=[first], status="pending")
    seed(first.project)
    return first, second


def dispatch_here(standbys: Standbys, before: Callable[[Held], None] = lambda _: None) -> Run:
    """Have the next run made and done by this process."""
    with EarlyStart(standbys) as early:

        def begin(held: Held) -> None:
            before(held)
            early.begin(held)

        worker = Worker.objects.get().name
        host = Host(worker, standbys.keeper().owner, begin, early.reserve)
        # What a beat of the keeper has just now is left out.
        (made,) = wait_until(lambda: dispatch(now=timezone.now(), host=host))
    return Run.objects.select_related("task", "agent").get(pk=made.run_id)


def waiting(standbys: Watched) -> Run:
    """Return the run to be whose program is up."""
    (run_id,) = standbys.ids()
    wait_until(lambda: run_id in standbys.up)
    run = Run(pk=run_id)
    assert processes_of(run)
    return run


def assert_gone(run: Run) -> None:
    """Nothing is left of a run that never came to be."""
    wait_until(lambda: not run_directory(run.pk).exists())
    assert processes_of(run) == []
    assert not runtime().is_alive(sandbox_name(run))


def test_the_next_run_takes_the_program_that_waits(standbys: Watched) -> None:
    _, second = chain()
    first_run = dispatch_here(standbys)
    assert first_run.status == RunStatus.SUCCEEDED, first_run.detail
    run = waiting(standbys)
    there = {process.pid for process in processes_of(run)}
    orphans.clear(runtime(), now=timezone.now(), expected=standbys.ids)
    seen: list[set[int]] = []

    def look(held: Held) -> None:
        assert held.run.pk == run.pk
        seen.append({process.pid for process in processes_of(run)})

    done = dispatch_here(standbys, before=look)

    assert (done.pk, done.task, done.status) == (run.pk, second, RunStatus.SUCCEEDED), done.detail
    assert there, "its program was up"
    assert seen == [there], "and was left alone until it was taken"
    assert repository(done.project_id).is_merged(done.base_commit)
    assert first_run.created_at < first_run.program_began_at < first_run.program_up_at < first_run.program_ended_at
    assert done.program_began_at < done.program_up_at < done.created_at < done.program_ended_at
    boot, work = list(sessions(first_run.project))[-2:]
    assert boot == (done.program_began_at, done.program_up_at)
    assert done.program_up_at < work[0] < work[1] == done.program_ended_at, "its waiting was no work"
    assert done.base_commit != first_run.base_commit, "its clone is of what the first one brought"
    assert_nothing_is_left(done)
    assert not standbys.ids()


def test_one_whose_program_died_has_its_run_done_like_any_other(standbys: Watched) -> None:
    chain()
    dispatch_here(standbys)
    run = waiting(standbys)

    def kill(held: Held) -> None:
        assert held.run.pk == run.pk
        for process in processes_of(run):
            process.kill()
            psutil.wait_procs([process], timeout=10)

    done = dispatch_here(standbys, before=kill)

    assert (done.pk, done.status) == (run.pk, RunStatus.SUCCEEDED), done.detail
    assert_nothing_is_left(done)


def test_one_whose_daemon_did_not_answer_once_is_given_to_nobody(
    standbys: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain()
    dispatch_here(standbys)
    run = waiting(standbys)

    def be_away(self: LocalRuntime, name: str) -> bool:
        raise RuntimeProblem("the daemon is being restarted")

    with monkeypatch.context() as patch:
        patch.setattr(LocalRuntime, "is_alive", be_away)
        wait_until(lambda: not standbys.ids())
    assert_gone(run)


def test_one_that_nobody_takes_goes_and_leaves_nothing(keeper: LeaseKeeper) -> None:
    chain()
    runs = run_directory(new_id()).parent
    before = set(runs.glob("*"))
    standbys = Standbys(keeper=lambda: keeper, runtime=runtime, clock=timezone.now, size=1, keep_s=0.1)
    dispatch_here(standbys)

    wait_until(lambda: not standbys.ids() and set(runs.glob("*")) <= before)


def test_its_token_opens_nothing_and_after_a_transaction_that_broke_off_it_goes(standbys: Watched) -> None:
    _, second = chain()
    dispatch_here(standbys)
    second.refresh_from_db()
    run = waiting(standbys)
    like = Run(
        project=second.project,
        task=second,
        agent=Run.objects.select_related("agent__member").get().agent,
        model=Run.objects.get().model,
        prompt_version_id=Run.objects.get().prompt_version_id,
    )

    like.model, model = "another", like.model
    assert standbys.reserve(like) is None
    like.model = model
    reserved = standbys.reserve(like)

    assert isinstance(reserved, Reserved)
    assert reserved.run_id == run.pk
    assert reserved.token not in repr(reserved)
    with pytest.raises(UnknownToken):
        run_by_token(reserved.token)
    assert standbys.reserve(like) is None, "it can be reserved once"
    standbys.release(reserved)
    assert standbys.reserve(like) is None, "whether a run has its id is not known"
    assert_gone(run)
