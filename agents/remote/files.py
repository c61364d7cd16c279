"""The files of a remote run: given to its worker when it begins, and fetched back when it ends.

In the run's directory here, `incoming` holds what is asked of the worker and what came: whoever asks (the supervisor)
and whoever takes it in (the web server) share nothing else.

    begun               a relay was started, so the worker may have files
    <request>.wanted    the supervisor asked for the files; without it nothing is taken in
    <request>.part      what came so far
    <request>.tar       all of it, as announced
    <request>.none      the worker has nothing of this run
    <request>.too_large what it has is more than is taken
    given               what its worker gets as it begins, as an archive
    fetched, lost, too_large    how it ended
"""

import hashlib
import shutil
import time
from pathlib import Path
from uuid import UUID, uuid4

from django.db import close_old_connections

from agents.models import Run, Worker
from agents.remote.names import TO_WORKER, worker_group
from agents.runtimes.errors import RuntimeProblem
from agents.sandboxes import run_directory
from agents.states import ACTIVE_RUN, WorkerStatus
from agents.worker.archives import BadArchive, Most, pack, unpack
from projects.live import send

PARTS = ("workspace", "home", "empty")
"""Directories that the worker gets. Only the first comes back."""
MOST_ARCHIVE_BYTES = 64 * 2**20
PATIENCE_S = 300.0
AGAIN_S = 1.0
POLL_S = 0.05


class WorkerAway(RuntimeProblem):
    """A run's worker is gone, and with it what the run made since it began."""


class FilesTooLarge(RuntimeProblem):
    """The files of a run are more than go to a remote worker, or come back from one. Its text says what to do."""

    def __init__(self, *, goes_out: bool) -> None:
        what = "goes to" if goes_out else "comes back from"
        super().__init__(
            f"The checkout packs to more than the {MOST_ARCHIVE_BYTES:,} bytes that {what} a remote worker. Keep built "
            "files and data out of it before the run ends (delete them, or write them to /tmp), or have the task done "
            "on a worker of the house: cordon the remote ones on the page of workers meanwhile."
        )


class NotTaken(Exception):
    """What a worker sends does not fit; its text says why."""


def incoming(run_id: UUID) -> Path:
    """Return where a run's files arrive."""
    return run_directory(run_id) / "incoming"


def mark_begun(run_id: UUID) -> None:
    """Note that the worker may have something of the run from now on."""
    incoming(run_id).mkdir(mode=0o700, exist_ok=True)
    (incoming(run_id) / "begun").touch()


def give(run_id: UUID) -> None:
    """Pack the files of a run that is about to begin, for its worker to get. Raises FilesTooLarge, OSError."""
    mark_begun(run_id)
    archive = _given(run_id)
    pack(run_directory(run_id), PARTS, archive)
    if archive.stat().st_size > MOST_ARCHIVE_BYTES:
        archive.unlink()
        (incoming(run_id) / "begun").unlink()  # the worker never has anything of it
        raise FilesTooLarge(goes_out=True)


def given(run_id: UUID) -> Path:
    """Return the archive of the files of a run that is about to begin. Raises NotTaken when there is none."""
    archive = _given(run_id)
    if not archive.exists():
        raise NotTaken("This run has not begun: its files are not packed yet.")
    return archive


def _given(run_id: UUID) -> Path:
    return incoming(run_id) / "given"


# -- the supervisor's side


def fetch_last(run: Run) -> None:
    """Have the worker end the run's sandbox and give its files back. Again and again the same.

    Raises WorkerAway when they do not come: the worker is offline, has nothing, or the run is not ours any more; and
    FilesTooLarge when they are more than is taken.
    """
    place = incoming(run.pk)
    if not (place / "begun").exists() or (place / "fetched").exists():
        return
    if (place / "old").exists():  # whoever took the files in died in the middle of it
        _swap(place)
        return
    if (place / "lost").exists():
        raise WorkerAway("The worker is gone with what the run made.")
    if (place / "too_large").exists():
        raise FilesTooLarge(goes_out=False)
    request = uuid4().hex
    (place / f"{request}.wanted").touch()
    try:
        _wait(run, request, place)
        _take_in(place, request)
    except FilesTooLarge:
        (place / "too_large").touch()
        raise
    except (WorkerAway, BadArchive, OSError) as error:
        (place / "lost").touch()
        raise WorkerAway(f"The run's files did not come back: {error}") from error


def _wait(run: Run, request: str, place: Path) -> None:
    give_up, ask_at = time.monotonic() + PATIENCE_S, 0.0
    while not (place / f"{request}.tar").exists():
        if (place / f"{request}.none").exists():
            raise WorkerAway("the worker has nothing of it")
        if (place / f"{request}.too_large").exists():
            raise FilesTooLarge(goes_out=False)
        if time.monotonic() >= ask_at:
            _check_there(run)
            ask_at = time.monotonic() + AGAIN_S
            data = {"subtask_id": str(run.pk), "request": request, "reason": "over"}
            frame = {"type": "task_cancel", "data": data}
            send([worker_group(str(run.worker_id))], {"type": TO_WORKER, "frame": frame})
        if time.monotonic() > give_up:
            raise WorkerAway("the worker does not send them")
        time.sleep(POLL_S)


def _check_there(run: Run) -> None:
    there = Worker.objects.filter(runs=run).exclude(status=WorkerStatus.OFFLINE)
    ours = Run.objects.filter(pk=run.pk, status__in=ACTIVE_RUN)
    is_there, is_ours = there.exists(), ours.exists()
    close_old_connections()
    if not is_there or not is_ours:
        raise WorkerAway("the worker is offline" if is_ours else "the run was ended meanwhile")


def _take_in(place: Path, request: str) -> None:
    """Put the workspace that came in place of the one that was given."""
    new = place / "new"
    unpack(place / f"{request}.tar", new, names=["workspace"], most=Most())
    if not (new / "workspace").is_dir():
        raise BadArchive("there is no workspace in it")
    (place.parent / "workspace").rename(place / "old")
    _swap(place)


def _swap(place: Path) -> None:
    """Put what is unpacked where the old workspace was, which is aside. May be done again, whatever broke off."""
    if (place / "new" / "workspace").is_dir():
        (place / "new" / "workspace").rename(place.parent / "workspace")
    (place / "fetched").touch()
    shutil.rmtree(place / "old", ignore_errors=True)


# -- the web server's side


def take_piece(run_id: UUID, request: str, offset: int, piece: bytes) -> int:
    """Add a piece to what came, and return how much that is. Raises NotTaken."""
    part = _wanted(run_id, request)
    have = part.stat().st_size if part.exists() else 0
    if offset == have:
        if have + len(piece) > MOST_ARCHIVE_BYTES:
            part.unlink(missing_ok=True)
            part.with_suffix(".too_large").touch()
            part.with_suffix(".wanted").unlink(missing_ok=True)
            raise NotTaken(f"The files of a run have at most {MOST_ARCHIVE_BYTES:,} bytes as an archive.")
        with part.open("ab") as file:
            file.write(piece)
        have += len(piece)
    return have  # of a piece that came twice, or too early, nothing is taken


def complete(run_id: UUID, request: str, *, total: int, sha256: str) -> None:
    """Note that all came; with a total of 0 that there is nothing. Raises NotTaken."""
    part = _wanted(run_id, request)
    if total:
        if not part.exists() or part.stat().st_size != total:
            raise NotTaken("Not all of the files came; send what is missing.")
        with part.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                part.unlink()
                raise NotTaken("The files were damaged on their way; send them again.")
        part.rename(part.with_suffix(".tar"))
    else:
        part.with_suffix(".none").touch()
    part.with_suffix(".wanted").unlink(missing_ok=True)


def _wanted(run_id: UUID, request: str) -> Path:
    """Return where the pieces go. `request` is of hexadecimal digits alone. Raises NotTaken."""
    place = incoming(run_id)
    if not (place / f"{request}.wanted").exists():
        raise NotTaken("These files are not asked for, or came already.")
    return place / f"{request}.part"
