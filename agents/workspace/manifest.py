"""`eklavya.toml`: how a delivered repository says what its tests and its application are.

    [project]
    name = "…"                 optional
    [commands]
    test = "…"                 exits with 0 when all is well, and runs at least one test
    start = "…"                serves HTTP on $HOST:$PORT, keeps its data under $DATA_DIR
    [health]
    path = "/"                 answers 200 once the application is up; "/" when left out

Commands are run by `sh -c` in the checkout. Keys that are not known here are left alone.
"""

import tomllib
from dataclasses import dataclass
from typing import Any

from agents.workspace.errors import CommandMissing, ManifestInvalid, ManifestMissing, PathNotFound
from agents.workspace.repository import Repository

FILE_NAME = "eklavya.toml"
MAX_BYTES = 65_536
_MAX_COMMAND_CHARACTERS = 2000
_MAX_NAME_CHARACTERS = 200
_MAX_PATH_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Manifest:
    """What eklavya.toml says; a command that it does not name is None."""

    name: str
    test: str | None
    start: str | None
    health_path: str

    def test_command(self) -> str:
        """The test command; raises CommandMissing when there is none."""
        return _present("test", self.test)

    def start_command(self) -> str:
        """The start command; raises CommandMissing when there is none."""
        return _present("start", self.start)


def load(repository: Repository, commit: str) -> Manifest:
    """The manifest of a commit. Raises ManifestMissing, ManifestInvalid, UnknownCommit."""
    try:
        content = repository.file(commit, FILE_NAME, max_bytes=MAX_BYTES)
    except PathNotFound as exc:
        raise ManifestMissing from exc
    if content.kind != "file":
        raise ManifestInvalid(f"{FILE_NAME} must be a plain file, not a {content.kind}")
    if content.truncated:
        raise ManifestInvalid(f"{FILE_NAME} has {content.size_bytes} bytes; at most {MAX_BYTES} are read")
    return parse(content.data)


def parse(data: bytes) -> Manifest:
    """A manifest from the bytes of the file. Raises ManifestInvalid with a sentence that says what to change."""
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise ManifestInvalid(f"{FILE_NAME} is not UTF-8") from exc
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise ManifestInvalid(f"{FILE_NAME} is not valid TOML: {exc}") from exc
    commands = _table(document, "commands")
    return Manifest(
        name=_text(_table(document, "project"), "project.name", _MAX_NAME_CHARACTERS) or "",
        test=_text(commands, "commands.test", _MAX_COMMAND_CHARACTERS),
        start=_text(commands, "commands.start", _MAX_COMMAND_CHARACTERS),
        health_path=_health_path(_table(document, "health")),
    )


def _table(document: dict[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise ManifestInvalid(f"{FILE_NAME}: [{name}] must be a table")
    return table


def _text(table: dict[str, Any], place: str, max_characters: int) -> str | None:
    value = table.get(place.rpartition(".")[2])
    if value is None:
        return None
    if not isinstance(value, str):
        raise ManifestInvalid(f"{FILE_NAME}: {place} must be a string, not {type(value).__name__}")
    if not value.strip() or "\0" in value or len(value) > max_characters:
        raise ManifestInvalid(f"{FILE_NAME}: {place} must have 1 to {max_characters} characters")
    return value.strip()


def _health_path(table: dict[str, Any]) -> str:
    path = _text(table, "health.path", _MAX_PATH_CHARACTERS) or "/"
    if not path.startswith("/") or path.startswith("//") or not path.isprintable() or " " in path or "#" in path:
        raise ManifestInvalid(f'{FILE_NAME}: health.path must be a path on the server, such as "/health"')
    return path


def _present(name: str, command: str | None) -> str:
    if command is None:
        raise CommandMissing(name)
    return command
