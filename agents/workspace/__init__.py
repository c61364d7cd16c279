"""The Git side of a project: its canonical repository, and everything taken out of a run's clone.

Plain Python around the `git` command; knows neither Django nor settings, values are passed in. Start reading at
`repository.Repository`. The one rule: git never runs inside a directory that an agent could write to.
"""

from agents.workspace.repository import Repository

__all__ = ["Repository"]
