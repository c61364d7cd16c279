"""What `manage.py run` shows: progress on stderr, and where to go on stdout."""

import textwrap
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.text import Text

from eklavya.services.stack import Report

_MARKS = {"ready": ("✓", "green"), "stopped": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red")}
_NAME_WIDTH = 26
_DETAIL_WIDTH = 22
_INDENT = " " * 11


class Fact(NamedTuple):
    """One line of the final screen."""

    word: str
    text: str
    warns: bool = False


class Screen:
    """The terminal of one start. Without one there is no colour, no movement, and no line is wrapped."""

    def __init__(self, out: Console | None = None, progress: Console | None = None) -> None:
        self._out = out or Console(highlight=False, soft_wrap=True)
        self._progress = progress or Console(stderr=True, highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._starting: dict[str, str] = {}
        self._up = False

    def header(self, version: str, *, var: Path) -> None:
        """Name the program and the data."""
        self._progress.print(f"[bold]Eklavya {version}[/bold]  ·  data {escape(str(var))}")

    def report(self, report: Report) -> None:
        """Show one piece of news: a line when something is done or went wrong, the moving line otherwise."""
        if report.state == "starting":
            self._starting[report.name] = f"{report.title} {report.detail}".strip()
        else:
            self._starting.pop(report.name, None)
        if self._up:
            self._news(report)
        elif report.state in _MARKS and report.state != "stopped":
            self._line(report)
        self._show_starting()

    def _line(self, report: Report) -> None:
        mark, colour = _MARKS[report.state]
        took = f"{report.seconds:5.1f} s" if report.seconds else ""
        line = Text(f"  {mark} ", style=colour)
        line.append(f"{report.title:{_NAME_WIDTH}} {report.detail:{_DETAIL_WIDTH}} {took}".rstrip(), style="default")
        self._progress.print(line)

    def _news(self, report: Report) -> None:
        """What happens after the start. Parts that stop are told only if that took a while."""
        if report.state in {"starting", "stopping"} or (report.state == "stopped" and report.seconds < 1):
            return
        words = {"ready": "works again", "stopped": f"stopped in {report.seconds:.0f} s"}
        colour = {"failed": "red", "restarting": "yellow", "warning": "yellow"}.get(report.state, "default")
        line = f"{time.strftime('%H:%M:%S')} {report.title} {words.get(report.state, report.detail)}"
        self._progress.print(Text(line, style=colour))

    def _show_starting(self) -> None:
        """The moving line, on a terminal only."""
        if not self._progress.is_terminal or self._up:
            return
        if self._status is None:
            self._status = self._progress.status("")
            self._status.start()
        self._status.update("starting " + escape(", ".join(self._starting.values())) if self._starting else "")

    def ready(self, facts: list[Fact], *, seconds: float) -> None:
        """The one clear screen at the end of a start."""
        self.end_progress()
        self._up = True
        self._progress.print(f"  ready in {seconds:.1f} s\n")
        self.facts(facts)

    def facts(self, facts: list[Fact]) -> None:
        """Where to go, on stdout. On a terminal long sentences break between words."""
        for fact in facts:
            first, *rest = self._lines(fact.text)
            line = Text(f"  {fact.word:8} ", style="bold")
            line.append(
                "\n".join([first, *(_INDENT + one for one in rest)]), style="yellow" if fact.warns else "default"
            )
            self._out.print(line)
        self._out.print()
        self._out.file.flush()

    def _lines(self, text: str) -> list[str]:
        if not self._out.is_terminal:
            return [text]
        width = max(self._out.width - len(_INDENT), 20)
        # an address is one word: it must stay one thing to click
        return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]

    def say(self, sentence: str) -> None:
        """One plain line of progress."""
        self.end_progress()
        self._progress.print(Text(sentence))

    def farewell(self, sentence: str, *, left: list[str]) -> None:
        """The last line: that all is stopped, or else what is not, and how to end it."""
        if not left:
            self.say(sentence)
            return
        self.end_progress()
        self._progress.print(Text("NOT everything is stopped:", style="red"))
        for one in left:
            self._progress.print(Text(f"  - {one}"))

    def end_progress(self) -> None:
        """Take the moving line away."""
        if self._status is not None:
            self._status.stop()
            self._status = None
