"""A project's repository: looked at, downloaded, given to Git."""

import zipfile
from base64 import b64encode
from collections.abc import AsyncIterator
from io import BytesIO
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from agents.sandboxes import repository
from agents.views.files import clone_url, slug
from projects.ids import new_id
from projects.models import Project
from tests.accounts.making import key_of
from tests.demos.repositories import commit_files
from tests.factories import ProjectFactory, RunFactory, UserFactory

pytestmark = pytest.mark.django_db
README = "# Boat house\n\n<script>alert(1)</script>\n"


@pytest.fixture
def admin_in(client: Client) -> Client:
    client.force_login(UserFactory(username="asha", is_superuser=True))
    return client


@pytest.fixture
def project() -> Project:
    project = ProjectFactory(name="Boat House & Söhne")
    repository(project.pk).create(README)
    return project


def path_of(url: str) -> str:
    return "/" + url.split("/", 3)[3]


async def whole(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


def test_files_says_that_there_is_no_repository_yet(admin_in: Client) -> None:
    page = admin_in.get(reverse("project_files", args=[ProjectFactory().pk])).content.decode()

    assert "No repository yet" in page


def test_files_lists_main_and_how_to_take_it_home(admin_in: Client, project: Project) -> None:
    page = admin_in.get(reverse("project_files", args=[project.pk])).content.decode()

    assert "README.md" in page
    assert "Start the project" in page
    assert "git clone http" in page


def test_files_shows_a_file_as_text(admin_in: Client, project: Project) -> None:
    page = admin_in.get(reverse("project_files", args=[project.pk]), {"path": "README.md"}).content.decode()

    assert "# Boat house" in page
    assert "<script>alert" not in page


@pytest.mark.parametrize("query", [{"path": "nothing"}, {"path": "../../etc/passwd"}, {"commit": "0" * 40}])
def test_files_leaves_the_repository_by_no_way(admin_in: Client, project: Project, query: dict[str, str]) -> None:
    response = admin_in.get(reverse("project_files", args=[project.pk]), query)

    assert response.status_code == 404 or b'data-empty="failed"' in response.content
    assert b"root:" not in response.content


def test_download_gives_a_zip_named_like_the_project(admin_in: Client, project: Project) -> None:
    response = admin_in.get(reverse("project_download", args=[project.pk]))

    data = async_to_sync(whole)(response.streaming_content)
    assert zipfile.ZipFile(BytesIO(data)).read("boat-house-s-hne/README.md").decode() == README
    assert response.headers["Content-Disposition"] == 'attachment; filename="boat-house-s-hne.zip"'


def test_download_of_nothing_is_not_found(admin_in: Client) -> None:
    assert admin_in.get(reverse("project_download", args=[ProjectFactory().pk])).status_code == 404


def test_slug_is_fit_for_a_directory() -> None:
    assert slug(Project(name="../../Bööt “house”!")) == "b-t-house"
    assert slug(Project(name="😀")) == "project"


def test_a_clone_address_needs_no_session(client: Client, project: Project) -> None:
    response = client.get(f"{path_of(clone_url(project))}/info/refs?service=git-upload-pack")

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/x-git-upload-pack-advertisement"


def test_a_clone_address_for_pushing_is_refused(client: Client, project: Project) -> None:
    response = client.get(f"{path_of(clone_url(project))}/info/refs?service=git-receive-pack")

    assert response.status_code == 403


@pytest.mark.parametrize("token", ["x", "a:b:c", f"{'0' * 32}:1tX2Yz:{'A' * 43}"])
def test_a_made_up_clone_address_is_not_found(client: Client, token: str) -> None:
    response = client.get(reverse("git_refs", args=[token, "x"]) + "?service=git-upload-pack")

    assert response.status_code == 404


def test_a_clone_address_of_another_project_opens_nothing_else(client: Client, project: Project) -> None:
    stolen = path_of(clone_url(project)).replace(project.pk.hex, new_id().hex)

    assert client.get(f"{stolen}/info/refs?service=git-upload-pack").status_code == 404


def test_packs_are_for_git_clients(client: Client, project: Project) -> None:
    response = client.post(f"{path_of(clone_url(project))}/git-upload-pack", data="x", content_type="text/plain")

    assert response.status_code == 415


def changes(client: Client, project: Project, **query: str) -> str:
    return client.get(reverse("project_changes", args=[project.pk]), query).content.decode()


def test_a_commit_shows_what_it_changed(admin_in: Client, project: Project) -> None:
    commit = commit_files(
        repository(project.pk), {"README.md": "# Boat house\n\n<b>bold</b> & new\n", "a.txt": "one\n"}
    )

    page = changes(admin_in, project, commit=commit)

    assert "2 files" in page
    assert "+&lt;b&gt;bold&lt;/b&gt; &amp; new" in page
    assert "-&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page


def test_a_run_leads_to_its_change_since_its_base(admin_in: Client, project: Project) -> None:
    store = repository(project.pk)
    base = store.head()
    commit_files(store, {"a.txt": "one\n"})
    commit = commit_files(store, {"b.txt": "two\n"})
    run = RunFactory(project=project, task__project=project, base_commit=base, commit=commit)

    shown = admin_in.get(reverse("run", args=[run.pk])).content.decode()
    page = changes(admin_in, project, commit=commit, base=base)

    assert f"?commit={commit}&amp;base={base}" in shown
    assert "b.txt" in page
    assert f"<code>{base[:8]}</code> to <code>{commit[:8]}</code>" in page


def test_the_first_commit_has_nothing_before_it(admin_in: Client, project: Project) -> None:
    first = repository(project.pk).log(100)[-1]

    assert "The first commit" in changes(admin_in, project, commit=first.commit)


@pytest.mark.parametrize("query", [{"commit": "--help"}, {"commit": "f" * 40}, {"base": "HEAD~1"}, {"base": "0" * 40}])
def test_a_change_that_is_none_is_not_found(admin_in: Client, project: Project, query: dict[str, str]) -> None:
    assert admin_in.get(reverse("project_changes", args=[project.pk]), query).status_code == 404


def test_a_project_without_repository_has_no_changes(admin_in: Client) -> None:
    assert admin_in.get(reverse("project_changes", args=[ProjectFactory().pk])).status_code == 404


@pytest.mark.parametrize("path", ["../../etc/passwd", "a/../../b", "x\0y"])
def test_a_path_outside_is_not_found(admin_in: Client, project: Project, path: str) -> None:
    assert admin_in.get(reverse("project_files", args=[project.pk]), {"path": path}).status_code == 404


# -- by API key


def by_key(*scopes: str, project_id: UUID | None = None, username: str = "ci") -> tuple[str, dict[str, str]]:
    """The text of a key, and the header that Git makes of it when it is the password in an address."""
    _, text = key_of(UserFactory(username=username), *scopes, project_id=project_id, now=timezone.now())
    return text, {"authorization": "Basic " + b64encode(f"git:{text}".encode()).decode()}


def test_git_is_asked_for_a_key(client: Client, project: Project) -> None:
    answer = client.get(f"/git/{project.pk}.git/info/refs?service=git-upload-pack")

    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize(("scope", "bound", "status"), [("projects:read", "", 403), ("repository:read", "other", 403)])
def test_key_that_may_not_read_the_repository_is_refused(
    client: Client, project: Project, scope: str, bound: str, status: int
) -> None:
    _, headers = by_key(scope, project_id=new_id() if bound else None)

    for path in (f"/git/{project.pk}.git/info/refs?service=git-upload-pack", f"/projects/{project.pk}/download/"):
        assert client.get(path, headers=headers).status_code == status
    assert client.post(f"/git/{project.pk}.git/git-upload-pack", headers=headers).status_code == status


def test_download_takes_a_key_instead_of_a_session(client: Client, project: Project) -> None:
    text, _ = by_key("repository:read")
    path = reverse("project_download", args=[project.pk])

    with_key = client.get(path, headers={"authorization": f"Bearer {text}"})
    without = client.get(path)

    assert with_key["Content-Type"] == "application/zip"
    assert without["Location"].startswith("/login/")
    assert "_auth_user_id" not in client.session


def test_nothing_is_pushed_with_a_key(client: Client, project: Project) -> None:
    _, headers = by_key("repository:read")

    answer = client.get(f"/git/{project.pk}.git/info/refs?service=git-receive-pack", headers=headers)

    assert answer.status_code == 403
