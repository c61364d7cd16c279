"""A unified diff, cut into files and lines for a page. The text comes from agents' commits: it is data."""

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_LINES = 6_000
LINE_CHARS = 400
_SKIPPED = ("index ", "--- ", "+++ ", "similarity index ", "dissimilarity index ")
_LOOKS = {"+": "add", "-": "del", "@": "hunk", "\\": "note"}


@dataclass(frozen=True)
class DiffLine:
    """One line; `look` is add, del, hunk, note, or empty for what did not change."""

    look: str
    text: str


@dataclass(frozen=True)
class FileDiff:
    """What changed in one file. `facts` are Git's words: new file mode 100644, rename from x."""

    path: str
    facts: list[str] = field(default_factory=list)
    lines: list[DiffLine] = field(default_factory=list)


def parse(text: str) -> tuple[list[FileDiff], bool]:
    """Return the files of `git diff`'s output, and whether lines were left out because there are too many."""
    files: list[FileDiff] = []
    lines = text.split("\n")
    for line in lines[:MAX_LINES]:
        if line.startswith("diff --git "):
            files.append(FileDiff(line.rpartition(" b/")[2]))
        elif files:
            _add(files[-1], line)
    return files, len(lines) > MAX_LINES


def _add(file: FileDiff, line: str) -> None:
    """Sort a line in: before the first hunk Git speaks, after it the file does."""
    if file.lines or line.startswith("@@"):
        # A line of a hunk always has its sign; the empty one is the end of the output.
        file.lines.extend(_lines(line))
    elif line and not line.startswith(_SKIPPED):
        file.facts.append(line[:LINE_CHARS])


def _lines(line: str) -> Iterator[DiffLine]:
    if line:
        cut = line if len(line) <= LINE_CHARS else f"{line[:LINE_CHARS]}…"
        yield DiffLine(_LOOKS.get(line[0], ""), cut)
