"""Taking over what a run did: commits, leftovers, and clones in odd states."""

import os
import shutil

import pytest

from agents.workspace import quarantine
from agents.workspace.errors import (
    BadName,
    CloneDamaged,
    CloneTooLarge,
    GitFailed,
    GitTimedOut,
    UnknownRun,
    WrongBranch,
)


def test_collect_takes_the_runs_commit(repository, clone, author):
    clone.write("app/main.py", "print()\n")
    commit = clone.commit()
    collected = repository.collect("run-1", clone.path, author=author)
    assert collected == (commit, repository.head(), ("app/main.py",), False, False, False)


def test_collect_of_an_untouched_clone_is_empty(repository, clone, author):
    collected = repository.collect("run-1", clone.path, author=author)
    assert collected.empty
    assert collected.commit == collected.base == repository.head()


def test_collect_commits_what_was_left_over(repository, clone, author):
    clone.write("kept.txt")
    first = clone.commit()
    clone.write("left.txt")
    (clone.path / "README.md").unlink()
    collected = repository.collect("run-1", clone.path, author=author)
    assert collected.leftovers
    assert collected.changed == ("README.md", "kept.txt", "left.txt")
    (last, *_) = repository.log(1, commit=collected.commit)
    assert (last.parents, last.author, last.email) == ((first,), author.name, author.email)


def test_collect_does_not_touch_the_clone(repository, clone, author):
    clone.write("left.txt")
    before = clone.git("status", "--porcelain")
    repository.collect("run-1", clone.path, author=author)
    assert clone.git("status", "--porcelain") == before


def test_collect_again_gives_the_same_commit(repository, clone, collect):
    clone.write("left.txt")
    assert collect(clone) == collect(clone)


def test_collect_keeps_the_executable_bit_and_links(repository, clone, collect):
    clone.write("run.sh", "#!/bin/sh\n", mode=0o755)
    os.symlink("run.sh", clone.path / "link")
    entries = {entry.name: entry for entry in repository.tree(collect(clone))}
    assert entries["run.sh"].executable
    assert entries["link"].kind == "symlink"


def test_collect_leaves_out_what_gitignore_names(repository, clone, author):
    clone.write(".gitignore", "*.log\n")
    clone.write("sub/.gitignore", "!keep.log\nsecret\n")
    for name in ("a.log", "sub/keep.log", "sub/secret", "sub/other"):
        clone.write(name)
    collected = repository.collect("run-1", clone.path, author=author)
    assert collected.changed == (".gitignore", "sub/.gitignore", "sub/keep.log", "sub/other")


def test_collect_keeps_changes_of_an_ignored_file_that_is_tracked(repository, clone, author):
    clone.write("a.log", "one\n")
    clone.commit()
    clone.write(".gitignore", "*.log\n")
    clone.write("a.log", "two\n")
    collected = repository.collect("run-1", clone.path, author=author)
    assert repository.file(collected.commit, "a.log").data == b"two\n"


def test_collect_leaves_out_the_litter_of_tools(repository, clone, author):
    for name in ("app/__pycache__/a.cpython-311.pyc", "node_modules/x/index.js", ".claude/settings.json"):
        clone.write(name)
    assert repository.collect("run-1", clone.path, author=author).empty


def test_an_ignored_file_may_be_of_any_size(small, clone, author):
    clone.write(".gitignore", "big\n")
    clone.write("big", b"x" * 5000)
    collected = small(max_file_bytes=1000).collect("run-1", clone.path, author=author)
    assert collected.changed == (".gitignore",)


def test_collect_takes_the_branch_the_agent_made_on_top(repository, clone, collect):
    clone.git("checkout", "--quiet", "-b", "feature/own")
    clone.write("a.txt")
    commit = clone.commit()
    assert collect(clone) == commit


def test_collect_takes_a_detached_head(repository, clone, collect):
    clone.git("checkout", "--quiet", "--detach")
    clone.write("a.txt")
    commit = clone.commit()
    assert collect(clone) == commit


def test_collect_reads_packed_references(repository, clone, collect):
    clone.write("a.txt")
    commit = clone.commit()
    clone.git("gc", "--quiet", "--prune=now")
    clone.git("pack-refs", "--all")
    assert not (clone.path / ".git/refs/heads/run/run-1").exists()
    assert collect(clone) == commit


def test_commits_left_on_the_runs_branch_are_not_lost(repository, clone, author):
    clone.write("a.txt")
    clone.commit()
    clone.git("checkout", "--quiet", "main")
    with pytest.raises(WrongBranch, match="run/run-1"):
        repository.collect("run-1", clone.path, author=author)


def test_an_amended_base_counts_by_its_files(repository, clone, author):
    clone.write("a.txt")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--amend", "-m", "Mine")
    collected = repository.collect("run-1", clone.path, author=author)
    assert collected.history_replaced
    assert collected.changed == ("a.txt",)
    assert repository.log(1, commit=collected.commit)[0].parents == (collected.base,)


def test_a_repository_begun_anew_counts_by_its_files(repository, clone, author):
    shutil.rmtree(clone.path / ".git")
    clone.write("a.txt")
    clone.git("init", "--quiet")
    collected = repository.collect("run-1", clone.path, author=author)
    assert (collected.history_replaced, collected.changed) == (True, ("a.txt",))


def test_a_clone_without_git_counts_by_its_files(repository, clone, author):
    shutil.rmtree(clone.path / ".git")
    clone.write("a.txt")
    assert repository.collect("run-1", clone.path, author=author).changed == ("a.txt",)


def test_a_nested_repository_counts_by_its_files(repository, clone, author):
    clone.write("inner/a.txt")
    clone.git("init", "--quiet", "inner")
    assert repository.collect("run-1", clone.path, author=author).changed == ("inner/a.txt",)


def test_names_of_any_bytes_are_collected(repository, clone, author):
    (clone.path / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    collected = repository.collect("run-1", clone.path, author=author)
    assert collected.changed == ("caf\\xe9.txt",)


def test_a_run_without_a_clone_is_unknown(repository, clone, author):
    with pytest.raises(UnknownRun):
        repository.collect("run-2", clone.path, author=author)


@pytest.mark.parametrize("run_id", ["", "../main", "a/b", "-x", "a b", "x" * 65, "a\n"])
def test_a_run_id_that_is_none_is_refused(repository, clone, author, run_id):
    with pytest.raises(BadName):
        repository.collect(run_id, clone.path, author=author)


def test_a_damaged_object_is_reported(repository, clone, author):
    clone.write("a.txt", "something\n")
    clone.commit()
    sha = clone.git("rev-parse", "HEAD:a.txt")
    damaged = clone.path / ".git/objects" / sha[:2] / sha[2:]
    damaged.chmod(0o644)
    damaged.write_bytes(b"no object at all")
    with pytest.raises(CloneDamaged):
        repository.collect("run-1", clone.path, author=author)


def test_an_object_under_a_false_name_is_refused(repository, clone, author):
    clone.write("a.txt", "wanted\n")
    clone.commit()
    clone.write("a.txt", "other\n")
    clone.git("add", "a.txt")
    objects = clone.path / ".git/objects"
    wanted, other = clone.git("rev-parse", "HEAD:a.txt"), clone.git("rev-parse", ":a.txt")
    (objects / wanted[:2] / wanted[2:]).unlink()
    shutil.copy(objects / other[:2] / other[2:], objects / wanted[:2] / wanted[2:])
    clone.write("a.txt", "wanted\n")
    with pytest.raises(CloneDamaged):
        repository.collect("run-1", clone.path, author=author)


def test_a_pack_that_is_none_is_refused(repository, clone, author):
    clone.write(f".git/objects/pack/pack-{'a' * 40}.pack", b"PACK and nothing more")
    with pytest.raises(CloneDamaged):
        repository.collect("run-1", clone.path, author=author)


def test_a_repository_that_takes_nothing_now_is_not_the_clones_fault(repository, clone, author):
    clone.write("a.txt")
    lock = repository.path / "refs/eklavya/runs/run-1.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    with pytest.raises(GitFailed, match="cannot lock ref"):
        repository.collect("run-1", clone.path, author=author)
    lock.unlink()
    assert repository.collect("run-1", clone.path, author=author).changed == ("a.txt",)


def test_a_git_that_had_no_time_or_place_is_not_the_clones_fault():
    full = GitFailed("index-pack", 128, "fatal: write error: No space left on device\nfatal: index-pack failed")
    for error in (full, GitTimedOut("index-pack", 1)):
        with pytest.raises(type(error)), quarantine._damage("a pack of the clone was refused"):
            raise error
    with pytest.raises(CloneDamaged), quarantine._damage("a pack of the clone was refused"):
        raise GitFailed("index-pack", 128, "fatal: pack has bad object at offset 12: inflate returned -3")


@pytest.mark.parametrize(
    ("limit", "value"),
    [("max_file_bytes", 50), ("max_change_bytes", 150), ("max_files", 2), ("max_objects", 2)],
)
def test_a_change_over_a_limit_is_refused(small, clone, author, limit, value):
    for number in range(3):
        clone.write(f"{number}.txt", f"{number}" * 60)
    clone.commit()
    with pytest.raises(CloneTooLarge) as caught:
        small(**{limit: value}).collect("run-1", clone.path, author=author)
    assert caught.value.limit == limit


@pytest.mark.parametrize(
    ("limit", "value"),
    [("max_file_bytes", 50), ("max_change_bytes", 150), ("max_entries", 3), ("max_depth", 1)],
)
def test_leftovers_over_a_limit_are_refused(small, clone, author, limit, value):
    for number in range(3):
        clone.write(f"a/b/{number}.txt", f"{number}" * 60)
    with pytest.raises(CloneTooLarge) as caught:
        small(**{limit: value}).collect("run-1", clone.path, author=author)
    assert caught.value.limit == limit


def test_a_message_over_its_limit_is_refused(small, clone, author):
    clone.git("commit", "--quiet", "--allow-empty", "-F", "-", given="x" * 5000)
    with pytest.raises(CloneTooLarge, match="max_commit_bytes"):
        small(max_commit_bytes=1000).collect("run-1", clone.path, author=author)


def test_a_clone_with_too_much_history_is_refused(small, clone, author):
    clone.write("a", os.urandom(3000))
    clone.commit()
    with pytest.raises(CloneTooLarge, match="max_store_bytes"):
        small(max_store_bytes=2000).collect("run-1", clone.path, author=author)


def test_a_tree_that_multiplies_itself_is_refused(small, clone, author):
    """Ten levels of ten times the level below: eleven small objects, ten thousand million paths."""
    below, entry = clone.git("hash-object", "-w", "README.md"), "100644 blob"
    for _ in range(10):
        listing = "".join(f"{entry} {below}\t{name}\n" for name in range(10))
        below, entry = clone.git("mktree", given=listing), "040000 tree"
    clone.git("update-ref", "HEAD", clone.git("commit-tree", below, "-p", "HEAD", "-m", "Bomb"))
    with pytest.raises(CloneTooLarge, match="max_files"):
        small(max_files=5000).collect("run-1", clone.path, author=author)
