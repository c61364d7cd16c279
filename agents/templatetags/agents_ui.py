"""What pages of lower apps show of runs. A template may name a higher app; Python of a lower app may not."""

from django import template

from agents import queries
from agents.views.files import clone_url
from projects.models import Project

register = template.Library()


@register.simple_tag
def is_simulated(project: Project) -> bool:
    """Return whether nobody paid for what the project spent."""
    return queries.is_simulated(project.pk)


@register.simple_tag
def clone_command(project: Project) -> str:
    """Return what gets the project's repository onto somebody's machine."""
    return f"git clone {clone_url(project)}"
