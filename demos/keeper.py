"""Brings previews and rows together: what should run does, what should not is gone.

Each function looks at the rows and at the runtime, takes a step, and may be killed at any point: the next call goes on.
One step per preview at a time (`previews.claim`), and each preview on one machine (`Demo.kept_by`): others leave it
alone as long as its worker beats, and then one of them takes it. It reads the clock itself: starting takes seconds.
"""

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from agents import sandboxes
from agents.observations import is_disk_short
from agents.runtimes.contract import Runtime
from agents.runtimes.errors import RuntimeProblem
from agents.workspace.errors import WorkspaceError
from demos import actions, previews, queries
from demos.addresses import new_token
from demos.errors import PreviewFailed, Reason
from demos.models import Demo
from demos.previews import Preview
from demos.states import DemoStatus
from projects.actors import Actor
from projects.models import Task

logger = logging.getLogger(__name__)
KEEPER = Actor.system("demos")
_PLATFORM_PROBLEMS = (RuntimeProblem, WorkspaceError, OSError)
# What a disk that is full can make of any application.
_OF_DISK = frozenset({Reason.DID_NOT_START, Reason.DID_NOT_ANSWER})
T = TypeVar("T")


def previews_root() -> Path:
    """Return the directory of all previews."""
    return Path(settings.EKLAVYA_VAR) / "previews"


def preview_of(demo: Demo) -> Preview:
    """Return what is known of a demo's preview without looking."""
    return Preview(
        demo_id=demo.pk,
        project=sandboxes.network_name(demo.project_id),
        commit=demo.commit,
        root=previews_root(),
    )


def open_for(task: Task) -> Demo:
    """Open the demo of a completed demo task, once. Raises what `actions.open_demo` raises.

    The task's result says what there is to show: {"commit", "summary"}.
    """
    return actions.open_demo(
        task,
        commit=task.result.get("commit", ""),
        summary=task.result.get("summary", ""),
        token=new_token(),
        now=timezone.now(),
        by=KEEPER,
    )


def show(demo_id: UUID, runtime: Runtime) -> None:
    """Have a demo's preview run, and say where, or why not. Does nothing when it should not, or is in work."""
    demo = Demo.objects.get(pk=demo_id)
    previews.sign(previews_root(), settings.EKLAVYA_WORKER_NAME)
    if not _is_ours(demo, queries.present_workers()):
        return
    with previews.claim(preview_of(demo)) as mine:
        # Asked again inside: whoever held the claim before may have changed the row.
        wanting = queries.wanting_preview(timezone.now()).filter(pk=demo_id, kept_by=settings.EKLAVYA_WORKER_NAME)
        wanted = wanting.first() if mine else None
        if wanted is not None:
            _show(wanted, runtime)


def _show(demo: Demo, runtime: Runtime) -> None:
    preview = preview_of(demo)
    try:
        handle = previews.start(preview, repository=sandboxes.repository(demo.project_id), runtime=runtime)
    except PreviewFailed as failure:
        _take_failure(demo, failure)
    except _PLATFORM_PROBLEMS as problem:
        logger.warning("the preview of demo %s cannot be started: %s", demo.pk, problem)
        _try_later(demo, str(problem))
    else:
        previews.forget_failures(preview)
        address = f"{handle.host}:{handle.port}"
        if demo.status == DemoStatus.BUILDING:
            actions.mark_ready(demo, sandbox=handle.name, address=address, now=timezone.now(), by=KEEPER)
        else:
            actions.record_preview(demo, sandbox=handle.name, address=address, now=timezone.now(), by=KEEPER)


def _take_failure(demo: Demo, failure: PreviewFailed) -> None:
    """A demo that nobody has seen is built anew, unless a full disk may be why; one that did run may run again."""
    is_told = failure.reason not in _OF_DISK or not is_disk_short()
    if demo.status == DemoStatus.BUILDING and is_told:
        actions.mark_failed(demo, failure.reason, failure.detail, now=timezone.now(), by=KEEPER)
    else:
        _try_later(demo, failure.detail)


def _try_later(demo: Demo, detail: str) -> None:
    previews.postpone(preview_of(demo), time.time())
    actions.record_trouble(demo, detail, now=timezone.now(), by=KEEPER)


def keep(runtime: Runtime) -> list[UUID]:
    """Take every due step of this machine but the slow one, and return the demos that `show` is to be called for."""
    previews.sign(previews_root(), settings.EKLAVYA_WORKER_NAME)
    _each(queries.tasks_without_demo(), open_for)
    _each(queries.to_expire(timezone.now()), _expire)
    present = queries.present_workers()
    done = [demo for demo in queries.done_with_preview(timezone.now()) if _is_near(demo, present)]
    _each(done, lambda demo: _stop(demo, runtime))
    # First what runs, then who owns it: a preview made in between is not in the first list.
    running = previews.list_previews(runtime)
    wanted = [demo for demo in queries.wanting_preview(timezone.now()) if _is_ours(demo, present)]
    owned = {preview_of(demo).name for demo in _kept_here()}
    _each([name for name in running if name not in owned], runtime.kill)
    _remove_stale_directories()
    return [demo.pk for demo in wanted if _is_due(demo, runtime)]


def _is_near(demo: Demo, present: frozenset[str]) -> bool:
    """Whether no other machine that beats keeps a demo's preview."""
    return demo.kept_by == settings.EKLAVYA_WORKER_NAME or demo.kept_by not in present


def _is_ours(demo: Demo, present: frozenset[str]) -> bool:
    """Whether this machine keeps a demo's preview, from now on if nobody else does."""
    ours = settings.EKLAVYA_WORKER_NAME
    if not settings.EKLAVYA_PREVIEWS:
        if demo.kept_by == ours:  # whoever may keep it takes it; what runs here is ended
            actions.take_preview(demo, worker="", now=timezone.now(), by=KEEPER)
        return False
    if demo.kept_by == ours:
        return True
    return _is_near(demo, present) and actions.take_preview(demo, worker=ours, now=timezone.now(), by=KEEPER)


def _kept_here() -> QuerySet[Demo]:
    """Return the demos whose preview runs, or should, out of this data directory, whichever of its workers keeps it.

    Also while that worker is away: it comes back and finds its preview, or another takes the demo, and the data with it
    if it works out of this directory too.
    """
    return queries.wanting_preview(timezone.now()).filter(kept_by__in=previews.signed(previews_root()))


def _is_due(demo: Demo, runtime: Runtime) -> bool:
    """Whether a preview that should run does not, or not where the row says."""
    preview = preview_of(demo)
    handle = previews.find(preview, runtime)
    runs_as_recorded = handle is not None and demo.address == f"{handle.host}:{handle.port}"
    return not runs_as_recorded and previews.may_try(preview, time.time())


def _expire(demo: Demo) -> None:
    over = demo.expires_at <= timezone.now()
    reason = Reason.NOT_DECIDED if over else Reason.PROJECT_ENDED
    actions.expire_demo(demo, reason=reason, now=timezone.now(), by=KEEPER)


def _stop(demo: Demo, runtime: Runtime) -> None:
    """End a preview that is not wanted any more, and remove its things."""
    with previews.claim(preview_of(demo)) as mine:
        if mine and queries.done_with_preview(timezone.now()).filter(pk=demo.pk).exists():
            previews.stop(preview_of(demo), runtime)
            actions.record_stopped(demo, now=timezone.now(), by=KEEPER)


def _remove_stale_directories() -> None:
    """Remove what previews left that are over."""
    entries = previews.list_directories(previews_root())
    wanted = {str(demo.pk) for demo in _kept_here()}
    _each([entry for entry in entries if entry.name not in wanted], previews.remove_tree)


def stop_all(runtime: Runtime) -> None:
    """End every preview of this machine, keeping its data: `keep` starts it again. For the shutdown of the whole."""
    running = previews.list_previews(runtime)
    for demo in Demo.objects.filter(sandbox__in=running):
        actions.record_stopped(demo, now=timezone.now(), by=KEEPER)
    _each(running, runtime.kill)


def _each(items: Iterable[T], act: Callable[[T], object]) -> None:
    """Act on each; one that fails is logged, and the next sweep takes it up again."""
    for item in items:
        try:
            act(item)
        except Exception:
            logger.exception("%s failed for %s", getattr(act, "__name__", act), item)
