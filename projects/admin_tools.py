"""What the apps' admin pages share: everything is shown, and only what no lifecycle owns is changed.

Pages read; a change is one action of the app, in the name of the person, and its refusal a message.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import Model, Q, QuerySet
from django.forms import BaseForm, ModelForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone

from projects.actions import settings
from projects.actors import Actor
from projects.errors import DomainError
from projects.refused import note_error, note_form

if TYPE_CHECKING:
    Admin = admin.ModelAdmin[Any]
    Inline = admin.TabularInline[Any, Any]
else:  # not generic at run time
    Admin = admin.ModelAdmin
    Inline = admin.TabularInline

Verb = Callable[[Any, Actor, datetime], object]


def actor_of(request: HttpRequest) -> Actor:
    """Return who is signed in as the doer of an action."""
    assert request.user.is_authenticated
    return Actor.person(request.user)


def filter_of(field: str, values: Iterable[str]) -> type[admin.SimpleListFilter]:
    """Return a filter that offers values known from the code. Django's own would ask the whole table for them."""
    offered = [(value, value) for value in sorted(values)]

    class KnownValues(admin.SimpleListFilter):
        title = field.replace("_", " ")
        parameter_name = field

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            return offered

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            return queryset.filter(**{field: self.value()}) if self.value() else queryset

    return KnownValues


class ShownAdmin(Admin):
    """Rows that only actions make and change: every column is shown, none can be posted.

    `hidden` columns are shown nowhere, `uuid_fields` are found by a whole UUID in the search besides the key.
    """

    hidden: tuple[str, ...] = ()
    uuid_fields: tuple[str, ...] = ()
    search_fields = ("pk",)  # makes the box appear; `get_search_results` looks
    text_fields: tuple[str, ...] = ()
    ordering: ClassVar[tuple[str, ...]] = ("-pk",)
    list_per_page = 50
    # The second count, of all rows, reads the whole table.
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_steer_permission(self, request: HttpRequest) -> bool:
        """Whether the user may call the lifecycle; changing columns is another permission."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    def columns(self, obj: Any) -> list[str]:
        """Return what the page of a row shows, or with None the form of a new one."""
        return [field.name for field in self.opts.concrete_fields if field.name not in self.hidden]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.columns(obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.columns(obj)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find a whole UUID among keys, and words in the text fields, each of which must be in one of them."""
        term = search_term.strip()
        try:
            wanted = UUID(term)
        except ValueError:
            return self._with_words(queryset, term.split()), False
        found = Q()
        for name in ("pk", *self.uuid_fields):
            found |= Q(**{name: wanted})
        return queryset.filter(found), False

    def _with_words(self, queryset: QuerySet[Any], words: Iterable[str]) -> QuerySet[Any]:
        for word in words:
            found = Q(pk__in=[])
            for name in self.text_fields:
                found |= Q(**{f"{name}__icontains": word.replace("\x00", "")})
            queryset = queryset.filter(found)
        return queryset

    def do_each(self, request: HttpRequest, rows: QuerySet[Any], verb: Verb) -> None:
        """Do it to each row apart, so that one refusal does not undo the others."""
        by, done = actor_of(request), 0
        for row in rows:
            try:
                verb(row, by, timezone.now())
            except DomainError as refusal:
                note_error(request, refusal)
                self.message_user(request, f"{row}: {refusal}", messages.ERROR)
            else:
                done += 1
        if done:
            self.message_user(request, f"Done for {done}.", messages.SUCCESS)


class SettingsAdmin(ShownAdmin):
    """Rows with some columns that people set: `editable`. The others are shown."""

    editable: tuple[str, ...] = ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super(ShownAdmin, self).has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [name for name in self.columns(obj) if name not in self.editable]

    def save_model(self, request: HttpRequest, obj: Any, form: "ModelForm[Any]", change: bool) -> None:
        """Do what was asked for. Raises DomainError."""
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        if changes:
            self.save_settings(obj, changes, by=actor_of(request), now=timezone.now())

    def save_settings(self, row: Any, changes: dict[str, Any], *, by: Actor, now: datetime) -> None:
        """Set the columns. Overridden where an action of its own does it."""
        settings.change_row(row, changes, project_id=self.project_of(row), by=by, now=now)

    def project_of(self, row: Any) -> UUID | None:
        """Return the project on whose chain a change is recorded; None for the account's."""
        return getattr(row, "project_id", None)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the form; what an action refuses becomes a message on it."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except DomainError as refusal:
            note_error(request, refusal)
            self.message_user(request, str(refusal), messages.ERROR)
            return redirect(request.path)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> TemplateResponse | HttpResponse:
        """Show the form; that what was sent by it was not taken is recorded."""
        form: BaseForm = context["adminform"].form
        if form.is_bound and not form.is_valid():
            note_form(request, form)
        return super().render_change_form(request, context, *args, **kwargs)


class ShownInline(Inline):
    """Rows below their parent, shown only."""

    extra = 0
    can_delete = False
    show_change_link = True
    related: tuple[str, ...] = ()

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return self.fields or ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related(*self.related)
