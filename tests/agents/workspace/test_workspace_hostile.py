"""Clones built to run something on the host, or to read what is not theirs.

Each attack comes with its proof that it is one: a git that trusts the clone does run the sentinel.
"""

import os
import shutil
import subprocess
import threading

import pytest

from agents.workspace.errors import CloneDamaged, CloneTooLarge, CloneUnsafe
from agents.workspace.paths import PathPolicy

ALL = PathPolicy(("**",))


def fsmonitor(clone, program):
    clone.git("config", "core.fsmonitor", program)


def hook(clone, program):
    for name in ("pre-commit", "post-index-change", "reference-transaction", "post-checkout"):
        target = clone.path / ".git/hooks" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(program, target)


def hooks_path(clone, program):
    hooks = clone.path / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "post-index-change", "reference-transaction"):
        shutil.copy(program, hooks / name)
    clone.git("config", "core.hooksPath", str(hooks))


def clean_filter(clone, program):
    clone.write(".gitattributes", "* filter=evil diff=evil merge=evil\n")
    clone.git("config", "filter.evil.clean", program)
    clone.git("config", "filter.evil.required", "true")


def filter_in_info(clone, program):
    clone.write(".git/info/attributes", "* filter=evil\n")
    clone.git("config", "filter.evil.process", program)


def included_configuration(clone, program):
    clone.write(".git/more", f"[core]\n\tfsmonitor = {program}\n")
    clone.git("config", "include.path", "more")


def signing(clone, program):
    clone.git("config", "commit.gpgSign", "true")
    clone.git("config", "gpg.program", program)


def submodule_status(clone, program):
    """A repository within, whose own configuration runs when git asks whether it changed."""
    clone.write("inner/a.txt")
    clone.git("init", "--quiet", "inner")
    clone.git("-C", "inner", "-c", "user.name=x", "-c", "user.email=x@x", "commit", "--allow-empty", "-qm", "x")
    clone.git("add", "inner")
    clone.git("commit", "--quiet", "-m", "Inner")
    clone.write("inner/a.txt", "changed\n")
    clone.git("-C", "inner", "config", "core.fsmonitor", program)


ATTACKS = [
    fsmonitor,
    hook,
    hooks_path,
    clean_filter,
    filter_in_info,
    included_configuration,
    signing,
    submodule_status,
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_attack_works_on_a_git_that_trusts_the_clone(clone, sentinel, attack):
    attack(clone, str(sentinel.program))
    clone.write("left.txt")
    clone.git("status", check=False)
    clone.git("add", "--all", check=False)
    clone.git("commit", "-m", "Work", check=False)
    assert sentinel.ran


@pytest.mark.parametrize("attack", ATTACKS)
def test_collecting_runs_nothing_of_the_clone(repository, clone, sentinel, author, attack):
    attack(clone, str(sentinel.program))
    sentinel.trace.unlink(missing_ok=True)
    clone.write("left.txt")
    collected = repository.collect("run-1", clone.path, author=author)
    assert "left.txt" in collected.changed
    assert not sentinel.ran


def test_what_comes_of_all_attacks_at_once_runs_nothing(repository, clone, sentinel, author, tmp_path):
    for attack in reversed(ATTACKS):
        attack(clone, str(sentinel.program))
    sentinel.trace.unlink(missing_ok=True)
    snapshot = repository.checkpoint("run-1", clone.path, seq=1)
    commit = repository.collect("run-1", clone.path, author=author).commit
    repository.check_paths(repository.head(), commit, policy=ALL)
    repository.diff(repository.head(), commit)
    repository.export(commit, tmp_path / "export")
    repository.clone_fresh(commit, tmp_path / "fresh")
    repository.restore_checkpoint(snapshot.ref, tmp_path / "restored", run_id="run-2", author=author)
    b"".join(repository.archive(commit, "tar.gz"))
    assert not sentinel.ran


def test_serving_runs_no_hook_of_the_clone(repository, clone, sentinel, deliver, tmp_path):
    clone.git("config", "uploadpack.packObjectsHook", str(sentinel.program))
    clone.git("config", "core.alternateRefsCommand", str(sentinel.program))
    clone.write("a.txt")
    deliver(clone)
    b"".join(repository.upload_pack_advertise())
    assert not sentinel.ran


@pytest.mark.parametrize("name", [".git", ".git/objects"])
def test_a_link_in_place_of_the_git_directory_is_refused(repository, clone, author, tmp_path, name):
    other = tmp_path / "other"
    (clone.path / name).rename(other)
    (clone.path / name).symlink_to(other)
    with pytest.raises(CloneUnsafe):
        repository.collect("run-1", clone.path, author=author)


def test_a_git_file_that_points_elsewhere_is_refused(repository, clone, author):
    shutil.rmtree(clone.path / ".git")
    (clone.path / ".git").write_text(f"gitdir: {repository.path}\n")
    with pytest.raises(CloneUnsafe):
        repository.collect("run-1", clone.path, author=author)


def test_a_clone_that_is_a_link_is_refused(repository, clone, author, tmp_path):
    (tmp_path / "link").symlink_to(clone.path)
    with pytest.raises(CloneUnsafe):
        repository.collect("run-1", tmp_path / "link", author=author)


def test_a_common_directory_elsewhere_is_not_followed(repository, clone, author):
    (clone.path / ".git/commondir").write_text(str(repository.path))
    clone.write("a.txt")
    assert repository.collect("run-1", clone.path, author=author).changed == ("a.txt",)


@pytest.fixture
def foreign(tmp_path):
    """Another project's repository, with a commit nobody here may see."""
    path = tmp_path / "foreign"
    path.mkdir()

    def git(*args: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@x")
        done = subprocess.run(["git", *identity, *args], cwd=path, capture_output=True, check=True)
        return done.stdout.decode().strip()

    git("init", "--quiet")
    (path / "secret.txt").write_text("another client's secret\n")
    git("add", "--all")
    git("commit", "--quiet", "-m", "Secret")
    return path, git("rev-parse", "HEAD"), git("rev-parse", "HEAD^{tree}")


def test_alternates_of_the_clone_are_not_read(repository, clone, author, foreign):
    path, _, tree = foreign
    (clone.path / ".git/objects/info").mkdir(exist_ok=True)
    (clone.path / ".git/objects/info/alternates").write_text(f"{path}/.git/objects\n")
    clone.git("update-ref", "HEAD", clone.git("commit-tree", tree, "-p", "HEAD", "-m", "Take it"))
    with pytest.raises(CloneDamaged):
        repository.collect("run-1", clone.path, author=author)


def test_linked_object_directories_are_not_read(repository, clone, author, foreign):
    path, _, tree = foreign
    linked = set()
    for directory in (path / ".git/objects").glob("[0-9a-f][0-9a-f]"):
        target = clone.path / ".git/objects" / directory.name
        shutil.rmtree(target, ignore_errors=True)
        target.symlink_to(directory)
        linked.add(directory.name)
    number = 0
    while (taken := clone.git("commit-tree", tree, "-p", "HEAD", "-m", f"Take it {number}"))[:2] in linked:
        number += 1  # in there its own commit would not be read either, and nothing would be refused
    clone.git("update-ref", "HEAD", taken)
    with pytest.raises(CloneDamaged):
        repository.collect("run-1", clone.path, author=author)


def test_linked_references_are_not_read(repository, clone, author, foreign):
    path, commit, _ = foreign
    (path / "ref").write_text(commit)
    own = clone.path / ".git/refs/heads/run/run-1"
    own.unlink()
    own.symlink_to(path / "ref")
    collected = repository.collect("run-1", clone.path, author=author)
    assert collected.empty


def test_another_runs_commit_is_not_reached_by_its_id(repository, start, collect, author):
    first, second = start("first"), start("second")
    first.write("theirs.txt")
    (second.path / ".git/refs/heads/run/second").write_text(f"{collect(first)}\n")
    collected = repository.collect("second", second.path, author=author)
    assert (collected.history_replaced, collected.changed) == (True, ())


def test_another_runs_files_are_not_reached_by_their_id(repository, start, collect, author):
    first, second = start("first"), start("second")
    first.write("theirs.txt")
    (theirs,) = [entry for entry in repository.tree(collect(first)) if entry.name == "theirs.txt"]
    tree = second.git("mktree", "--missing", given=f"100644 blob {theirs.sha}\tmine.txt\n")
    second.git("update-ref", "HEAD", second.git("commit-tree", tree, "-p", "HEAD", "-m", "Take it"))
    with pytest.raises(CloneDamaged, match="missing"):
        repository.collect("second", second.path, author=author)


def test_links_to_the_host_are_stored_as_links(repository, clone, author):
    secret = clone.path.parent / "secret"
    secret.mkdir()
    (secret / "key").write_text("the host's secret\n")
    (clone.path / "directory").symlink_to(secret)
    (clone.path / "file").symlink_to(secret / "key")
    collected = repository.collect("run-1", clone.path, author=author)
    assert collected.changed == ("directory", "file")
    assert repository.file(collected.commit, "file").data == str(secret / "key").encode()
    assert {v.rule for v in repository.check_paths(collected.base, collected.commit, policy=ALL)} == {"symlink"}


def test_a_tracked_directory_swapped_for_a_link_is_not_followed(repository, clone, author, tmp_path):
    clone.write("data/key", "harmless\n")
    clone.commit()
    (tmp_path / "host").mkdir()
    (tmp_path / "host/key").write_text("the host's secret\n")
    shutil.rmtree(clone.path / "data")
    (clone.path / "data").symlink_to(tmp_path / "host")
    commit = repository.collect("run-1", clone.path, author=author).commit
    assert [entry.kind for entry in repository.tree(commit) if entry.name == "data"] == ["symlink"]


def test_a_directory_that_keeps_turning_into_a_link_never_leads_out(repository, clone, author, tmp_path):
    """The race itself: a checkpoint is taken while the run goes on."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host/key").write_text("the host's secret\n")
    clone.write("data/key", "harmless\n")
    done = threading.Event()
    data, real = clone.path / "data", clone.path / "real"

    def swap() -> None:
        while not done.is_set():
            data.rename(real)
            data.symlink_to(tmp_path / "host")
            data.unlink()
            real.rename(data)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        commits = [repository.checkpoint("run-1", clone.path, seq=seq).commit for seq in range(8)]
    finally:
        done.set()
        swapping.join()
    for commit in commits:
        assert b"the host's secret" not in b"".join(repository.archive(commit, "zip"))
        for entry in repository.tree(commit):
            if entry.kind == "directory":
                assert repository.file(commit, f"{entry.path}/key").data in (b"harmless\n", b"")


def test_pipes_and_sockets_are_passed_over(repository, clone, author):
    os.mkfifo(clone.path / "pipe")
    os.mkfifo(clone.path / ".git/objects/pack" / f"pack-{'a' * 40}.pack")
    (clone.path / ".git/refs/heads/run/run-1").unlink()
    os.mkfifo(clone.path / ".git/refs/heads/run/run-1")
    assert repository.collect("run-1", clone.path, author=author).empty


def test_nothing_named_git_is_taken_from_below(repository, clone, author):
    clone.write("a/.GIT/config", "[core]\n\tfsmonitor = evil\n")
    clone.write("a/kept.txt")
    assert repository.collect("run-1", clone.path, author=author).changed == ("a/kept.txt",)


@pytest.mark.parametrize("name", [".git", ".GIT", "..", "."])
def test_a_tree_with_a_name_that_leads_elsewhere_is_refused(repository, clone, author, name):
    blob = clone.git("hash-object", "-w", "README.md")
    raw = b"100644 " + name.encode() + b"\0" + bytes.fromhex(blob)
    (clone.path / "tree").write_bytes(raw)
    tree = clone.git("hash-object", "-w", "-t", "tree", "--literally", "tree")
    (clone.path / "tree").unlink()
    clone.git("update-ref", "HEAD", clone.git("commit-tree", tree, "-p", "HEAD", "-m", "Elsewhere"))
    with pytest.raises(CloneDamaged):
        repository.collect("run-1", clone.path, author=author)


@pytest.mark.parametrize("head", ["ref: ../../../etc/passwd", "ref: refs/heads/../../config", "ref: --all", "", "\0"])
def test_a_head_with_an_odd_name_counts_for_nothing(repository, clone, author, head):
    (clone.path / ".git/HEAD").write_text(head)
    clone.write("a.txt")
    collected = repository.collect("run-1", clone.path, author=author)
    assert (collected.history_replaced, collected.changed) == (True, ("a.txt",))


def test_replacement_objects_and_grafts_have_no_say(repository, clone, author):
    clone.write("a.txt")
    commit = clone.commit()
    clone.git("replace", commit, clone.git("rev-parse", "main"))
    (clone.path / ".git/info/grafts").write_text(f"{commit}\n")
    (clone.path / ".git/shallow").write_text(f"{commit}\n")
    assert repository.collect("run-1", clone.path, author=author).commit == commit
    assert [entry.commit for entry in repository.log(5, commit=commit)] == [commit, repository.head()]


def test_an_object_claiming_to_be_huge_is_never_unpacked(small, clone, author):
    clone.write("zeros", b"\0" * 5_000_000)
    clone.git("add", "zeros")
    (clone.path / "zeros").unlink()
    with pytest.raises(CloneTooLarge, match="max_file_bytes"):
        small(max_file_bytes=1_000_000, max_store_bytes=100_000).collect("run-1", clone.path, author=author)


def test_the_clone_knows_nothing_of_the_canonical_repository(repository, start, collect):
    first = start("first")
    first.write("secret.txt", "of another run\n")
    collect(first)
    second = start("second")
    assert str(repository.path) not in (second.path / ".git/config").read_text()
    assert second.git("remote") == ""
    assert not (second.path / ".git/objects/info/alternates").exists()
    assert second.git("for-each-ref", "--format=%(refname)").split() == [
        "refs/heads/main",
        "refs/heads/run/second",
    ]
    assert second.git("rev-list", "--all", "--count") == "1"
