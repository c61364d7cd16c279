"""Merge candidates: main and a run's work in one commit, before main knows of it."""

import pytest

from agents.workspace.errors import MergeConflict, UnknownRun
from agents.workspace.values import PLATFORM, Author


def test_work_on_an_unmoved_main_is_a_fast_forward(repository, clone, collect):
    clone.write("a.txt")
    commit = collect(clone)
    candidate = repository.merge("run-1", "Merge a")
    assert candidate == (commit, repository.head(), True)


def test_work_on_an_older_main_gets_a_merge_commit(repository, start, deliver, collect):
    first, second = start("first"), start("second")
    first.write("a.txt")
    second.write("b.txt")
    main, tip = deliver(first), collect(second)
    candidate = repository.merge("second", "Merge b", author=Author("Dev Two", "dev-2@agents.invalid"))
    (entry, *_) = repository.log(1, commit=candidate.commit)
    assert (candidate.parent, candidate.fast_forward) == (main, False)
    assert (entry.parents, entry.author, entry.subject) == ((main, tip), "Dev Two", "Merge b")
    assert {"a.txt", "b.txt"} <= {found.name for found in repository.tree(candidate.commit)}


def test_a_merge_does_not_move_main(repository, clone, collect):
    before = repository.head()
    clone.write("a.txt")
    collect(clone)
    repository.merge("run-1", "Merge a")
    assert repository.head() == before


def test_changes_of_different_lines_merge(repository, start, deliver, collect):
    lines = [f"line {number}\n" for number in range(20)]
    begin = start("begin")
    begin.write("a.txt", "".join(lines))
    deliver(begin)
    first, second = start("first"), start("second")
    first.write("a.txt", "".join(["first\n", *lines[1:]]))
    second.write("a.txt", "".join([*lines[:-1], "second\n"]))
    deliver(first)
    collect(second)
    merged = repository.file(repository.merge("second", "Merge").commit, "a.txt").data.decode()
    assert (merged.startswith("first\n"), merged.endswith("second\n")) == (True, True)


def test_changes_of_the_same_lines_conflict(repository, start, deliver, collect):
    first, second = start("first"), start("second")
    for clone in (first, second):
        clone.write("same.txt", f"{clone.run_id}\n")
        clone.write(f"{clone.run_id}.txt")
    main = deliver(first)
    collect(second)
    with pytest.raises(MergeConflict) as caught:
        repository.merge("second", "Merge")
    assert caught.value.paths == ("same.txt",)
    assert "Merge conflict in same.txt" in caught.value.detail
    assert repository.head() == main


def test_a_clone_with_a_commit_has_both_and_says_where_they_conflict(repository, start, deliver, collect, tmp_path):
    first, second = start("first"), start("second")
    quoted = "How it looks:\n<<<<<<< HEAD\n=======\n>>>>>>> branch\n"
    for clone in (first, second):
        clone.write("same.txt", f"{clone.run_id}\n")
        clone.write(f"{clone.run_id}.txt", quoted)
    main = deliver(first)
    commit = collect(second)
    base = repository.clone_for_run("third", tmp_path / "third", author=PLATFORM, with_commit=commit)
    assert base == main
    assert {path.name for path in (tmp_path / "third").glob("*.txt")} == {"first.txt", "second.txt", "same.txt"}

    both = repository.collect("third", tmp_path / "third", author=PLATFORM).commit

    assert repository.contains(both, commit)
    assert repository.contains(both, main)
    assert repository.marked(both, ["same.txt", "first.txt", "second.txt"]) == ["same.txt"], "quoted ones are text"
    assert repository.marked(both, ["first.txt"]) == []
    assert not repository.contains(main, commit)


def test_what_another_merge_leaves_in_a_conflicting_file_is_a_marker(repository, start, collect):
    clone, base = start("run"), repository.head()
    left = "<<<<<<< HEAD\nMine.\n=======\nTheirs.\n>>>>>>> branch\n"
    texts = {"left.txt": left, "crlf.txt": left.replace("\n", "\r\n"), "heading.rst": "Title\n=======\n>>>>>>> deep\n"}
    for path, text in (texts | {"other.txt": left}).items():
        clone.write(path, text)
    commit = collect(clone)
    paths = [*texts, "other.txt"]
    assert repository.marked(commit, paths, conflicting=list(texts), before=[base]) == ["crlf.txt", "left.txt"]
    assert repository.marked(commit, ["left.txt"], conflicting=["left.txt"], before=[base, commit]) == [], "its text"


def test_a_clone_with_a_commit_that_main_has_is_a_clone_of_main(repository, start, deliver, tmp_path):
    main = deliver(start("first"))
    repository.clone_for_run("second", tmp_path / "second", author=PLATFORM, with_commit=main)
    assert repository.collect("second", tmp_path / "second", author=PLATFORM).commit == main


def test_a_change_of_a_deleted_file_conflicts(repository, start, deliver, collect):
    first, second = start("first"), start("second")
    (first.path / "README.md").unlink()
    second.write("README.md", "# Better\n")
    deliver(first)
    collect(second)
    with pytest.raises(MergeConflict) as caught:
        repository.merge("second", "Merge")
    assert caught.value.paths == ("README.md",)


def test_work_that_main_has_already_needs_nothing(repository, clone, deliver):
    clone.write("a.txt")
    main = deliver(clone)
    assert repository.merge("run-1", "Merge again") == (main, main, True)


def test_a_run_that_was_not_collected_cannot_be_merged(repository, clone):
    with pytest.raises(UnknownRun, match="collected"):
        repository.merge("run-1", "Merge")


def test_a_merge_driver_of_the_tree_does_not_run(repository, start, deliver, collect, sentinel):
    first, second = start("first"), start("second")
    for clone in (first, second):
        clone.write(".gitattributes", "* merge=evil\n")
        clone.write("same.txt", clone.run_id)
        clone.git("config", "merge.evil.driver", str(sentinel.program))
    deliver(first)
    collect(second)
    with pytest.raises(MergeConflict):
        repository.merge("second", "Merge")
    assert not sentinel.ran


@pytest.mark.parametrize("name", ["", "<>", "\n", "A <b@c>\nX: y", "."])
def test_any_name_of_an_author_gives_a_commit(repository, clone, name):
    clone.write("a.txt")
    collected = repository.collect("run-1", clone.path, author=Author(name, name))
    assert repository.log(1, commit=collected.commit)[0].author
