"""Workflows that come in as files: by command, over the API, in the portal."""

from datetime import datetime

from projects import audit
from projects.actions.workflows import save_workflow
from projects.actors import Actor
from projects.jsontext import storable_text
from projects.models import Workflow
from projects.workflows.definition import InvalidWorkflow
from projects.workflows.documents import read
from projects.workflows.places import with_lines

_MOST_TOLD = 10


def import_workflow(sent: str | bytes, *, by: Actor, now: datetime) -> Workflow:
    """Store JSON or YAML as the next version of its key, or return the newest where nothing changed.

    Raises InvalidWorkflow with the lines of what is wrong, which a row in the audit log says too. What was sent is not
    kept.
    """
    text = ""
    try:
        text = sent if isinstance(sent, str) else _decoded(sent)
        return save_workflow(read(text), by=by, now=now)
    except InvalidWorkflow as problem:
        error = with_lines(problem, text)
        told = [storable_text(problem, max_chars=500) for problem in error.problems[:_MOST_TOLD]]
        with audit.journal(by=by, now=now) as journal:
            journal.add("workflow.refused", details={"problems": told, "count": len(error.problems)})
        raise error from problem


def _decoded(sent: bytes) -> str:
    try:
        return sent.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidWorkflow(["It is no text in UTF-8."]) from None
