"""The batch: what lands, what is refused and for what; over all kinds of changes on a model, and in repositories."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.merging import batch
from agents.merging.batch import FailedCheck, Landed, MainBusy, Refused, Unmergeable, settle
from agents.workspace.errors import MainMoved, MergeConflict
from agents.workspace.repository import Repository


@dataclass(frozen=True)
class Sight:
    passed: bool


@dataclass
class Model:
    """A project in which a commit is the set of changes that are in it."""

    bad: frozenset[int] = frozenset()
    quarrels: frozenset[frozenset[int]] = frozenset()
    """Two that fail together."""
    conflicts: frozenset[frozenset[int]] = frozenset()
    unwanted: set[int] = field(default_factory=set)
    moves: int = 0
    """So often somebody else moves main first."""
    main: frozenset[int] = frozenset()
    looks: int = 0
    confirmed: dict[int, frozenset[int]] = field(default_factory=dict)
    mains: list[frozenset[int]] = field(default_factory=list)

    def passes(self, commit: frozenset[int]) -> bool:
        return not (commit & self.bad) and not any(pair <= commit for pair in self.quarrels)

    def head(self) -> frozenset[int]:
        return self.main

    def merge(self, change: int, onto: frozenset[int]) -> frozenset[int]:
        if any(pair <= onto | {change} for pair in self.conflicts if change in pair):
            raise Unmergeable(onto)
        return onto | {change}

    def verify(self, commit: frozenset[int], changes: Sequence[int]) -> Sight:
        assert commit == self.main | set(changes)
        self.looks += 1
        return Sight(self.passes(commit))

    def confirm(self, commits: Sequence[tuple[int, frozenset[int]]], seen: Sight) -> list[tuple[int, Exception]]:
        assert seen.passed
        self.confirmed.update(commits)
        return [(change, KeyError(change)) for change, _ in commits if change in self.unwanted]

    def advance(self, *, expected_old: frozenset[int], new: frozenset[int]) -> None:
        if self.moves:
            self.moves -= 1
            self.main |= {-self.moves - 1}
            raise MainMoved("old", "new")
        assert expected_old == self.main
        assert self.passes(new)
        assert all(self.confirmed[change] <= new for change in new - self.main if change > 0)
        self.main = new
        self.mains.append(new)


def pairs(size: int) -> st.SearchStrategy[frozenset[frozenset[int]]]:
    every = [frozenset(pair) for pair in combinations(range(1, size + 1), 2)]
    return st.frozensets(st.sampled_from(every), max_size=6) if every else st.just(frozenset())


@st.composite
def models(draw: st.DrawFn) -> tuple[int, Model]:
    size = draw(st.integers(1, 12))
    some = st.frozensets(st.integers(1, size), max_size=4)
    return size, Model(
        bad=draw(some),
        quarrels=draw(pairs(size)),
        conflicts=draw(pairs(size)),
        unwanted=set(draw(some)),
        moves=draw(st.integers(0, 3)),
    )


@given(models())
def test_each_change_has_one_outcome_and_only_for_its_own_faults(made: tuple[int, Model]) -> None:
    size, model = made
    outcomes = []
    for change, outcome in settle(range(1, size + 1), model):
        outcomes.append(change)
        match outcome:
            case Landed(commit):
                assert change in model.main
                assert commit == model.confirmed[change] <= model.main
                assert change not in model.bad
            case Refused(FailedCheck()):
                # With main as it is now it fails, and without it main passes.
                assert model.passes(model.main)
                assert not model.passes(model.main | {change})
            case Refused(Unmergeable()):
                assert any(pair - {change} <= model.main for pair in model.conflicts if change in pair)
            case Refused(KeyError()):
                assert change in model.unwanted
            case other:
                raise AssertionError(other)
    assert sorted(outcomes) == list(range(1, size + 1))
    assert all(model.passes(main) for main in model.mains)


@given(st.integers(1, 60), st.data())
def test_one_bad_change_costs_a_few_looks_and_no_other_change(size: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(1, size))
    model = Model(bad=frozenset({bad}))
    outcomes = dict(settle(range(1, size + 1), model))
    assert {change for change, outcome in outcomes.items() if isinstance(outcome, Landed)} == {*outcomes} - {bad}
    assert model.looks <= ceil(log2(size)) + 2
    assert len(model.mains) <= 2


def test_good_changes_are_looked_at_once() -> None:
    model = Model()
    outcomes = list(settle(range(1, 51), model))
    assert model.looks == len(model.mains) == 1
    assert all(isinstance(outcome, Landed) and outcome.others == 49 for _, outcome in outcomes)


def test_change_that_conflicts_with_a_refused_one_lands() -> None:
    model = Model(bad=frozenset({1}), conflicts=frozenset({frozenset({1, 2})}))
    outcomes = dict(settle([1, 2], model))
    assert isinstance(outcomes[1], Refused)
    assert isinstance(outcomes[2], Landed)


def test_main_that_never_stands_still_refuses_without_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_TRIES", 3)
    model = Model(moves=9)
    outcomes = dict(settle([1, 2], model))
    assert {type(outcome.error) for outcome in outcomes.values() if isinstance(outcome, Refused)} == {MainBusy}
    assert model.looks == 3


def test_problem_of_the_platform_ends_the_batch_with_main_where_it_is() -> None:
    class Broken(Model):
        def verify(self, commit: frozenset[int], changes: Sequence[int]) -> Sight:
            raise OSError("no sandbox")

    model = Broken()
    with pytest.raises(OSError, match="no sandbox"):
        list(settle([1], model))
    assert not model.mains


class Real:
    """A repository, where a commit passes when the file `broken` is not in it."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.looked_at: list[str] = []
        self.head = repository.head
        self.advance = repository.advance_main

    def merge(self, change: str, onto: str) -> str:
        try:
            return self.repository.merge(change, f"Merge {change}", onto=onto).commit
        except MergeConflict as conflict:
            raise Unmergeable(conflict.paths) from conflict

    def verify(self, commit: str, changes: Sequence[str]) -> Sight:
        self.looked_at.append(commit)
        return Sight("broken" not in {entry.name for entry in self.repository.tree(commit)})

    def confirm(self, commits: Sequence[tuple[str, str]], seen: Sight) -> list[tuple[str, Exception]]:
        return []


@pytest.fixture
def changes(start, collect):
    """Make changes of these files, each on the main that is there now."""

    def make(**files: dict[str, str]) -> list[str]:
        for name, content in files.items():
            clone = start(name)
            for path, text in content.items():
                clone.write(path, text)
            collect(clone)
        return list(files)

    return make


def test_changes_land_together_with_their_own_commits(repository, changes) -> None:
    runs = changes(one={"1.txt": ""}, two={"2.txt": ""}, three={"3.txt": ""})
    real = Real(repository)
    outcomes = dict(settle(runs, real))
    assert real.looked_at == [repository.head()]
    assert {"1.txt", "2.txt", "3.txt"} <= {entry.name for entry in repository.tree(repository.head())}
    assert outcomes["three"].commit == repository.head()
    assert all(repository.is_merged(outcome.commit) for outcome in outcomes.values())
    merged = [entry.subject for entry in repository.log(10) if len(entry.parents) == 2]
    assert merged == ["Merge three", "Merge two"]  # the first one only moved main on


def test_only_what_breaks_main_or_conflicts_with_it_stays_out(repository, changes) -> None:
    runs = changes(
        one={"same.txt": "one\n"},
        bad={"broken": "", "other.txt": "bad\n"},
        two={"same.txt": "two\n"},
        three={"other.txt": "three\n"},
        four={"4.txt": ""},
    )
    outcomes = dict(settle(runs, Real(repository)))
    assert {run for run, outcome in outcomes.items() if isinstance(outcome, Landed)} == {"one", "three", "four"}
    assert isinstance(outcomes["bad"].error, FailedCheck)
    assert outcomes["two"].error.args == (("same.txt",),)
    tip = repository.head()
    assert repository.file(tip, "other.txt").data == b"three\n"
    assert repository.file(tip, "same.txt").data == b"one\n"
