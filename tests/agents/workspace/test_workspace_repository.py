"""The canonical repository itself: made once, moved forward only."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agents.workspace.errors import BadName, HistoryRewritten, MainMoved, RepositoryMissing, UnknownCommit
from agents.workspace.repository import Repository


def test_create_makes_a_first_commit(repository):
    (entry,) = repository.log(10)
    assert entry.commit == repository.head()
    assert repository.file(entry.commit, "README.md").data.startswith(b"# New project")


def test_create_again_changes_nothing(repository):
    assert repository.create("# Other\n") == repository.head()
    assert len(repository.log(10)) == 1


def test_create_by_many_at_once_makes_one(tmp_path):
    repository = Repository(tmp_path / "deep" / "canonical.git")
    with ThreadPoolExecutor(8) as pool:
        heads = set(pool.map(lambda _: repository.create(), range(8)))
    assert heads == {repository.head()}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["canonical.git"]


def test_head_of_a_missing_repository_is_refused(tmp_path):
    with pytest.raises(RepositoryMissing):
        Repository(tmp_path / "none.git").head()


def test_advance_main_moves_it(repository, clone, collect):
    clone.write("a.txt")
    old, new = repository.head(), collect(clone)
    repository.advance_main(expected_old=old, new=new)
    assert repository.head() == new
    assert repository.is_merged(new)


def test_advance_main_from_a_stale_commit_is_refused(repository, start, deliver, collect):
    first, second = start("first"), start("second")
    first.write("a.txt")
    second.write("b.txt")
    old = repository.head()
    new = collect(second)
    moved = deliver(first)
    with pytest.raises(MainMoved) as caught:
        repository.advance_main(expected_old=old, new=new)
    assert caught.value.actual == moved
    assert repository.head() == moved


def test_advance_main_by_many_at_once_lets_one_win(repository, start, collect):
    old = repository.head()
    commits = []
    for number in range(4):
        clone = start(f"run-{number}")
        clone.write(f"{number}.txt")
        commits.append(collect(clone))

    def advance(commit: str) -> bool:
        try:
            repository.advance_main(expected_old=old, new=commit)
        except MainMoved:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(advance, commits)) == 1


def test_advance_main_never_rewrites_history(repository, clone, deliver):
    old = repository.head()
    clone.write("a.txt")
    new = deliver(clone)
    with pytest.raises(HistoryRewritten):
        repository.advance_main(expected_old=new, new=old)


def test_advance_main_to_an_unknown_commit_is_refused(repository):
    with pytest.raises(UnknownCommit):
        repository.advance_main(expected_old=repository.head(), new="0" * 40)


def test_is_merged_is_false_before_main_moves(repository, clone, collect):
    clone.write("a.txt")
    assert not repository.is_merged(collect(clone))


@pytest.mark.parametrize("commit", ["main", "--all", "HEAD", "abc", "A" * 40])
def test_a_commit_is_named_by_its_full_id_only(repository, commit):
    with pytest.raises(BadName):
        repository.is_merged(commit)


def test_maintain_packs_and_drops_nothing(repository, clone, collect):
    clone.write("a.txt")
    commit = collect(clone)
    repository.maintain()
    assert not list((repository.path / "objects").glob("[0-9a-f][0-9a-f]/*"))
    assert repository.file(commit, "a.txt").data == b"content\n"


def test_maintain_clears_what_a_killed_collect_left(repository):
    left = repository.path / "quarantine" / "old"
    left.mkdir(parents=True)
    repository.maintain()
    assert left.exists()
    repository.maintain(now_s=left.stat().st_mtime + 2 * 24 * 3600)
    assert not left.exists()


def test_a_collect_leaves_no_quarantine(repository, clone, collect):
    collect(clone)
    assert list((repository.path / "quarantine").iterdir()) == []


def test_commands_ignore_the_callers_environment(repository, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere"))
    assert len(repository.log(1)) == 1
