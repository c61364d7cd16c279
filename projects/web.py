"""What every page does alike: one view for page and live part, refusals as sentences, pages by key."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.middleware import HtmxDetails

from projects.errors import DomainError, NotAllowed
from projects.models import Project
from projects.refused import note_error

M = TypeVar("M", bound=Model)
P = ParamSpec("P")
PAGE_SIZE = 50


class PageRequest(HttpRequest):
    """A request as the portal's views get it: somebody signed in, and htmx's own details beside."""

    user: User
    htmx: HtmxDetails


def render_page(request: PageRequest, template: str, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    """Render a page, or for a refresh by htmx only its live part: the template extends `base`."""
    base = "_live.html" if request.htmx and not request.htmx.history_restore_request else "base.html"
    response = render(request, template, {**context, "base": base}, status=status)
    # One address, two answers: a cache that does not know would show the part as the page.
    patch_vary_headers(response, ["HX-Request"])
    return response


def get_project(project_id: UUID) -> Project:
    """Return the project. Raises Http404."""
    project = Project.objects.filter(pk=project_id).first()
    if project is None:
        raise Http404("There is no such project.")
    return project


def asked_for(request: HttpRequest, name: str, *, max_chars: int) -> str:
    """Return what the address asks for under this name, fit for the database."""
    return request.GET.get(name, "").replace("\x00", "").strip()[:max_chars]


def refusal(check: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> str:
    """Return the sentence with which `check_can_…` refuses, or an empty one when it does not."""
    try:
        check(*args, **kwargs)
    except DomainError as error:
        return str(error)
    return ""


def act(
    view: Callable[Concatenate[PageRequest, P], HttpResponse],
) -> Callable[Concatenate[PageRequest, P], HttpResponse]:
    """Show what an action refuses as a message on the page that the person came from, and record it."""

    @wraps(view)
    def wrapped(request: PageRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except NotAllowed as error:
            note_error(request, error)
            raise PermissionDenied(str(error)) from error
        except DomainError as error:
            note_error(request, error)
            messages.error(request, str(error))
            return redirect(came_from(request))

    return wrapped


def came_from(request: HttpRequest) -> str:
    """Return the page whose form was sent, if it is one of ours; else the start."""
    referer = request.headers.get("Referer", "")
    ours = url_has_allowed_host_and_scheme(
        referer, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return referer if ours else "/"


async def streamed(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Give what a blocking iterator gives, each piece read in a thread: the server's loop never waits for it."""

    def read() -> bytes | None:
        return next(chunks, None)

    while (chunk := await sync_to_async(read, thread_sensitive=False)()) is not None:
        yield chunk


@dataclass(frozen=True)
class Page(Generic[M]):
    """One page of a list, newest first; the addresses are empty where there is nothing to go to."""

    items: list[M]
    next_url: str
    first_url: str


def page_of(
    queryset: QuerySet[M], request: HttpRequest, *, keys: Sequence[str] = ("created_at", "id"), size: int = PAGE_SIZE
) -> Page[M]:
    """Return the page that `?before=` asks for, by the values of `keys` (unique together, indexed descending).

    By key and not by number: a page costs the same however far back it is, and new rows do not shift it.
    Raises Http404 for a `before` that is none.
    """
    before = request.GET.get("before", "")
    if before:
        queryset = queryset.filter(_before(queryset.model, keys, before))
    rows = list(queryset.order_by(*(f"-{key}" for key in keys))[: size + 1])
    items = rows[:size]
    last = "~".join(str(items[-1].serializable_value(key)) for key in keys) if len(rows) > size else ""
    return Page(items, _url(request, before=last) if last else "", _url(request, before="") if before else "")


def _before(model: type[Model], keys: Sequence[str], text: str) -> Q:
    try:
        values = [
            model._meta.get_field(key).to_python(value)  # type: ignore[union-attr]
            for key, value in zip(keys, text.split("~"), strict=True)
        ]
    except (ValueError, ValidationError) as error:
        raise Http404("There is no such page.") from error
    condition = Q()
    for number, key in enumerate(keys):
        equal = Q(**dict(zip(keys[:number], values[:number], strict=True)))
        condition |= equal & Q(**{f"{key}__lt": values[number]})
    return condition


def _url(request: HttpRequest, **changes: str) -> str:
    query = request.GET.copy()
    for name, value in changes.items():
        query.pop(name, None)
        if value:
            query[name] = value
    return f"{request.path}?{query.urlencode()}" if query else request.path
