"""What pages of lower apps show of demos. A template may name a higher app; Python of a lower app may not."""

from django import template
from django.utils import timezone

from demos import queries
from demos.models import Demo
from projects.models import Approval, Project

register = template.Library()


@register.simple_tag
def latest_demo(project: Project) -> Demo | None:
    """Return the project's newest demo."""
    return Demo.objects.filter(project=project).order_by("-demo_number").first()


@register.simple_tag
def demo_of(approval: Approval) -> Demo | None:
    """Return the demo that an approval asks about."""
    return Demo.objects.filter(pk=approval.subject_id, project=approval.project_id).first()


@register.filter
def answers(demo: Demo | None) -> bool:
    """Return whether the demo's preview can be looked at now."""
    return demo is not None and queries.is_open(demo, timezone.now())
