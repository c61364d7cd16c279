"""What pages of lower apps show of runs. A template may name a higher app; Python of a lower app may not."""

from collections.abc import Collection, Iterable
from uuid import UUID

from django import template

from agents import queries
from agents.views.files import clone_url
from billing.levels import Level
from projects.models import Project

register = template.Library()


@register.simple_tag
def is_simulated(project: Project) -> bool:
    """Return whether nobody paid for what the project spent."""
    return queries.is_simulated(project.pk)


@register.simple_tag
def simulated_among(projects: Iterable[Project]) -> Collection[UUID]:
    """Return the ids of those projects for which nobody paid, for the tag `simulated` beside each one's sum."""
    return queries.simulated_projects([project.pk for project in projects])


@register.simple_tag
def simulated_levels(levels: Iterable[Level]) -> Collection[UUID]:
    """Return the ids of those levels' budgets from which nothing was paid."""
    return queries.simulated_budgets([level.budget_id for level in levels])


@register.simple_tag
def clone_command(project: Project) -> str:
    """Return what gets the project's repository onto somebody's machine."""
    return f"git clone {clone_url(project)}"
