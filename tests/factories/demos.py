"""Demos, prompts and what they led to."""

from datetime import timedelta
from decimal import Decimal

import factory
from factory.django import DjangoModelFactory

from demos.models import Demo, DemoFeedback
from demos.states import DemoStatus
from learning.models import Outcome, PromptVersion
from learning.states import PromptStatus
from projects.ids import new_id
from projects.roles import Role
from projects.states import (
    ProjectStatus,
)
from tests.factories.common import COMMIT, NOW, next_number


class DemoFactory(DjangoModelFactory[Demo]):
    class Meta:
        model = Demo

    project = factory.SubFactory("tests.factories.ProjectFactory", status=ProjectStatus.DEMO)
    demo_number = factory.LazyAttribute(lambda o: next_number(Demo.objects.filter(project=o.project), "demo_number"))
    status = DemoStatus.READY
    commit = COMMIT
    summary = "Lend a drill on the first page."
    token = factory.LazyFunction(lambda: new_id().hex)
    preview_url = factory.LazyAttribute(lambda o: f"http://{o.token}.preview.localhost:8000/")
    created_at = NOW
    ready_at = factory.LazyAttribute(lambda o: None if o.status == DemoStatus.BUILDING else NOW)
    approved_at = factory.LazyAttribute(lambda o: NOW if o.status == DemoStatus.APPROVED else None)
    decided_at = factory.LazyAttribute(
        lambda o: None if o.status in {DemoStatus.BUILDING, DemoStatus.READY, DemoStatus.EXPIRED} else NOW
    )
    expires_at = NOW + timedelta(days=7)


class DemoFeedbackFactory(DjangoModelFactory[DemoFeedback]):
    class Meta:
        model = DemoFeedback

    demo = factory.SubFactory(DemoFactory)
    body = "The list should show what is overdue."
    created_at = NOW


class PromptVersionFactory(DjangoModelFactory[PromptVersion]):
    class Meta:
        model = PromptVersion

    agent_type = Role.DEVELOPER
    version = factory.LazyAttribute(
        lambda o: next_number(PromptVersion.objects.filter(agent_type=o.agent_type), "version")
    )
    prompt_text = "You build one piece of a client's product."
    status = PromptStatus.DRAFT
    created_at = NOW


class OutcomeFactory(DjangoModelFactory[Outcome]):
    class Meta:
        model = Outcome

    prompt_version = factory.SubFactory(PromptVersionFactory)
    run_id = factory.LazyFunction(new_id)
    project_id = factory.LazyFunction(new_id)
    succeeded = True
    cost = Decimal("0.25")
    duration_s = Decimal("61.5")
    turns = 7
    created_at = NOW
