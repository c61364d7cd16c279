"""eklavya.toml, right and wrong."""

import pytest

from agents.workspace import manifest
from agents.workspace.errors import CommandMissing, ManifestInvalid, ManifestMissing

WHOLE = b"""
[project]
name = "Shop"
[commands]
test = "python3 -m unittest"
start = "python3 -m app"
[health]
path = "/health?full=1"
"""


def test_a_whole_manifest_is_read():
    read = manifest.parse(WHOLE)
    assert (read.name, read.test_command(), read.start_command()) == ("Shop", "python3 -m unittest", "python3 -m app")
    assert read.health_path == "/health?full=1"


def test_an_empty_manifest_has_defaults():
    assert manifest.parse(b"") == manifest.Manifest("", None, None, "/")


def test_unknown_keys_are_left_alone():
    assert manifest.parse(WHOLE + b"timeout = 3\n[other]\nx = 1\n") == manifest.parse(WHOLE)


@pytest.mark.parametrize("command", ["test", "start"])
def test_a_missing_command_is_named(command):
    read = manifest.parse(b"")
    with pytest.raises(CommandMissing, match=f"has no {command} command") as caught:
        getattr(read, f"{command}_command")()
    assert caught.value.command == command


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"\xff", "not UTF-8"),
        (b"[commands", "not valid TOML"),
        (b"x = " + b"[" * 20_000, "not valid TOML"),
        (b"commands = 1", r"\[commands\] must be a table"),
        (b"health = []", r"\[health\] must be a table"),
        (b"[commands]\ntest = 1", "commands.test must be a string, not int"),
        (b"[commands]\nstart = ['a']", "commands.start must be a string, not list"),
        (b"[commands]\nstart = ' '", "commands.start must have 1 to"),
        (b'[commands]\nstart = "a\\u0000b"', "commands.start must have 1 to"),
        (b"[commands]\nstart = '" + b"x" * 3000 + b"'", "commands.start must have 1 to"),
        (b"[project]\nname = true", "project.name must be a string, not bool"),
        (b"[health]\npath = 'health'", "health.path must be a path"),
        (b"[health]\npath = '//evil.example/'", "health.path must be a path"),
        (b"[health]\npath = '/a b'", "health.path must be a path"),
        (b'[health]\npath = "/a\\r\\nHost: x"', "health.path must be a path"),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_reason(text, complaint):
    with pytest.raises(ManifestInvalid, match=complaint):
        manifest.parse(text)


def test_the_manifest_of_a_commit_is_read(repository, clone, collect):
    clone.write("eklavya.toml", WHOLE)
    assert manifest.load(repository, collect(clone)).name == "Shop"


def test_a_commit_without_manifest_is_told(repository):
    with pytest.raises(ManifestMissing, match="There is no file"):
        manifest.load(repository, repository.head())


def test_a_manifest_that_is_a_link_is_refused(repository, clone, collect):
    (clone.path / "eklavya.toml").symlink_to("/etc/hostname")
    with pytest.raises(ManifestInvalid, match="plain file, not a symlink"):
        manifest.load(repository, collect(clone))


def test_a_manifest_that_is_too_large_is_refused(repository, clone, collect):
    clone.write("eklavya.toml", b"#" * 70_000)
    with pytest.raises(ManifestInvalid, match="70000 bytes"):
        manifest.load(repository, collect(clone))
