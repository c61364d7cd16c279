"""manage.py backup and restore: what was there is there again, in a fresh database and data directory."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pgtrigger
import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from psycopg import sql
from pydantic import SecretStr
from pytest_django import Settings

from agents.actions.transcript import Line, record_lines
from agents.models import Run, RunEvent
from agents.sandboxes import repository, repository_at, run_directory
from agents.workspace.values import PLATFORM
from billing import actions as billing
from billing.prices import Usage
from eklavya.backups import checking, making, manifest, restoring
from eklavya.backups.manifest import BackupProblem
from eklavya.env import BASE_DIR
from eklavya.management.commands._backups import database_url
from eklavya.services.sockets import postgres_url
from eklavya.services.testing import TestServers
from projects.actions.secrets import set_secret
from projects.models import Project
from tests.factories import NOW, TESTER, PriceFactory, ProjectFactory, RunFactory, TaskFactory

pytestmark = pytest.mark.django_db(transaction=True)
PASSPHRASE = "a horse in the kitchen"
UNKNOWN = "0" * 40


@pytest.fixture(autouse=True)
def _var(settings: Settings, tmp_path: Path) -> None:
    settings.EKLAVYA_VAR = tmp_path


@pytest.fixture
def run() -> Run:
    """A run that was merged and paid for, said something, and left what no reference but its own leads to."""
    project: Project = ProjectFactory(status="building")
    run: Run = RunFactory(task=TaskFactory(project=project, status="in_progress"), status="running")
    price = PriceFactory()
    billing.open_budgets(
        [billing.Opening(project, run_id=run.pk, run_limit=Decimal(4), agent_id=run.agent_id)], now=NOW
    )
    held = billing.reserve(
        run_id=run.pk,
        agent_id=run.agent_id,
        project_id=project.pk,
        model=price.model,
        amount=Decimal(1),
        price=price,
        now=NOW,
    )
    billing.settle(held.pk, Usage(input_tokens=10, output_tokens=10), now=NOW)
    record_lines(run, [Line(RunEvent.Kind.TEXT, {"text": "naïve\u2028"}, timezone.now())])
    set_secret(project, name="API_KEY", value=SecretStr("a-key-of-the-client"), by=TESTER, now=NOW)
    repo, name = repository(project.pk), str(run.pk)
    repo.create()
    clone = run_directory(run.pk) / "workspace"
    repo.clone_for_run(name, clone, author=PLATFORM)
    (clone / "app.py").write_text("print('hello')\n")
    repo.collect(name, clone, author=PLATFORM)
    candidate = repo.merge(name, "Say hello")
    repo.advance_main(expected_old=candidate.parent, new=candidate.commit)
    ended = {"status": "succeeded", "token_hash": "", "finished_at": NOW, "merge_commit": candidate.commit}
    Run.objects.filter(pk=run.pk).update(status="evaluating")
    Run.objects.filter(pk=run.pk).update(status="merging")
    Run.objects.filter(pk=run.pk).update(**ended)
    run.refresh_from_db()
    (clone / "later.py").write_text("")
    repo.checkpoint(name, clone, seq=1)
    return run


@pytest.fixture
def made(run: Run, tmp_path: Path) -> Path:
    """A backup with its keys."""
    directory = tmp_path / "backup"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EKLAVYA_BACKUP_PASSPHRASE", PASSPHRASE)
        call_command("backup", directory, "--keys", stdout=StringIO())
    return directory


@pytest.fixture
def restored(fresh_var: Path) -> Iterator[TestServers]:
    servers = TestServers()
    yield servers
    servers.stop()


def command(*arguments: object, var: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """manage.py on an installation of its own, with embedded servers."""
    environment = {"PATH": os.environ["PATH"], "EKLAVYA_ENV_FILE": "", "EKLAVYA_VAR": str(var), **variables}
    return subprocess.run(
        [sys.executable, "manage.py", *map(str, arguments)],
        cwd=BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def contents(url: str) -> dict[str, list[Any]]:
    """Every row of every table, as text."""
    with psycopg.connect(url) as database:
        tables = database.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
            " ORDER BY relname"
        ).fetchall()
        return {
            name: database.execute(
                sql.SQL("SELECT t::text FROM {} t ORDER BY 1").format(sql.Identifier(name))
            ).fetchall()
            for (name,) in tables
        }


def refused(*arguments: object) -> str:
    with pytest.raises(CommandError) as caught:
        call_command(*map(str, arguments), stdout=StringIO(), stderr=StringIO())
    return str(caught.value)


def test_fresh_installation_is_what_was_backed_up(
    run: Run, made: Path, fresh_var: Path, restored: TestServers, tmp_path: Path
) -> None:
    project_id = run.project_id
    before = contents(database_url())
    refs = repository(project_id).refs()

    done = command("restore", made, "--keys", var=fresh_var, EKLAVYA_BACKUP_PASSPHRASE=PASSPHRASE)

    assert done.returncode == 0, done.stderr
    assert "whole: as it was at" in done.stdout
    restored.start_postgres(fresh_var)
    assert contents(postgres_url(fresh_var)) == before
    assert {len(before[name]) for name in ("agents_runevent", "projects_secret", "billing_reservation")} == {1}
    bare = fresh_var / "repositories" / f"{project_id}.git"
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", bare, clone], check=True, capture_output=True)
    assert (clone / "app.py").read_text() == "print('hello')\n"
    listed = subprocess.run(["git", "-C", bare, "for-each-ref"], check=True, capture_output=True, text=True).stdout
    assert {line.split()[2]: line.split()[0] for line in listed.splitlines()} == refs
    assert len(refs) == 4
    subprocess.run(["git", "-C", bare, "fsck", "--strict", "--no-dangling"], check=True, capture_output=True)
    # The keys, and only by their passphrase.
    assert (fresh_var / "secret_keys").stat().st_mode & 0o777 == 0o600
    assert set((fresh_var / "secret_keys").read_text().split()) == set(secret_keys())
    # What is there now is not lost by mistake.
    again = command("restore", made, var=fresh_var, DATABASE_URL=postgres_url(fresh_var))
    assert again.returncode == 1
    assert "Say --replace" in again.stderr
    replaced = command("restore", made, "--replace", var=fresh_var, DATABASE_URL=postgres_url(fresh_var))
    assert replaced.returncode == 0, replaced.stderr
    assert contents(postgres_url(fresh_var)) == before
    (aside,) = fresh_var.glob("repositories.before-*")
    assert (aside / f"{project_id}.git").is_dir()


def test_what_does_not_fit_after_a_restore_is_named(run: Run) -> None:
    assert list(checking.problems()) == []
    with pgtrigger.ignore(), connection.cursor() as cursor:
        cursor.execute("UPDATE projects_auditlog SET actor_name = 'nobody' WHERE seq = 1 AND chain <> 'account'")
        cursor.execute("DELETE FROM billing_ledgerentry WHERE kind = 'settle'")
    Run.objects.filter(pk=run.pk).update(merge_commit=UNKNOWN)
    broken, unbooked, unmerged = checking.problems()
    assert broken == f"Audit chain {run.project_id} is broken at row 1: was changed after it was written."
    assert unbooked.startswith(f"The ledger of project {run.project_id} has 0, and its budget 0.0")
    assert unmerged == f"Commit {'0' * 12} of project {run.project_id} was merged, and is not in main."


def secret_keys() -> list[str]:
    return (Path(os.environ["EKLAVYA_VAR"]) / "secret_keys").read_text().split()


def test_backup_is_for_its_owner_holds_no_key_in_the_clear_and_serves_without_eklavya(
    run: Run, made: Path, tmp_path: Path
) -> None:
    everything = b"".join(path.read_bytes() for path in made.rglob("*") if path.is_file())
    assert not any(key.encode() in everything for key in secret_keys())
    assert b"a-key-of-the-client" not in everything
    assert made.stat().st_mode & 0o777 == 0o700
    bundle = made / manifest.bundle_name(str(run.project_id))
    subprocess.run(["git", "clone", "--quiet", bundle, tmp_path / "by-hand"], check=True, capture_output=True)
    assert (tmp_path / "by-hand" / "app.py").exists()
    assert "is not empty" in refused("backup", made)


def test_what_cannot_be_restored_is_refused_before_anything_changes(made: Path) -> None:
    connection.ensure_connection()
    assert "others use the database" in refused("restore", made, "--replace")

    path = made / manifest.NAME
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"migrations": [*content["migrations"], "agents.9999_from_the_future"]}))
    assert "agents.9999_from_the_future" in refused("restore", made, "--replace")

    dump = made / manifest.DATABASE
    dump.write_bytes(dump.read_bytes()[:-1] + b"?")
    assert "is not as it was written" in refused("restore", made, "--replace")
    dump.unlink()
    assert "is missing" in refused("restore", made, "--replace")
    path.unlink()
    assert "no whole backup" in refused("restore", made, "--replace")
    assert Run.objects.count() == 1


def test_wrong_or_short_passphrase_is_refused(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EKLAVYA_SECRET_KEY")
    monkeypatch.setenv("EKLAVYA_BACKUP_PASSPHRASE", "another passphrase")
    assert "not the passphrase" in refused("restore", made, "--keys", "--replace")
    monkeypatch.setenv("EKLAVYA_BACKUP_PASSPHRASE", "short")
    assert "12 characters or more" in refused("backup", tmp_path / "second", "--keys")


def test_references_and_rows_are_of_one_moment(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Main moves, with its row, while the backup begins: both are in it, or neither."""
    repo = repository(run.project_id)
    name, seen = "late", making.repository
    clone = tmp_path / "late"
    repo.clone_for_run(name, clone, author=PLATFORM)
    (clone / "late.py").write_text("")
    repo.collect(name, clone, author=PLATFORM)
    candidate = repo.merge(name, "Late")
    calls = []

    def moving(project_id: Any) -> Any:
        calls.append(project_id)
        if len(calls) == 2:  # the snapshot is taken, the references are read for the second time
            repo.advance_main(expected_old=candidate.parent, new=candidate.commit)
            Project.objects.filter(pk=run.project_id).update(name="Moved")
        return seen(project_id)

    monkeypatch.setattr(making, "repository", moving)
    made = making.make(tmp_path / "backup", url=database_url(), now=NOW, keys=None, report=lambda text: None)

    assert len(calls) == 4  # read, moved, still, copied
    assert made.repositories[str(run.project_id)]["refs/heads/main"] == candidate.commit
    script = tmp_path / "rows.sql"
    program = making.database.BINARIES / "pg_restore"
    subprocess.run([program, "--data-only", f"--file={script}", tmp_path / "backup/database.dump"], check=True)
    assert "Moved" in script.read_text()


def test_repository_that_is_worked_in_all_the_time_is_in_the_backup_with_all_that_rows_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint comes and another goes each time the references are read: they are never the same twice."""
    repo, seen, numbers = repository(run.project_id), making.repository, iter(range(2, 1000))
    clone = run_directory(run.pk) / "workspace"
    name = str(run.pk)

    def moving(project_id: Any) -> Any:
        number = next(numbers)
        repo.checkpoint(name, clone, seq=number)
        repo.drop_refs([f"refs/eklavya/checkpoints/{name}/{number - 1}"])
        return seen(project_id)

    monkeypatch.setattr(making, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(making, "repository", moving)
    made = making.make(tmp_path / "backup", url=database_url(), now=NOW, keys=None, report=lambda text: None)

    assert made.moved == [str(run.project_id)]
    found = made.repositories[str(run.project_id)]
    kept = {ref.rpartition("/")[2] for ref in found if ref.startswith("refs/eklavya/checkpoints/")}
    assert kept == {"2", "3"}, "read before and after the snapshot"
    read = manifest.read(tmp_path / "backup")
    restored = repository_at(tmp_path / "back.git")
    restored.restore(
        tmp_path / "backup" / manifest.bundle_name(str(run.project_id)), read.repositories[str(run.project_id)]
    )
    assert restored.is_merged(run.merge_commit)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A directory of repositories that cannot be renamed, with one repository in it."""
    present = tmp_path / "mounted" / "repositories"
    present.mkdir(parents=True)
    if subprocess.run(["mount", "--bind", present, present], check=False, capture_output=True).returncode:
        pytest.skip("only root can mount")
    (present / "old.git").mkdir()
    yield present
    subprocess.run(["umount", present], check=True)


def test_mounted_repositories_are_replaced_one_by_one_or_not_at_all(mounted: Path, tmp_path: Path) -> None:
    place = restoring.place_of(mounted)
    link = tmp_path / "link"
    link.symlink_to(mounted)
    assert restoring.place_of(link) == place
    (place.staged / "new.git").mkdir(parents=True)
    (place.staged / "old.git").mkdir()
    (place.staged / "second").mkdir()
    in_the_way = mounted / "second" / "file"
    in_the_way.parent.mkdir()
    in_the_way.write_text("")

    with pytest.raises(BackupProblem, match="by hand, or restore once more"):
        restoring.swap(place, now=NOW, report=lambda text: None)
    assert {path.name for path in mounted.iterdir()} == {"old.git", "second", place.staged.name}
    assert {path.name for path in place.staged.iterdir()} == {"new.git", "old.git", "second"}

    in_the_way.unlink()
    restoring.swap(place, now=NOW, report=lambda text: None)
    assert {path.name for path in mounted.iterdir()} == {"new.git", "old.git", "second", place.aside(NOW).name}
    assert [path.name for path in place.aside(NOW).iterdir()] == ["old.git"]
