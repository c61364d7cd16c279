"""What remote workers report of runs: files that nobody asked for, another's, too late, twice, too many, or hostile."""

import gzip
import hashlib
import io
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.urls import reverse
from pytest_django import Settings

from accounts.scopes import Scope
from agents.api import remote as api
from agents.models import Run
from agents.remote import files
from agents.sandboxes import run_directory
from agents.worker.archives import BadArchive, Most, pack, unpack
from projects.ids import new_id
from tests.agents.remote.joined import Machine, refusals
from tests.agents.test_views_files import whole
from tests.factories import RunFactory, WorkerFactory

pytestmark = pytest.mark.django_db
REQUEST = "0" * 32


@pytest.fixture
def asked(machine: Machine, settings: Settings, tmp_path: Path) -> Run:
    """A run whose files the server asked for."""
    settings.EKLAVYA_VAR = tmp_path
    run: Run = RunFactory(status="running", worker=machine.worker)
    run_directory(run.pk).mkdir(parents=True)
    files.mark_begun(run.pk)
    (files.incoming(run.pk) / f"{REQUEST}.wanted").touch()
    return run


def put(machine: Machine, run_id: Any, data: bytes, *, offset: int = 0, request: str = REQUEST) -> int:
    address = reverse("api_run_files", args=[run_id]) + f"?request={request}&offset={offset}"
    return machine.client.put(address, data, content_type="application/octet-stream").status_code


def report(machine: Machine, run_id: Any, data: bytes, **more: Any) -> int:
    said = {"request": REQUEST, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} | more
    return machine.client.post(
        reverse("api_run_result", args=[run_id]), said, content_type="application/json"
    ).status_code


def test_pieces_that_come_twice_or_too_early_are_taken_once(machine: Machine, asked: Run) -> None:
    for offset, data in ((0, b"ab"), (0, b"ab"), (5, b"x"), (2, b"cd"), (2, b"cd")):
        assert put(machine, asked.pk, data, offset=offset) == 200
    assert report(machine, asked.pk, b"abcX") == 409

    for offset, data in ((0, b"ab"), (2, b"cd")):  # what was damaged is sent again
        put(machine, asked.pk, data, offset=offset)
    assert report(machine, asked.pk, b"abcd") == 200
    assert (files.incoming(asked.pk) / f"{REQUEST}.tar").read_bytes() == b"abcd"


def test_results_twice_or_not_asked_for_are_refused(machine: Machine, asked: Run) -> None:
    assert report(machine, asked.pk, b"") == 200
    assert report(machine, asked.pk, b"") == 409
    assert put(machine, asked.pk, b"x", request="1" * 32) == 409
    assert put(machine, asked.pk, b"x", request="../" + "1" * 29) == 400
    assert refusals() == ["result_not_taken", "files_not_taken"]


def test_a_result_of_100_megabytes_is_refused(
    machine: Machine,
    asked: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "MOST_ARCHIVE_BYTES", 2_000)
    assert put(machine, asked.pk, b"x" * 1_999) == 200
    assert put(machine, asked.pk, b"x" * 2, offset=1_999) == 409
    assert not list(files.incoming(asked.pk).glob("*.part")), "it keeps no place"
    assert refusals() == ["files_not_taken"]


def test_of_a_piece_no_more_is_read_than_may_be_taken(
    machine: Machine, asked: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MOST_PIECE_BYTES", 100)
    assert put(machine, asked.pk, b"x" * 101) == 409
    assert not list(files.incoming(asked.pk).glob("*.part"))
    assert len(api.Bytes().parse(io.BytesIO(b"x" * 1_000))) == 101


@pytest.mark.parametrize("whose", ["another's", "over", "unknown"])
def test_reports_of_runs_that_a_worker_does_not_have_are_refused(
    machine: Machine,
    asked: Run,
    whose: str,
) -> None:
    others = {
        "another's": RunFactory(status="running", worker=WorkerFactory()).pk,
        "over": RunFactory(status="lost", worker=machine.worker).pk,
        "unknown": new_id(),
    }
    run_id = others[whose]

    assert put(machine, run_id, b"x") == 409
    assert report(machine, run_id, b"x") == 409
    assert machine.client.get(reverse("api_run_files", args=[run_id])).status_code == 409
    assert refusals() == ["run_ended" if whose == "over" else "not_its_run"]


def test_a_worker_gets_the_files_of_its_own_run(machine: Machine, asked: Run, tmp_path: Path) -> None:
    (run_directory(asked.pk) / "workspace").mkdir()
    (run_directory(asked.pk) / "workspace" / "a").write_text("a")
    assert machine.client.get(reverse("api_run_files", args=[asked.pk])).status_code == 409
    files.give(asked.pk)

    answer = machine.client.get(reverse("api_run_files", args=[asked.pk]))

    assert answer.streaming
    (tmp_path / "got").write_bytes(async_to_sync(whole)(answer.streaming_content))
    unpack(tmp_path / "got", tmp_path / "there", names=["workspace"], most=Most())
    assert (tmp_path / "there/workspace/a").read_text() == "a"
    assert (
        Machine(Scope.WORKERS_JOIN, machine_id="b" * 32)
        .client.get(reverse("api_run_files", args=[asked.pk]))
        .status_code
        == 404
    )


def test_directories_come_back_as_they_were_without_litter(tmp_path: Path) -> None:
    work = tmp_path / "run/workspace"
    (work / "node_modules").mkdir(parents=True)
    (work / "node_modules/x").touch()
    (work / "tool").write_text("#!/bin/sh")
    (work / "tool").chmod(0o755)
    (work / "out").symlink_to("/etc/passwd")
    (work / "dir").mkdir()

    pack(tmp_path / "run", ["workspace", "missing"], tmp_path / "a.tar")
    unpack(tmp_path / "a.tar", tmp_path / "new", names=["workspace"], most=Most())

    new = tmp_path / "new/workspace"
    assert sorted(path.name for path in new.iterdir()) == ["dir", "out", "tool"]
    assert ((new / "tool").stat().st_mode & 0o777, (new / "out").readlink()) == (0o755, Path("/etc/passwd"))


def entry(name: str, content: bytes = b"", **about: Any) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.size = len(content)
    for key, value in about.items():
        setattr(made, key, value)
    return made, content


HOSTILE = {
    "upwards": [entry("workspace/../../out", b"x")],
    "absolute": [entry("/workspace/out", b"x")],
    "elsewhere": [entry("control/launcher", b"x")],
    "through a file": [entry("workspace/a", b"x"), entry("workspace/a/b", b"x")],
    "twice": [entry("workspace/a", b"x"), entry("workspace/a", b"y")],
    "too large": [entry("workspace/a", b"x" * 2_000)],
    "too many": [entry(f"workspace/{n}") for n in range(20)],
    "long": [entry("workspace/" + "a/" * 2_000 + "b", b"x")],
    "deep": [entry("workspace/" + "/".join("d" * 1_400), type=tarfile.DIRTYPE)],
    "of no time": [entry("workspace/a", pax_headers={"mtime": "nan"})],
    "with holes": [entry("workspace/a", type=tarfile.GNUTYPE_SPARSE)],
    "of negative size": [entry("workspace/a", pax_headers={"size": "-1536"})],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "a.tar", HOSTILE[kind])

    with pytest.raises(BadArchive):
        unpack(tmp_path / "a.tar", tmp_path / "new", names=["workspace"], most=Most(entries=10, bytes=1_000))
    assert not (tmp_path / "out").exists()


def test_a_file_from_the_far_future_is_taken_all_the_same(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", [entry("workspace/a", pax_headers={"mtime": "1e300"})])
    unpack(tmp_path / "a.tar", tmp_path / "new", names=["workspace"], most=Most())
    assert (tmp_path / "new/workspace/a").exists()


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_no_header_is_read_into_memory_whatever_its_length(kind: bytes, tmp_path: Path) -> None:
    header = tarfile.TarInfo("h")
    header.type, header.size = kind, 32 * 2**20
    with gzip.open(tmp_path / "a.tar", "wb", compresslevel=1) as out:
        out.write(header.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(32):
            out.write(b"\0" * 2**20)
    tracemalloc.start()
    try:
        with pytest.raises(BadArchive, match="header"):
            unpack(tmp_path / "a.tar", tmp_path / "new", names=["workspace"], most=Most())
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_what_is_skipped_counts_too(tmp_path: Path) -> None:
    skipped = entry("workspace/pipe", b"\0" * 4 * 2**20, type=b"Z")
    write(tmp_path / "a.tar", [skipped, entry("workspace/a")])
    with pytest.raises(BadArchive):
        unpack(tmp_path / "a.tar", tmp_path / "new", names=["workspace"], most=Most(entries=10, bytes=1_000))


def test_nothing_is_written_through_a_link_that_came_along(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    link = entry("workspace/d", type=tarfile.SYMTYPE, linkname=str(tmp_path / "victim"))
    write(tmp_path / "a.tar", [link, entry("workspace/d/f", b"x"), entry("workspace/p", type=tarfile.FIFOTYPE)])

    unpack(tmp_path / "a.tar", tmp_path / "new", names=["workspace"], most=Most())

    assert list((tmp_path / "victim").iterdir()) == []
    assert (tmp_path / "new/workspace/d/f").read_bytes() == b"x"
    assert not (tmp_path / "new/workspace/p").exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x1f\x8b\x08\x00" + b"\x00" * 50])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(content)

    with pytest.raises((BadArchive, OSError)):
        unpack(tmp_path / "a.tar", tmp_path / "new", names=["workspace"], most=Most())


def write(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for about, content in entries:
            tar.addfile(about, io.BytesIO(content))
