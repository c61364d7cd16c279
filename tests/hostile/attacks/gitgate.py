"""Poisoned changes. Each is made for real in the checkout; what becomes of it the platform says, at the gate."""

import os
import subprocess
from pathlib import Path

from .base import Stopped, Trace, World, attack

_MADE = "made"


def git(*arguments: str, given: "bytes | None" = None, plain: bool = False) -> str:
    """Run Git with its own guards off: an attacker's Git is what the attacker wants it to be."""
    unguarded = [] if plain else ["-c", "core.protectNTFS=false", "-c", "core.protectHFS=false"]
    done = subprocess.run(
        ["git", *unguarded, "-c", "core.hooksPath=/dev/null", *arguments], input=given, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def _blob(data: bytes) -> str:
    return git("hash-object", "-w", "--stdin", given=data)


def _index(path: bytes, sha: str, mode: str = "100644") -> str:
    git("update-index", "-z", "--index-info", given=f"{mode} {sha}\t".encode() + path + b"\0")
    raise Stopped(_MADE)


def _rule(rule: str, path: str) -> Trace:
    return ("change.refused", f"{rule}:{path}")


@attack(
    "git-symlink",
    "links to the host's passwords",
    stopped=_MADE,
    control="outside",
    trace=_rule("symlink", "gate/passwd"),
)
def symlink(world: World) -> str:
    return _index(b"gate/passwd", _blob(b"/etc/passwd"), "120000")


@attack(
    "git-symlink-up",
    "links out of the checkout by steps",
    stopped=_MADE,
    control="outside",
    trace=_rule("symlink", "gate/up"),
)
def symlink_up(world: World) -> str:
    return _index(b"gate/up", _blob(b"../../../other/HEAD"), "120000")


@attack(
    "git-symlink-in",
    "links into the Git directory",
    stopped=_MADE,
    control="outside",
    trace=_rule("symlink", "gate/hooks"),
)
def symlink_in(world: World) -> str:
    return _index(b"gate/hooks", _blob(b"../.git/hooks"), "120000")


@attack(
    "git-submodule",
    "brings a commit of another repository",
    stopped=_MADE,
    control="outside",
    trace=_rule("submodule", "gate/sub"),
)
def submodule(world: World) -> str:
    return _index(b"gate/sub", "1" * 40, "160000")


@attack(
    "git-modules",
    "declares a submodule whose address is a command",
    stopped=_MADE,
    control="outside",
    trace=_rule("submodule", ".gitmodules"),
)
def modules(world: World) -> str:
    return _index(b".gitmodules", _blob(b'[submodule "x"]\n\tpath = x\n\turl = ext::sh -c id\n'))


@attack(
    "git-filter",
    "has a program run on checkout",
    stopped=_MADE,
    control="outside",
    trace=_rule("filter", "gate/.gitattributes"),
)
def filters(world: World) -> str:
    return _index(b"gate/.gitattributes", _blob(b"* filter=evil\n"))


@attack(
    "git-substitution",
    "delivers something else than was verified",
    stopped=_MADE,
    control="outside",
    trace=_rule("attribute", ".gitattributes"),
)
def substitution(world: World) -> str:
    return _index(b".gitattributes", _blob(b"app/* export-ignore\n"))


@attack(
    "git-pointer", "delivers a pointer for a file", stopped=_MADE, control="outside", trace=_rule("lfs", "gate/big.bin")
)
def pointer(world: World) -> str:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
    return _index(b"gate/big.bin", _blob(text.encode()))


@attack(
    "git-size",
    "brings a file that clones choke on",
    stopped=_MADE,
    control="outside",
    trace=_rule("size", "gate/huge.bin"),
)
def size(world: World) -> str:
    return _index(b"gate/huge.bin", _blob(bytes(11_000_000)))


@attack(
    "git-case",
    "brings two names that some systems take for one",
    stopped=_MADE,
    control="outside",
    trace=_rule("case", "App/__main__.py"),
)
def case(world: World) -> str:
    return _index(b"App/__main__.py", _blob(b"print('the other one')\n"))


@attack(
    "dotgit-directory",
    "hides a Git directory in the tree",
    stopped=_MADE,
    control="outside",
    trace=("detail", "gate\\.git\\config"),
)
def directory(world: World) -> str:
    return _index(b"gate\\.git\\config", _blob(b"[core]\n\tfsmonitor = id\n"))


@attack(
    "git-encoding", "brings a name that is no text", stopped=_MADE, control="outside", trace=_rule("encoding", "gate/")
)
def encoding(world: World) -> str:
    return _index(b"gate/\xff\xfe", _blob(b"x"))


@attack(
    "git-hidden-name",
    "brings a name that reads as another",
    stopped=_MADE,
    control="outside",
    trace=_rule("control", ""),
)
def hidden(world: World) -> str:
    return _index("gate/\u202etxt.exe".encode(), _blob(b"x"))


@attack(
    "git-secret",
    "takes a key out in the delivery",
    stopped=_MADE,
    control="outside",
    trace=_rule("secret", "gate/settings.py"),
)
def secret(world: World) -> str:
    key = "ghp_" + "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"
    return _index(b"gate/settings.py", _blob(f'TOKEN = "{key}"\n'.encode()))


@attack(
    "zip-windows",
    "unpacks beside its directory, with backslashes",
    stopped=_MADE,
    control="outside",
    trace=_rule("portable", "..\\..\\gate.txt"),
)
def backslashes(world: World) -> str:
    return _index(b"..\\..\\gate.txt", _blob(b"x"))


@attack(
    "zip-device", "is unpacked onto a device", stopped=_MADE, control="outside", trace=_rule("portable", "gate/aux.txt")
)
def device(world: World) -> str:
    return _index(b"gate/aux.txt", _blob(b"x"))


def _canary(world: World, name: str) -> str:
    """A command that leaves a mark where only the host's processes can."""
    return f"touch {world['marks']}/{name}"


@attack(
    "hook-checkout", "has the host run a hook of the checkout", stopped=_MADE, control="outside", trace=("outside", "")
)
def hooks(world: World) -> str:
    hooks = Path(git("rev-parse", "--git-dir"), "hooks")
    hooks.mkdir(exist_ok=True)
    for name in (
        "post-checkout",
        "post-index-change",
        "pre-commit",
        "reference-transaction",
        "post-update",
        "pre-auto-gc",
    ):
        place = hooks / name
        place.write_text(f"#!/bin/sh\n{_canary(world, 'hook')}\n")
        place.chmod(0o755)
    raise Stopped(_MADE)


def _set(name: str, value: str) -> None:
    git("config", name, value, plain=True)


@attack(
    "hook-fsmonitor",
    "has the host run a program of the configuration",
    stopped=_MADE,
    control="outside",
    trace=("outside", ""),
)
def fsmonitor(world: World) -> str:
    _set("core.fsmonitor", _canary(world, "fsmonitor") + "; true")
    raise Stopped(_MADE)


@attack(
    "hook-filter",
    "has the host run a filter of the configuration",
    stopped=_MADE,
    control="outside",
    trace=("outside", ""),
)
def local_filter(world: World) -> str:
    """With attributes that no commit shows."""
    Path(git("rev-parse", "--git-dir"), "info", "attributes").write_text("* filter=evil\n")
    _set("filter.evil.clean", f"{_canary(world, 'filter')}; cat")
    _set("filter.evil.smudge", f"{_canary(world, 'filter')}; cat")
    raise Stopped(_MADE)


@attack(
    "hook-alternates",
    "reads another project's objects through its own",
    stopped=_MADE,
    control="outside",
    trace=("outside", ""),
)
def alternates(world: World) -> str:
    info = Path(git("rev-parse", "--git-dir"), "objects", "info")
    info.mkdir(exist_ok=True)
    (info / "alternates").write_text(f"{world['neighbour_repository']}/objects\n")
    raise Stopped(_MADE)


@attack(
    "tree-traversal",
    "unpacks beside its directory",
    stopped=_MADE,
    control="outside",
    trace=("detail", "../escaped.txt"),
)
def traversal(world: World) -> str:
    """A tree that Git itself would not make: an entry called `..`."""
    blob = _blob(b"x")
    inner = git("mktree", given=f"100644 blob {blob}\tescaped.txt\n".encode())
    entries = git("ls-tree", "HEAD") + f"\n040000 tree {inner}\t..\n"
    tree = git("mktree", given=entries.encode())
    commit = git("commit-tree", tree, "-p", "HEAD", "-m", "Out of here")
    git("update-ref", "HEAD", commit)
    raise Stopped(_MADE)


def commit(world: World) -> None:
    """Commit what the tricks have staged."""
    git("commit", "--quiet", "--no-verify", "--message", "Poison")
    os.sync()
