"""People, keys and second factors in Django's admin: shown, and changed by the same actions as in the portal."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from accounts import actions
from accounts.errors import AccountError
from accounts.lock_outs import clear_lock_outs
from accounts.models import ApiKey, Member
from accounts.roles import AccountRole
from projects.actors import Actor
from projects.admin_tools import ShownAdmin
from projects.errors import DomainError

_SCHEDULES = (PeriodicTask, IntervalSchedule, CrontabSchedule, ClockedSchedule, SolarSchedule)
# Groups and mail addresses decide nothing here; the pages for users and factors would write past our actions.
# So would the schedule's: which tasks run is the code's to say (`manage.py setup`).
for _model in (User, Group, EmailAddress, Authenticator, *_SCHEDULES):
    admin.site.unregister(_model)


class AccountAdmin(ShownAdmin):
    """Rows of accounts, whose keys are numbers."""

    ordering = ("-pk",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if search_term.strip().isdecimal() and len(search_term) < 18:
            return queryset.filter(pk=int(search_term)), False
        return self._with_words(queryset, search_term.split()), False

    def do_as_person(
        self, request: HttpRequest, rows: QuerySet[Any], verb: Callable[[Any, User, datetime], object]
    ) -> None:
        """Do it to each row, in the name of the person; their refusals become messages."""

        def translated(row: Any, by: Actor, now: datetime) -> None:
            assert isinstance(request.user, User)
            try:
                verb(row, request.user, now)
            except AccountError as error:
                raise DomainError(str(error)) from error

        self.do_each(request, rows, translated)


@admin.register(User)
class UserAdmin(AccountAdmin):
    list_display = ("username", "email", "is_active", "is_superuser", "last_login", "date_joined")
    list_filter = ("is_active", "is_superuser", "member__role")
    date_hierarchy = "date_joined"
    text_fields = ("username", "email")
    hidden = ("password",)
    actions = ("make_viewer", "make_operator", "make_admin", "switch_off", "switch_on", "unlock")

    @admin.action(description="Make viewer", permissions=["steer"])
    def make_viewer(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._set_role(request, queryset, AccountRole.VIEWER)

    @admin.action(description="Make operator", permissions=["steer"])
    def make_operator(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._set_role(request, queryset, AccountRole.OPERATOR)

    @admin.action(description="Make admin", permissions=["steer"])
    def make_admin(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._set_role(request, queryset, AccountRole.ADMIN)

    def _set_role(self, request: HttpRequest, queryset: QuerySet[User], role: AccountRole) -> None:
        self.do_as_person(request, queryset, lambda row, by, now: actions.set_role(row, role, by=by, now=now))

    @admin.action(description="Switch off", permissions=["steer"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self.do_as_person(request, queryset, lambda row, by, now: actions.switch_off(row, by=by, now=now))

    @admin.action(description="Switch on", permissions=["steer"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self.do_as_person(request, queryset, lambda row, by, now: actions.switch_on(row, by=by, now=now))

    @admin.action(description="Clear lock-outs", permissions=["steer"])
    def unlock(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self.do_as_person(request, queryset, lambda row, by, now: clear_lock_outs(row, by=by, now=now))


@admin.register(Member)
class MemberAdmin(AccountAdmin):
    list_display = ("user", "role", "invited_by", "created_at")
    list_filter = ("role",)
    list_select_related = ("user", "invited_by")
    text_fields = ("user__username",)


@admin.register(ApiKey)
class ApiKeyAdmin(AccountAdmin):
    list_display = ("name", "prefix", "owner", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at")
    list_select_related = ("owner",)
    date_hierarchy = "created_at"
    text_fields = ("name", "prefix", "owner__username")
    hidden = ("secret_hash",)
    actions = ("revoke",)

    @admin.action(description="Revoke", permissions=["steer"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        rows = queryset.select_related("owner")
        self.do_as_person(request, rows, lambda row, by, now: actions.revoke_key(row, by=by, now=now))


@admin.register(Authenticator)
class AuthenticatorAdmin(AccountAdmin):
    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    list_select_related = ("user",)
    text_fields = ("user__username",)
    hidden = ("data",)


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(AccountAdmin):
    list_display = ("name", "task", "interval", "enabled", "last_run_at", "total_run_count")
    list_filter = ("enabled",)
    list_select_related = ("interval",)
    text_fields = ("name", "task")


@admin.register(IntervalSchedule)
class IntervalScheduleAdmin(AccountAdmin):
    list_display = ("every", "period")
    list_filter = ("period",)
    text_fields = ("period",)
