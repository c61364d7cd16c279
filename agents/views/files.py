"""A project's repository: looked at in the portal, downloaded, cloned over HTTP.

A Git client has no session. The clone address carries a signed name of the project instead: who has the address may
read that repository, nothing else, for CLONE_DAYS.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.signing import BadSignature, TimestampSigner
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from accounts.scopes import Scope
from accounts.web import key_required, session_or_key
from agents import diffs
from agents.sandboxes import repository
from agents.workspace import Repository
from agents.workspace.errors import BadName, PathNotFound, RepositoryMissing, UnknownCommit, WorkspaceError
from agents.workspace.serving import ADVERTISEMENT_TYPE, REQUEST_TYPE, RESULT_TYPE
from projects.models import Project
from projects.views.project import tab
from projects.web import PageRequest, get_project, render_page, streamed

CLONE_DAYS = 30
SHOWN_BYTES = 300_000
COMMITS = 30
_signer = TimestampSigner(salt="eklavya.clone")


@require_GET
def project_files(request: PageRequest, project_id: UUID) -> HttpResponse:
    """The files of main, or of `?commit=`, below `?path=`; and how to take them home."""
    project = get_project(project_id)
    store = repository(project.pk)
    context = tab(request, project, "project_files", clone_url=clone_url(project), slug=slug(project))
    try:
        context |= _look(store, request.GET.get("commit", ""), request.GET.get("path", ""))
    except RepositoryMissing:
        context["is_missing"] = True
    except (BadName, PathNotFound, UnknownCommit) as error:
        raise Http404("There is no such file.") from error
    except WorkspaceError as error:
        context["error"] = str(error)
    return render_page(request, "agents/files.html", context)


@require_GET
def project_changes(request: PageRequest, project_id: UUID) -> HttpResponse:
    """What `?commit=` changed since `?base=`, or since the commit before it: a unified diff, its beginning if long."""
    project = get_project(project_id)
    commit, base = request.GET.get("commit", ""), request.GET.get("base", "")
    try:
        context = _changes(repository(project.pk), commit, base)
    except (BadName, RepositoryMissing, UnknownCommit) as error:
        raise Http404("There is no such change.") from error
    except WorkspaceError as error:
        context = {"error": str(error)}
    context |= tab(request, project, "project_files", commit=commit)
    return render_page(request, "agents/changes.html", context)


def _changes(store: Repository, commit: str, base: str) -> dict[str, Any]:
    entry = store.log(1, commit=commit or store.head())[0]
    context: dict[str, Any] = {"entry": entry, "at": datetime.fromtimestamp(entry.timestamp_s, UTC)}
    base = base or next(iter(entry.parents), "")
    if not base:
        return context
    difference = store.diff(base, entry.commit, max_bytes=SHOWN_BYTES)
    files, is_long = diffs.parse(difference.text)
    stat = store.diff_stat(base, entry.commit)
    return context | {
        "since": base,
        "files": files,
        "is_cut": is_long or difference.truncated,
        "count": len(stat),
        "added": sum(change.added or 0 for change in stat),
        "deleted": sum(change.deleted or 0 for change in stat),
    }


def _look(store: Repository, commit: str, path: str) -> dict[str, Any]:
    head = store.head()
    path = path.strip("/")
    context: dict[str, Any] = {"commit": commit or head, "head_commit": head, "path": path, "crumbs": _crumbs(path)}
    try:
        context["entries"] = store.tree(commit or head, path)
    except PathNotFound:
        content = store.file(commit or head, path, max_bytes=SHOWN_BYTES)
        context["file"] = content
        context["text"] = "" if content.binary else content.data.decode("utf-8", "replace")
        return context
    if not path:
        context["log"] = [
            (entry, datetime.fromtimestamp(entry.timestamp_s, UTC))
            for entry in store.log(COMMITS, commit=commit or None)
        ]
    return context


def _crumbs(path: str) -> list[tuple[str, str]]:
    parts = path.split("/") if path else []
    return [(part, "/".join(parts[: number + 1])) for number, part in enumerate(parts)]


@session_or_key(Scope.REPOSITORY_READ)
@require_GET
def download(request: PageRequest, project_id: UUID) -> StreamingHttpResponse:
    """The delivered commit, or main while there is none, as a zip."""
    project = get_project(project_id)
    store = repository(project.pk)
    name = slug(project)
    try:
        stream = store.archive(project.delivered_commit or store.head(), "zip", prefix=name)
    except WorkspaceError as error:
        raise Http404("There is nothing to download yet.") from error
    response = StreamingHttpResponse(streamed(stream), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="{name}.zip"'
    return response


def slug(project: Project) -> str:
    """Return a name for the project's directory: ASCII letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", project.name.lower()).strip("-")[:60].strip("-") or "project"


def clone_url(project: Project) -> str:
    """Return the address that `git clone` takes."""
    path = reverse("git_refs", args=[_signer.sign(project.pk.hex), slug(project)]).removesuffix("/info/refs")
    return f"{settings.EKLAVYA_PUBLIC_URL}{path}"


def _cloned(token: str) -> Repository:
    try:
        project_id = UUID(_signer.unsign(token, max_age=CLONE_DAYS * 24 * 3600))
    except (BadSignature, ValueError) as error:
        raise Http404("This clone address is unknown or too old. The project's page shows a new one.") from error
    return repository(get_project(project_id).pk)


@login_not_required
@require_GET
def git_refs(request: HttpRequest, token: str, name: str) -> HttpResponse | StreamingHttpResponse:
    """The first request of a clone or fetch. Nothing can be pushed."""
    return _advertise(request, _cloned(token))


def _advertise(request: HttpRequest, store: Repository) -> HttpResponse | StreamingHttpResponse:
    if request.GET.get("service") != "git-upload-pack":
        return HttpResponse("This repository is read-only.\n", status=403, content_type="text/plain")
    protocol = request.headers.get("Git-Protocol", "")
    return _git(partial(store.upload_pack_advertise, protocol), ADVERTISEMENT_TYPE)


@csrf_exempt  # a Git client has neither cookie nor form; the signed name in the address is what it shows
@login_not_required
@require_POST
def git_pack(request: HttpRequest, token: str, name: str) -> HttpResponse | StreamingHttpResponse:
    """The second request of a clone or fetch: gives the objects."""
    return _give(request, _cloned(token))


def _give(request: HttpRequest, store: Repository) -> HttpResponse | StreamingHttpResponse:
    if request.content_type != REQUEST_TYPE:
        return HttpResponse("This is for Git clients.\n", status=415, content_type="text/plain")
    gzipped = request.headers.get("Content-Encoding") == "gzip"
    return _git(partial(store.upload_pack, iter([request.body]), gzipped=gzipped), RESULT_TYPE)


# The same by API key, as Git sends a password: git clone https://git:<key>@host/git/<project>.git


@require_GET
@key_required(Scope.REPOSITORY_READ)
def git_refs_by_key(request: HttpRequest, project_id: UUID) -> HttpResponse | StreamingHttpResponse:
    """The first request of a clone or fetch."""
    return _advertise(request, repository(get_project(project_id).pk))


@csrf_exempt  # a key, which no browser sends by itself
@require_POST
@key_required(Scope.REPOSITORY_READ)
def git_pack_by_key(request: HttpRequest, project_id: UUID) -> HttpResponse | StreamingHttpResponse:
    """The second request of a clone or fetch."""
    return _give(request, repository(get_project(project_id).pk))


def _git(serve: Callable[[], Iterator[bytes]], content_type: str) -> HttpResponse | StreamingHttpResponse:
    try:
        stream = serve()
    except RepositoryMissing as error:
        raise Http404("There is no repository yet.") from error
    response = StreamingHttpResponse(streamed(stream), content_type=content_type)
    response["Cache-Control"] = "no-cache"
    return response
