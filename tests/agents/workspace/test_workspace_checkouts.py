"""Putting a project's files into a directory, for agents and for verification."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from agents.workspace.errors import BadName, DestinationNotEmpty, UnknownCheckpoint, UnknownCommit, UnknownRun
from agents.workspace.values import Author


def test_a_run_gets_main_on_a_branch_of_its_own(repository, clone, author):
    assert clone.git("symbolic-ref", "HEAD") == "refs/heads/run/run-1"
    assert clone.git("rev-parse", "HEAD", "main") == f"{repository.head()}\n{repository.head()}"
    assert clone.git("status", "--porcelain") == ""
    assert clone.git("config", "user.name") == author.name
    assert clone.git("config", "user.email") == author.email


@pytest.mark.parametrize("name", ['Quote "me"; now', "back\\slash", "hash # sign", "Zoë"])
def test_a_runs_clone_commits_in_any_name(repository, clone, tmp_path, name):
    clone.path = tmp_path / "named"
    repository.clone_for_run("run-2", clone.path, author=Author(name, "a@b"))
    assert clone.git("config", "user.name") == name
    assert len(clone.git("config", "--list", "--local").splitlines()) == 6


def test_a_runs_clone_has_no_hooks(clone):
    assert not (clone.path / ".git/hooks").exists()


def test_a_runs_clone_shares_no_file_with_the_repository(repository, start):
    repository.maintain()
    clone = start("run-2")
    files = [path for path in clone.path.rglob("*") if path.is_file()]
    assert files
    assert {path.stat().st_nlink for path in files} == {1}


def test_a_runs_clone_may_lie_on_another_file_system(repository, clone, author):
    """In containers it does: a run's directory is a volume of its own."""
    with TemporaryDirectory(dir="/dev/shm") as elsewhere:
        assert os.stat(elsewhere).st_dev != os.stat(clone.path).st_dev
        clone.path = Path(elsewhere, "workspace")
        repository.clone_for_run("run-2", clone.path, author=author)
        assert clone.git("fsck", "--full") == ""
        assert clone.git("rev-parse", "HEAD") == repository.head()


def test_a_run_can_commit_in_its_clone(clone):
    clone.write("a.txt")
    clone.write("__pycache__/a.pyc")
    clone.commit()
    assert clone.git("show", "--format=", "--name-only", "HEAD") == "a.txt"


def test_a_directory_that_is_in_use_is_refused(repository, tmp_path, author):
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").touch()
    for make in (
        lambda to: repository.clone_for_run("run-2", to, author=author),
        lambda to: repository.export(repository.head(), to),
        lambda to: repository.clone_fresh(repository.head(), to),
    ):
        with pytest.raises(DestinationNotEmpty):
            make(tmp_path / "used")


def test_an_export_is_the_files_alone(repository, clone, collect, tmp_path):
    clone.write("run.sh", "#!/bin/sh\n", mode=0o755)
    (clone.path / "link").symlink_to("run.sh")
    repository.export(collect(clone), tmp_path / "export")
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == ["README.md", "link", "run.sh"]
    assert (tmp_path / "export/link").is_symlink()
    assert (tmp_path / "export/run.sh").stat().st_mode & 0o111
    assert [path.name for path in tmp_path.glob(".export*")] == []


def test_an_export_hides_nothing(repository, clone, collect, tmp_path):
    clone.write(".gitattributes", "tests export-ignore\n* export-subst\n")
    clone.write("tests/test_a.py", "$Format:%H$\n")
    commit = collect(clone)
    repository.export(commit, tmp_path / "export")
    assert (tmp_path / "export/tests/test_a.py").read_text() == "$Format:%H$\n"


def test_an_export_of_an_unknown_commit_is_refused(repository, tmp_path):
    with pytest.raises(UnknownCommit):
        repository.export("1" * 40, tmp_path / "export")


def test_a_fresh_clone_is_main_at_the_commit(repository, clone, collect, tmp_path):
    clone.write("a.txt")
    commit = collect(clone)
    clone.path = tmp_path / "fresh"
    repository.clone_fresh(commit, clone.path)
    assert clone.git("rev-parse", "main", "HEAD") == f"{commit}\n{commit}"
    assert clone.git("status", "--porcelain") == ""
    assert (clone.path / "a.txt").exists()


@pytest.fixture
def snapshot(repository, clone):
    """A clone in the middle of its work, and its checkpoint."""
    clone.write("done.txt")
    clone.write("gone.txt")
    clone.tip = clone.commit("Done")
    clone.write("done.txt", "half\n")
    clone.write("new.txt", "new\n")
    (clone.path / "gone.txt").unlink()
    return repository.checkpoint("run-1", clone.path, seq=3)


def test_a_checkpoint_keeps_commits_and_files(repository, clone, snapshot):
    assert snapshot.ref == "refs/eklavya/checkpoints/run-1/3"
    assert snapshot.tip == clone.tip
    assert [entry.name for entry in repository.tree(snapshot.commit)] == ["README.md", "done.txt", "new.txt"]


def test_a_checkpoint_is_restored_as_it_was(repository, clone, snapshot, tmp_path, author):
    before = clone.git("status", "--porcelain")
    base = repository.restore_checkpoint(snapshot.ref, tmp_path / "again", run_id="run-2", author=author)
    tip, clone.path = clone.tip, tmp_path / "again"
    assert base == repository.head()
    assert clone.git("rev-parse", "HEAD", "run/run-2", "main") == f"{tip}\n{tip}\n{base}"
    assert clone.git("status", "--porcelain") == before
    assert (clone.path / "done.txt").read_text() == "half\n"


def test_a_restored_run_is_collected_on_the_same_base(repository, snapshot, tmp_path, author):
    base = repository.restore_checkpoint(snapshot.ref, tmp_path / "again", run_id="run-2", author=author)
    collected = repository.collect("run-2", tmp_path / "again", author=author)
    assert (collected.base, collected.changed) == (base, ("done.txt", "new.txt"))


def test_a_checkpoint_does_not_stop_the_run(repository, clone, snapshot):
    clone.commit("Later")
    again = repository.checkpoint("run-1", clone.path, seq=4)
    assert repository.tree_sha(again.commit) == repository.tree_sha(snapshot.commit)


def test_an_unknown_checkpoint_is_refused(repository, clone, tmp_path, author):
    with pytest.raises(UnknownCheckpoint):
        repository.restore_checkpoint(
            "refs/eklavya/checkpoints/run-1/9", tmp_path / "again", run_id="run-2", author=author
        )


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/eklavya/checkpoints/a/../b/1", "-x", ""])
def test_a_reference_that_is_no_checkpoint_is_refused(repository, tmp_path, author, ref):
    with pytest.raises(BadName):
        repository.restore_checkpoint(ref, tmp_path / "again", run_id="run-2", author=author)


def test_a_checkpoint_of_an_unknown_run_is_refused(repository, clone):
    with pytest.raises(UnknownRun):
        repository.checkpoint("run-2", clone.path, seq=0)
