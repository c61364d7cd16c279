"""States of a prompt version, and which may follow which. Data only: `learning.actions` writes them."""

from django.db import models

from projects.states import Transitions


class PromptStatus(models.TextChoices):
    """At most one version per role is active."""

    DRAFT = "draft"  # written, used by nobody
    TRIAL = "trial"  # used by some runs, to be compared with the active one
    ACTIVE = "active"  # what runs get
    RETIRED = "retired"  # was active or on trial; may come back


PROMPT_TRANSITIONS: Transitions[PromptStatus] = {
    PromptStatus.DRAFT: frozenset({PromptStatus.TRIAL, PromptStatus.ACTIVE, PromptStatus.RETIRED}),
    PromptStatus.TRIAL: frozenset({PromptStatus.ACTIVE, PromptStatus.RETIRED}),
    PromptStatus.ACTIVE: frozenset({PromptStatus.RETIRED}),
    PromptStatus.RETIRED: frozenset({PromptStatus.TRIAL, PromptStatus.ACTIVE}),
}
