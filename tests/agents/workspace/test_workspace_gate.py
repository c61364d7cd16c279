"""The gate as a whole: clones that an agent made hostile, and what is refused of them by which rule.

Each refusal stands beside a control: the honest thing of the same kind, which passes.
"""

import os
import subprocess
import tarfile
from io import BytesIO
from zipfile import ZipFile

import pytest

from agents.workspace import git
from agents.workspace.errors import CloneDamaged, CloneTooLarge, WrongBranch
from agents.workspace.paths import PathPolicy

ALL = PathPolicy(("**",))
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"

# What an agent writes as a file, and the rules that refuse it; none for the controls.
FILES = {
    "docs/control\x07.md": {"control"},
    "docs/newline\n.md": {"control"},
    "docs/\u202egpj.exe": {"control"},
    "docs/line\u2028.md": {"control"},
    "docs/می\u200cخواهم.md": set(),
    "docs/back\\slash": {"portable"},
    "docs/..\\..\\outside": {"portable"},
    "docs/stream:hidden": {"portable"},
    "docs/dot.": {"portable"},
    "docs/space ": {"portable"},
    "docs/NUL.txt": {"portable"},
    "docs/com1": {"portable"},
    "docs/null.txt": set(),
    "docs/command.py": set(),
    "docs/" + "long" * 61: {"length"},
    "docs/" + "long" * 60: set(),
    "/".join(["d" * 99] * 11): {"length"},
    ".gitmodules": {"submodule"},
    "deep/.GitModules": {"submodule"},
    "docs/gitmod~1": {"submodule"},
    "docs/gi7eba~1": {"submodule"},
    "joiner/.gitmodules\u200c": {"submodule"},
    "docs/gitmodules": set(),
    "lfs/model.bin": {"lfs"},
    "lfs/about.md": set(),
    "filter/.gitattributes": {"filter"},
    "macro/.gitattributes": {"filter"},
    "return/.gitattributes": {"filter"},
    "short/gitatt~1": {"filter"},
    "merge/.gitattributes": {"attribute"},
    "subst/.gitattributes": {"attribute"},
    "ignore/.gitattributes": {"attribute"},
    "encoding/.gitattributes": {"attribute"},
    "honest/.gitattributes": set(),
    "size/large.bin": {"size"},
    "size/small.bin": set(),
    "case/Readme.md": {"case"},
    "case/README.md": {"case"},
    "case/café.md": {"case"},
    "case/cafe\u0301.md": {"case"},
    "case/stra\u00dfe.md": {"case"},
    "case/STRASSE.md": {"case"},
    "case/in\u200dvisible.md": {"case"},
    "case/invisible.md": {"case"},
    "case/other.md": set(),
}
CONTENTS = {
    "lfs/model.bin": POINTER,
    "lfs/about.md": f"A pointer of Git LFS begins like this:\n\n    {POINTER}",
    "filter/.gitattributes": "*.bin filter=lfs diff=lfs merge=binary -text\n",
    "macro/.gitattributes": "[attr]hidden filter=evil\n* hidden\n",
    "return/.gitattributes": "* text\rfilter=evil\n",
    "short/gitatt~1": "* filter=evil\n",
    "merge/.gitattributes": "*.lock merge=ours\n",
    "subst/.gitattributes": "*.py export-subst\n",
    "ignore/.gitattributes": "tests export-ignore\n",
    "encoding/.gitattributes": "*.py working-tree-encoding=UTF-16\n",
    "honest/.gitattributes": "# no filter here\n* text=auto eol=lf\n*.lock -diff merge=union\n*.png binary -filter\n",
    "size/large.bin": "x" * 1001,
    "size/small.bin": "x" * 1000,
}


def violations_of(repository, collected, policy=ALL):
    return repository.check_paths(collected.base, collected.commit, policy=policy)


def test_every_file_that_is_a_trick_is_refused_by_its_rule(repository, clone, author):
    for name in FILES:
        clone.write(name, CONTENTS.get(name, "content\n"))
    collected = repository.collect("run-1", clone.path, author=author)

    violations = violations_of(repository, collected, PathPolicy(("**",), max_file_bytes=1000))

    found = {name: {v.rule for v in violations if v.path in (name, ascii(name))} for name in FILES}
    assert found == FILES
    assert all(violation.sentence.endswith(".") for violation in violations)


def test_a_name_that_is_not_utf8_is_refused(repository, clone, author):
    with open(os.fsencode(clone.path) + b"/caf\xe9.txt", "wb") as file:
        file.write(b"content\n")
    (violation,) = violations_of(repository, repository.collect("run-1", clone.path, author=author))
    assert (violation.path, violation.rule) == ("caf\\xe9.txt", "encoding")


LINKS = {
    "absolute": ("/etc/passwd", {"symlink"}),
    "escaping": ("../outside", {"symlink"}),
    "deep/escaping": ("../../outside", {"symlink"}),
    "deep/inside": ("../README.md", set()),
    "backslashes": ("..\\outside", {"symlink"}),
    "drive": ("C:/Windows", {"symlink"}),
    "to-git": (".git/config", {"symlink"}),
    "deep/to-git": ("../.GIT/hooks", {"symlink"}),
    "short-git": ("git~1/config", {"symlink"}),
    ".gitattributes": ("README.md", {"symlink"}),
    "deep/.gitignore": ("../README.md", {"symlink"}),
    "plain": ("README.md", set()),
    "dangling": ("not/there/yet", set()),
}


def test_links_that_lead_out_or_to_git_are_refused(repository, clone, author):
    (clone.path / "deep").mkdir()
    for name, (target, _) in LINKS.items():
        (clone.path / name).symlink_to(target)
    violations = violations_of(repository, repository.collect("run-1", clone.path, author=author))
    assert {name: {v.rule for v in violations if v.path == name} for name in LINKS} == {
        name: rules for name, (_, rules) in LINKS.items()
    }


def test_what_an_earlier_commit_had_is_refused_too(repository, clone, author):
    """It stays in the history, for whoever checks that commit out."""
    clone.write("docs/NUL", "gone by the end\n")
    (clone.path / "out").symlink_to("/etc/passwd")
    clone.write("model.bin", POINTER)
    clone.write("app/left.py")
    clone.commit()
    for name in ("docs/NUL", "out", "model.bin"):
        (clone.path / name).unlink()
    clone.commit()
    collected = repository.collect("run-1", clone.path, author=author)
    assert collected.changed == ("app/left.py",)

    violations = violations_of(repository, collected)

    assert {(v.path, v.rule) for v in violations} == {
        ("docs/NUL", "portable"),
        ("out", "symlink"),
        ("model.bin", "lfs"),
    }
    assert all("An earlier commit of this change has it" in violation.sentence for violation in violations)


def test_a_detour_through_a_file_of_others_is_no_matter(repository, clone, author):
    clone.write("tests/test_a.py")
    clone.write("app.py")
    clone.commit()
    (clone.path / "app.py").unlink()
    clone.commit()
    collected = repository.collect("run-1", clone.path, author=author)
    assert violations_of(repository, collected, PathPolicy(("tests/**",))) == []


def test_what_a_merged_branch_had_is_refused_too(repository, clone, author):
    clone.git("checkout", "-qb", "side")
    (clone.path / "out").symlink_to("/etc/passwd")
    clone.commit()
    clone.git("rm", "-q", "out")
    clone.commit()
    clone.git("checkout", "-q", "run/run-1")
    clone.write("a.txt")
    clone.commit()
    clone.git("merge", "-q", "-m", "Merge", "side")
    violations = violations_of(repository, repository.collect("run-1", clone.path, author=author))
    assert [(v.path, v.rule) for v in violations] == [("out", "symlink")]


def test_ten_thousand_links_take_two_commands(repository, clone, author, monkeypatch):
    for number in range(10_000):
        (clone.path / str(number)).symlink_to("README.md")
    collected = repository.collect("run-1", clone.path, author=author)
    started = []
    enter = git._Process.__enter__
    monkeypatch.setattr(git._Process, "__enter__", lambda process: started.append(process.command) or enter(process))
    assert violations_of(repository, collected) == []
    assert len(started) < 20, started


def test_two_links_that_lead_out_together_are_refused(repository, clone, author, tmp_path):
    (clone.path / "a/b").mkdir(parents=True)
    (clone.path / "a/b/top").symlink_to("../..")
    (clone.path / "a/b/out").symlink_to("top/../../outside")
    collected = repository.collect("run-1", clone.path, author=author)

    repository.export(collected.commit, tmp_path / "x" / "export")
    led = (tmp_path / "x" / "export/a/b/out").resolve()
    assert led == tmp_path / "outside", "the attack works on who follows them"
    assert [(v.path, v.rule) for v in violations_of(repository, collected)] == [("a/b/out", "symlink")]


def test_a_repository_within_the_repository_is_refused(repository, clone, author):
    """As the agent's own git would store it: a gitlink. What was not added comes along as plain files."""
    clone.write("inner/a.txt")
    clone.git("init", "--quiet", "inner")
    clone.git("-C", "inner", "add", "a.txt")
    clone.git("-C", "inner", "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x")
    assert repository.collect("run-1", clone.path, author=author).changed == ("inner/a.txt",)

    inner = clone.git("-C", "inner", "rev-parse", "HEAD")
    clone.git("update-index", "--add", "--cacheinfo", f"160000,{inner},gone")
    clone.git("commit", "-qm", "A submodule")
    collected = repository.collect("run-1", clone.path, author=author)
    assert collected.changed == ("inner/a.txt",)
    assert {entry.kind for entry in repository.tree(collected.commit)} == {"file", "directory"}
    assert [(v.path, v.rule) for v in violations_of(repository, collected)] == [("gone", "submodule")]


@pytest.mark.parametrize("name", [b"git~1", b".git ", b".Git", ".g\u200cit".encode(), b".git::$INDEX_ALLOCATION"])
@pytest.mark.parametrize("where", [b"", b"deep"])
def test_a_git_directory_in_a_tree_is_refused_in_any_spelling(repository, clone, author, name, where):
    blob = clone.git("hash-object", "-w", "README.md")
    made = _tree(clone, b"40000 " + name + b"\0" + bytes.fromhex(_tree(clone, b"100644 a\0" + bytes.fromhex(blob))))
    if where:
        made = _tree(clone, b"40000 " + where + b"\0" + bytes.fromhex(made))
    clone.git("update-ref", "HEAD", clone.git("commit-tree", made, "-p", "HEAD", "-m", "x"))
    with pytest.raises(CloneDamaged) as refused:
        repository.collect("run-1", clone.path, author=author)
    assert refused.value.code == "clone-damaged"


def test_an_honest_tree_made_the_same_way_is_taken(repository, clone, author):
    blob = clone.git("hash-object", "-w", "README.md")
    made = _tree(clone, b"100644 README.md\0" + bytes.fromhex(blob))
    clone.git("update-ref", "HEAD", clone.git("commit-tree", made, "-p", "HEAD", "-m", "x"))
    assert repository.collect("run-1", clone.path, author=author).changed == ()


def _tree(clone, raw):
    (clone.path / ".git/raw").write_bytes(raw)
    return clone.git("hash-object", "-w", "-t", "tree", "--literally", ".git/raw")


@pytest.mark.parametrize(
    ("limits", "honest", "hostile"),
    [
        ({"max_files": 20}, 15, 25),
        ({"max_entries": 20}, 15, 25),
        ({"max_objects": 20}, 15, 25),
        ({"max_change_bytes": 2_000}, 10, 300),
    ],
)
def test_a_huge_change_is_refused_and_says_which_limit(small, clone, author, limits, honest, hostile):
    repository = small(**limits)
    for number in range(honest):
        clone.write(f"{number}.txt", f"{number:08}")
    assert len(repository.collect("run-1", clone.path, author=author).changed) == honest
    for number in range(hostile):
        clone.write(f"{number}.txt", f"{number:08}")
    clone.commit()
    with pytest.raises(CloneTooLarge) as refused:
        repository.collect("run-1", clone.path, author=author)
    assert (refused.value.code, {refused.value.limit: refused.value.allowed}) == ("too-large", limits)


def test_files_that_were_not_committed_are_counted_too(small, clone, author):
    for number in range(25):
        clone.write(f"{number}.txt")
    with pytest.raises(CloneTooLarge, match="max_files = 20"):
        small(max_files=20).collect("run-1", clone.path, author=author)


def test_a_tree_that_unfolds_to_billions_is_refused_before_it_is_walked(repository, clone, author):
    blob = clone.git("hash-object", "-w", "README.md")
    made = _tree(clone, b"".join(b"100644 %d\0" % n + bytes.fromhex(blob) for n in range(10)))
    for _ in range(9):
        made = _tree(clone, b"".join(b"40000 %d\0" % n + bytes.fromhex(made) for n in range(10)))
    clone.git("update-ref", "HEAD", clone.git("commit-tree", made, "-p", "HEAD", "-m", "bomb"))
    with pytest.raises(CloneTooLarge, match="max_files"):
        repository.collect("run-1", clone.path, author=author)


def test_only_the_runs_branch_is_taken(repository, clone, author):
    clone.write("a.txt")
    commit = clone.commit()
    for ref in ("refs/heads/other", "refs/tags/v1", "refs/notes/x", "refs/eklavya/runs/theirs", "refs/remotes/o/x"):
        clone.git("update-ref", ref, commit)
    clone.git("update-ref", "refs/heads/main", commit)
    main = repository.head()
    repository.collect("run-1", clone.path, author=author)
    listed = subprocess.run(
        ["git", "--git-dir", repository.path, "for-each-ref", "--format=%(refname)"], capture_output=True, check=True
    )
    assert listed.stdout.decode().split() == [
        "refs/eklavya/bases/run-1",
        "refs/eklavya/runs/run-1",
        "refs/heads/main",
    ]
    assert repository.head() == main


def test_work_left_on_another_branch_is_named(repository, clone, author):
    clone.write("a.txt")
    clone.commit()
    clone.git("checkout", "-qb", "elsewhere", "main")
    with pytest.raises(WrongBranch, match="leave it checked out") as refused:
        repository.collect("run-1", clone.path, author=author)
    assert refused.value.code == "wrong-branch"


@pytest.mark.parametrize(
    "name", ["shallow", "info/grafts", "objects/info/commit-graph", "index", "packed-refs", "worktrees/x/HEAD"]
)
def test_git_files_of_garbage_have_no_say(repository, clone, author, name):
    clone.write("a.txt")
    place = clone.path / ".git" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"\0garbage\xff" * 100)
    assert repository.collect("run-1", clone.path, author=author).changed == ("a.txt",)


def test_what_leaves_stays_below_its_directory(repository, clone, author, tmp_path):
    """What the gate refuses never gets there. If it did, neither an archive nor an export would write elsewhere."""
    for name in FILES:
        clone.write(name, CONTENTS.get(name, "content\n"))
    commit = repository.collect("run-1", clone.path, author=author).commit

    with ZipFile(BytesIO(b"".join(repository.archive(commit, "zip", prefix="app")))) as archive:
        zipped = archive.namelist()
    with tarfile.open(fileobj=BytesIO(b"".join(repository.archive(commit, "tar.gz", prefix="app")))) as archive:
        tarred = archive.getnames()
    repository.export(commit, tmp_path / "export" / "app")

    assert len(zipped) > len(FILES) < len(tarred)
    names = [name.split("/") for name in [*zipped, *tarred]]
    assert [parts for parts in names if parts[0] != "app" or ".." in parts] == []
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["app"]
