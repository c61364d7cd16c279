"""What Django's user does not have: a role, and keys for programs."""

from datetime import datetime

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from accounts.roles import AccountRole
from accounts.scopes import Scope


class Member(models.Model):
    """The account role of a person. `actions.set_role` keeps the flags that Django's admin reads in step with it."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE)
    role = models.CharField(max_length=16, choices=AccountRole.choices, default=AccountRole.VIEWER)
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(role__in=AccountRole.values), name="member_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user}: {AccountRole(self.role).label}"


class ApiKey(models.Model):
    """A program's key: acts as its owner, within its scopes and, where it has one, within its project.

    Only the hash of the secret is kept. `project_id` is no foreign key: projects are a higher app.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=8, unique=True)
    secret_hash = models.CharField(max_length=64)
    scopes = ArrayField(models.CharField(max_length=32, choices=Scope.choices))
    project_id = models.UUIDField(null=True, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API key"
        verbose_name_plural = "API keys"
        constraints = [
            models.CheckConstraint(condition=Q(scopes__len__gt=0), name="api_key_has_scopes"),
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(expires_at__gt=F("created_at")), name="api_key_lives_a_while"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} (ek_live_{self.prefix}_…)"

    def is_live(self, now: datetime) -> bool:
        """Whether it still opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def may(self, scope: str, project_id: object = None) -> bool:
        """Whether it has the scope, and is not bound to another project than this one (None: all projects)."""
        return scope in self.scopes and (self.project_id is None or self.project_id == project_id)
