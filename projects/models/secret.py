"""Passwords and keys that people give to a project or to the whole account."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from projects.ids import new_id
from projects.models.project import Project
from projects.sealing import SealedField


class Secret(models.Model):
    """A key or password, encrypted. Without a project it is the account's and counts for all projects.

    It can be replaced and removed, never read by people; `last_four` lets them tell two apart.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, null=True, blank=True, on_delete=models.CASCADE, related_name="secrets")
    name = models.CharField(max_length=64, help_text="As a variable is named, such as ANTHROPIC_API_KEY.")
    value = SealedField(editable=False)
    last_four = models.CharField(max_length=4, blank=True, help_text="The end of the value, when it is long enough.")
    created_at = models.DateTimeField()
    changed_at = models.DateTimeField()
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], nulls_distinct=False, name="secret_once_per_project"),
            models.CheckConstraint(
                condition=Q(name__regex=r"^[A-Z][A-Z0-9_]{0,63}$"), name="secret_name_is_a_variables"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.project_id or 'the account'}"

    @property
    def whose(self) -> str:
        """What the value is sealed for."""
        return f"{self.project_id or 'account'}:{self.name}"
