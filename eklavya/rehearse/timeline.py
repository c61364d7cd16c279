"""How a rehearsal is shown: a line per piece of news on a terminal, or a JSON object per line."""

import json
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from eklavya.rehearse.driver import News, Outcome

# What is worth a line, and how it reads. The rest is in the audit log.
_SHOWN = {
    "project.created": ("●", "project created: {name}"),
    "task.started": ("▸", "{key} started by {actor}"),
    "task.completed": ("✓", "{key} completed"),
    "task.set_back": ("↺", "{key} set back: {reason}"),
    "task.blocked": ("!", "{key} blocked: {reason}"),
    "task.failed": ("✗", "{key} failed: {reason}"),
    "approval.asked": ("?", "decision asked: {kind}"),
    "approval.decided": ("✓", "decided: {kind} → {option}"),
    "commit.verified": ("✓", "commit verified: {tests_run} tests"),
    "commit.refused": ("✗", "commit refused: {reason}"),
    "project.demo": ("●", "on to the demo"),
    "project.building": ("●", "on to the build"),
    "project.paused": ("‖", "project paused: {reason}"),
    "project.complete": ("●", "project complete"),
}
_BAR_WIDTH = 24


class Timeline:
    """A live timeline for people, with a bar per project below it on a terminal."""

    def __init__(self, console: Console, *, several: bool) -> None:
        self._console = console
        self._several = several
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Timeline":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def tell(self, news: News) -> None:
        """Print a line, where the news is worth one."""
        if news.action not in _SHOWN:
            return
        mark, sentence = _SHOWN[news.action]
        said = sentence.format_map(_Blanks(news.details | {"actor": news.details.get("agent", news.actor)}))
        whose = f"{news.project[:24]:24}  " if self._several else ""
        self._console.print(Text(f"{news.at_s:6.1f} s  {whose}{mark} {said}"), soft_wrap=True)

    def tick(self, bars: list[tuple[str, int]]) -> None:
        """Move the bars."""
        if self._live:
            self._live.update(Text("\n".join(_bar(name, percent) for name, percent in bars)))

    def conclude(self, outcomes: list[Outcome]) -> None:
        """Say what became of each project."""
        for outcome in outcomes:
            good = not outcome.problems
            mark = "✓" if good else "✗"
            self._console.print(
                Text(f"\n{mark} {outcome.name}: {outcome.status} after {outcome.wall_s:.1f} s", style="bold")
            )
            facts = [
                ("cost", f"{outcome.cost} USD{' simulated' * outcome.simulated}, equal to its ledger"),
                ("tests", f"{outcome.tests_run} passed in a fresh clone" if outcome.tests_run else ""),
                ("preview", outcome.preview_url),
                ("clone", f"git clone {outcome.repository}"),
            ]
            for word, text in facts:
                if text:
                    self._console.print(Text(f"  {word:8} {text}"), soft_wrap=True)
            for problem in outcome.problems:
                self._console.print(Text(f"  problem  {problem}", style="red"), soft_wrap=True)


class JsonLines:
    """The same for programs: one JSON object per line, the outcomes last."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to take away."""

    def tell(self, news: News) -> None:
        """Print one piece of news."""
        self._print({"type": "news"} | asdict(news))

    def tick(self, bars: list[tuple[str, int]]) -> None:
        """Bars are for people."""

    def conclude(self, outcomes: list[Outcome]) -> None:
        """Print each outcome."""
        for outcome in outcomes:
            self._print({"type": "outcome"} | asdict(outcome))

    def _print(self, value: dict[str, Any]) -> None:
        self._console.out(json.dumps(value, default=str, ensure_ascii=False), highlight=False)


class _Blanks(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return ""


def _bar(name: str, percent: int) -> str:
    done = _BAR_WIDTH * percent // 100
    return f"{name[:32]:32} {'█' * done}{'░' * (_BAR_WIDTH - done)} {percent:3} %"
