"""The ten roles of an agent. What each may do is the role table in `agents.roles`."""

from django.db import models


class Role(models.TextChoices):
    """An agent's job in a project's squad (seed 000 §5)."""

    ORCHESTRATOR = "orchestrator", "Orchestrator"
    ARCHITECT = "architect", "Architect"
    PM = "pm", "Product manager"
    DEVELOPER = "developer", "Developer"
    TESTER = "tester", "Tester"
    QA = "qa", "QA"
    UAT = "uat", "UAT"
    SRE = "sre", "SRE"
    MONITOR = "monitor", "Monitor"
    MENTOR = "mentor", "Mentor"
