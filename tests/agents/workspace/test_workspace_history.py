"""What pages ask of a repository."""

import shutil
from pathlib import Path

import pytest

from agents.workspace.errors import BadName, PathNotFound, UnknownCommit
from agents.workspace.repository import Repository


@pytest.fixture(scope="module")
def worked(created, agent_clone, author, tmp_path_factory) -> tuple[Path, str]:
    """A repository with a collected commit, made once, since nothing here changes it."""
    root = tmp_path_factory.mktemp("worked")
    repository = Repository(Path(shutil.copytree(created, root / "canonical.git")))
    repository.clone_for_run("run-0", root / "clone", author=author)
    clone = agent_clone(root / "clone", "run-0")
    clone.write("app/main.py", "print('hello')\n")
    clone.write("app/run.sh", "#!/bin/sh\n", mode=0o755)
    clone.write("data.bin", b"\0\1\2")
    clone.write("odd name\ttab.txt")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "-m", "Say hello", "-m", "Because it is polite.\n\nSecond paragraph.")
    return repository.path, repository.collect("run-0", clone.path, author=author).commit


@pytest.fixture
def repository(worked, tmp_path) -> Repository:
    return Repository(Path(shutil.copytree(worked[0], tmp_path / "canonical.git")))


@pytest.fixture
def commit(worked) -> str:
    return worked[1]


def test_log_tells_each_commit(repository, commit, author):
    entry, first = repository.log(10, commit=commit)
    assert (entry.commit, entry.parents) == (commit, (first.commit,))
    assert (entry.author, entry.email, entry.subject) == (author.name, author.email, "Say hello")
    assert entry.body == "Because it is polite.\n\nSecond paragraph."
    assert first.parents == ()


def test_log_shows_main_unless_asked(repository, commit):
    assert [entry.commit for entry in repository.log(10)] == [repository.head()]


def test_log_goes_on_after_a_commit(repository, start, deliver):
    """Two branches side by side: none is left out at the border of a page, and none comes twice."""
    clones = [start(f"run-{number}") for number in range(3)]
    for clone in clones:
        clone.write(f"{clone.run_id}.txt")
        clone.commit()
        deliver(clone)
    everything = [entry.commit for entry in repository.log(50)]
    pages, before = [], None
    while page := repository.log(2, before=before):
        pages += [entry.commit for entry in page]
        before = page[-1].commit
    assert pages == everything
    assert len(set(pages)) == 6


def test_log_of_an_unknown_commit_is_refused(repository):
    with pytest.raises(UnknownCommit):
        repository.log(1, before="1" * 40)


def test_tree_lists_directories_first(repository, commit):
    entries = repository.tree(commit)
    assert [(entry.name, entry.kind, entry.size_bytes) for entry in entries] == [
        ("app", "directory", None),
        ("README.md", "file", 36),
        ("data.bin", "file", 3),
        ("odd name\ttab.txt", "file", 8),
    ]


def test_tree_of_a_directory(repository, commit):
    assert [(entry.path, entry.executable) for entry in repository.tree(commit, "app/")] == [
        ("app/main.py", False),
        ("app/run.sh", True),
    ]


@pytest.mark.parametrize("path", ["none", "README.md", "app/main.py", ":(glob)*"])
def test_tree_of_what_is_no_directory_is_refused(repository, commit, path):
    with pytest.raises(PathNotFound):
        repository.tree(commit, path)


@pytest.mark.parametrize("path", ["../x", "/etc", "a\0b", "app/../../x"])
def test_a_path_that_leads_out_is_refused(repository, commit, path):
    with pytest.raises(BadName):
        repository.tree(commit, path)
    with pytest.raises(BadName):
        repository.file(commit, path)


def test_file_gives_its_content(repository, commit):
    content = repository.file(commit, "app/main.py")
    assert (content.data, content.size_bytes, content.truncated) == (b"print('hello')\n", 15, False)
    assert (content.kind, content.binary) == ("file", False)


def test_file_gives_the_beginning_of_a_large_one(repository, commit):
    content = repository.file(commit, "app/main.py", max_bytes=5)
    assert (content.data, content.size_bytes, content.truncated) == (b"print", 15, True)


def test_file_knows_a_binary_one(repository, commit):
    assert repository.file(commit, "data.bin").binary


def test_file_of_an_odd_name(repository, commit):
    assert repository.file(commit, "odd name\ttab.txt").data == b"content\n"


@pytest.mark.parametrize("path", ["none", "app", "", "*.md"])
def test_file_of_what_is_none_is_refused(repository, commit, path):
    with pytest.raises(PathNotFound):
        repository.file(commit, path)


def test_diff_shows_what_changed(repository, commit):
    diff = repository.diff(repository.head(), commit)
    assert "+print('hello')" in diff.text
    assert "Binary files /dev/null and b/data.bin differ" in diff.text
    assert not diff.truncated


def test_diff_of_one_path(repository, commit):
    assert "data.bin" not in repository.diff(repository.head(), commit, path="app").text


def test_diff_is_cut_at_its_limit(repository, commit):
    diff = repository.diff(repository.head(), commit, max_bytes=20)
    assert (len(diff.text), diff.truncated) == (20, True)


def test_diff_stat_counts_lines(repository, commit):
    changes = {change.path: change for change in repository.diff_stat(repository.head(), commit)}
    assert changes["app/main.py"] == ("app/main.py", None, 1, 0)
    assert changes["data.bin"] == ("data.bin", None, None, None)


def test_diff_stat_finds_a_rename(repository, clone, collect):
    clone.git("mv", "README.md", "ABOUT.md")
    (change,) = repository.diff_stat(repository.head(), collect(clone))
    assert (change.old_path, change.path, change.added, change.deleted) == ("README.md", "ABOUT.md", 0, 0)


def test_equal_files_have_the_same_tree(repository, clone, collect):
    clone.commit("Nothing changed")
    commit = collect(clone)
    assert commit != repository.head()
    assert repository.tree_sha(commit) == repository.tree_sha(repository.head())
