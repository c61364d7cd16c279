"""Which changes may be merged. Trees are made in the canonical repository, past the checks of collecting."""

import subprocess

import pytest

from agents.workspace.paths import PathPolicy

ALL = PathPolicy(("**",))


@pytest.fixture
def check(repository):
    """Violations of a commit that holds these entries: (mode, name, content)."""

    def git(*args: str, given: bytes = b"") -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@x")
        done = subprocess.run(
            ["git", "--git-dir", repository.path, *identity, *args], input=given, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    def check(*entries: tuple[str, bytes, bytes], policy: PathPolicy = ALL):
        tree = b""
        for mode, name, content in entries:
            sha = git("hash-object", "-w", "--stdin", given=content) if mode != "160000" else "1" * 40
            tree += mode.encode() + b" " + name + b"\0" + bytes.fromhex(sha)
        root = git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", given=tree)
        commit = git("commit-tree", root, "-p", repository.head(), "-m", "x")
        return repository.check_paths(repository.head(), commit, policy=policy)

    return check


@pytest.mark.parametrize(
    ("patterns", "path", "allowed"),
    [
        (("**",), "a/b.c", True),
        (("tests/**",), "tests/a.py", True),
        (("tests/**",), "tests/deep/a.py", True),
        (("tests/**",), "tests", False),
        (("tests/**",), "app/tests/a.py", False),
        (("docs/**", "README.md"), "README.md", True),
        (("README.md",), "docs/README.md", False),
        (("README.md",), "READMEXmd", False),
        (("*.md",), "a/b.md", False),
        (("**/*.md",), "a/b.md", True),
        (("**/*.md",), "b.md", True),
        (("a?c",), "abc", True),
        (("a?c",), "a/c", False),
        ((), "a", False),
        (("tests/**",), "tests/a\n/../b", True),
    ],
)
def test_a_policy_allows_by_pattern(patterns, path, allowed):
    assert PathPolicy(patterns).allows(path) is allowed


def test_a_change_within_the_roles_paths_passes(repository, clone, author):
    clone.write("tests/test_a.py")
    collected = repository.collect("run-1", clone.path, author=author)
    policy = PathPolicy(("tests/**",))
    assert repository.check_paths(collected.base, collected.commit, policy=policy) == []


def test_a_change_outside_the_roles_paths_is_named(repository, clone, author):
    clone.write("tests/test_a.py")
    clone.write("app.py")
    collected = repository.collect("run-1", clone.path, author=author)
    (violation,) = repository.check_paths(collected.base, collected.commit, policy=PathPolicy(("tests/**",)))
    assert (violation.path, violation.rule) == ("app.py", "outside")
    assert violation.sentence == "app.py is not this role's to change; it may change tests/**."


def test_a_deletion_outside_the_roles_paths_is_named(repository, clone, author):
    (clone.path / "README.md").unlink()
    collected = repository.collect("run-1", clone.path, author=author)
    violations = repository.check_paths(collected.base, collected.commit, policy=PathPolicy(("tests/**",)))
    assert [violation.path for violation in violations] == ["README.md"]


def test_a_move_out_of_a_foreign_place_counts_there_too(repository, clone, author):
    clone.write("tests/README.md", (clone.path / "README.md").read_bytes())
    (clone.path / "README.md").unlink()
    collected = repository.collect("run-1", clone.path, author=author)
    violations = repository.check_paths(collected.base, collected.commit, policy=PathPolicy(("tests/**",)))
    assert [violation.path for violation in violations] == ["README.md"]


def test_a_role_that_may_change_nothing(repository, clone, author):
    clone.write("a.txt")
    collected = repository.collect("run-1", clone.path, author=author)
    (violation,) = repository.check_paths(collected.base, collected.commit, policy=PathPolicy(()))
    assert "it may change nothing" in violation.sentence


@pytest.mark.parametrize(
    ("mode", "name", "content", "rule"),
    [
        ("160000", b"sub", b"", "submodule"),
        ("100644", b".gitmodules", b"[submodule]", "submodule"),
        ("120000", b"link", b"/etc/passwd", "symlink"),
        ("120000", b"link", b"../outside", "symlink"),
        ("120000", b"link", b"a/../../outside", "symlink"),
        ("120000", b"link", b"a/../b", "symlink"),
        ("120000", b"link", b".git/config", "symlink"),
        ("100644", b".git", b"gitdir: /", "dot-git"),
        ("100644", b".GiT", b"", "dot-git"),
        ("100644", b"git~1", b"", "dot-git"),
        ("100644", b".git.", b"", "dot-git"),
        ("100644", ".g\u200cit".encode(), b"", "dot-git"),
        ("100644", b"..", b"", "traversal"),
        ("100644", b".", b"", "traversal"),
        ("100644", b"caf\xe9", b"", "encoding"),
        ("100644", b"a\nb", b"", "control"),
        ("100644", b".gitattributes", b"*.c filter=lfs diff=lfs\n", "filter"),
        ("100644", b".gitattributes", b"a text\n* filter\n", "filter"),
    ],
)
def test_an_entry_that_is_a_trick_is_named(check, mode, name, content, rule):
    violations = check((mode, name, content))
    assert {violation.rule for violation in violations} == {rule}
    assert all(violation.sentence.endswith(".") for violation in violations)


@pytest.mark.parametrize(
    ("mode", "name", "content"),
    [
        ("120000", b"link", b"README.md"),
        ("120000", b"link", b"a/b..c"),
        ("100644", b".gitignore", b"*.log\n"),
        ("100644", b".gitattributes", b"* text=auto\n*.c -filter\n"),
        ("100755", "café".encode(), b""),
        ("100644", b"a..b", b""),
    ],
)
def test_an_honest_entry_passes(check, mode, name, content):
    assert check((mode, name, content)) == []


def test_a_large_file_is_named(check):
    policy = PathPolicy(("**",), max_file_bytes=10)
    assert [v.rule for v in check(("100644", b"a", b"x" * 11), ("100644", b"b", b"x" * 10), policy=policy)] == ["size"]


@pytest.mark.parametrize("other", [b"readme", b"README", b"reAdme"])
def test_names_that_differ_in_case_only_are_named(check, other):
    violations = check(("100644", b"Readme", b""), ("100644", other, b""))
    assert {violation.rule for violation in violations} == {"case"}


def test_names_that_differ_in_composition_only_are_named(check):
    violations = check(("100644", "cafe\u0301".encode(), b""), ("100644", "caf\u00e9".encode(), b""))
    assert {violation.rule for violation in violations} == {"case"}


def test_directories_that_differ_in_case_only_are_named(repository, clone, author):
    clone.write("app/a.txt")
    clone.write("App/b.txt")
    collected = repository.collect("run-1", clone.path, author=author)
    violations = repository.check_paths(collected.base, collected.commit, policy=ALL)
    assert {(v.path, v.rule) for v in violations} == {("app/a.txt", "case"), ("App/b.txt", "case")}


def test_no_change_has_no_violation(repository):
    assert repository.check_paths(repository.head(), repository.head(), policy=PathPolicy(())) == []
