"""The page of the house's workflows, and each workflow's own."""

import re
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.roles import AccountRole
from projects.models import Workflow
from projects.workflows.documents import as_yaml
from projects.workflows.main_job import main_job_warnings
from tests.accounts.making import person
from tests.factories import ExecutionFactory, ProjectFactory, UserFactory, WorkflowFactory
from tests.projects.workflows.test_documents import TEXT
from tests.projects.workflows.test_main_job import document as main_job
from tests.projects.workflows.test_main_job import edge, with_nodes

pytestmark = pytest.mark.django_db
LIST = "/workflows/"


@pytest.fixture
def asha(client: Client) -> Client:
    client.force_login(UserFactory(username="asha", is_superuser=True))
    return client


def read(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return answer.content.decode()


def test_each_workflow_is_listed_once_with_its_executions_of_all_versions_by_state(asha: Client) -> None:
    old = WorkflowFactory(key="audit", version=1, name="Audit")
    new = WorkflowFactory(key="audit", version=2, name="Audit it")
    ExecutionFactory.create_batch(2, workflow=old)
    ExecutionFactory(workflow=new, status="failed", finished_at=timezone.now())
    ExecutionFactory(workflow=new, status="failed", finished_at=timezone.now() - timedelta(days=8))

    page = read(asha, LIST)

    assert re.findall(r'id="workflow-([a-z-]+)"', page) == ["audit"]
    assert "Audit it</a>" in page
    assert re.findall(r'data-state="(\w+)">(\d+) \w+<', page) == [("running", "2"), ("failed", "1")]
    assert f'href="{reverse("workflow", args=["audit"])}?state=failed"' in page


def test_workflow_has_its_versions_and_its_executions_in_all_projects(asha: Client) -> None:
    old = WorkflowFactory(key="audit", version=1)
    new = WorkflowFactory(key="audit", version=2)
    ExecutionFactory(workflow=old, project=ProjectFactory(name="Bakery"))
    ExecutionFactory(workflow=new, project=ProjectFactory(name="Florist"), status="failed")
    ExecutionFactory(project=ProjectFactory(name="Chemist"))

    address = reverse("workflow", args=["audit"])
    page = read(asha, address)
    assert re.findall(r'id="version-(\d)"', page) == ["2", "1"]
    assert ("Bakery" in page, "Florist" in page, "Chemist" in page) == (True, True, False)
    failed = read(asha, f"{address}?state=failed")
    assert ("Bakery" in failed, "Florist" in failed) == (False, True)
    assert "No execution is in this state" in read(asha, f"{address}?state=paused")
    assert asha.get(reverse("workflow", args=["none"])).status_code == 404


def test_lists_go_on_by_key_at_equal_cost(asha: Client) -> None:
    first = WorkflowFactory()
    ExecutionFactory(workflow=first)
    costs = []
    for address in (LIST, reverse("workflow", args=[first.key])):
        with CaptureQueriesContext(connection) as queries:
            read(asha, address)
        costs.append(len(queries))
    ExecutionFactory.create_batch(26, workflow=first)
    WorkflowFactory.create_batch(26)

    for address, cost, item in (
        (LIST, costs[0], "workflow"),
        (reverse("workflow", args=[first.key]), costs[1], "execution"),
    ):
        with CaptureQueriesContext(connection) as queries:
            page = read(asha, address)
        assert len(queries) == cost
        older = re.search(r'href="([^"]+before=[^"]+)"', page)
        assert older
        seen = set(re.findall(rf'id="({item}-[^"]+)"', page))
        rest = set(re.findall(rf'id="({item}-[^"]+)"', read(asha, older[1])))
        assert (len(seen), len(rest), seen & rest) == (25, 2, set())


def test_file_is_stored_by_operators_and_refused_in_words(client: Client) -> None:
    client.force_login(person(AccountRole.VIEWER))
    assert client.post(LIST, {"file": SimpleUploadedFile("w.yaml", TEXT.encode())}).status_code == 403
    client.force_login(person(AccountRole.OPERATOR))
    stored = client.post(LIST, {"file": SimpleUploadedFile("w.yaml", TEXT.encode())})
    assert stored["Location"] == reverse("workflow", args=["review"])
    refused = client.post(LIST, {"file": SimpleUploadedFile("w.yaml", b"[]")})
    assert refused.status_code == 422
    assert "The file was not stored" in refused.content.decode()
    assert Workflow.objects.count() == 1


def test_main_job_that_may_end_without_a_delivery_is_stored_with_a_warning(asha: Client) -> None:
    added = {"key": "licence", "function": "tests.nowhere"}
    lone = edge("licence", "delivery", when="result.ok == true")
    back = edge("licence", "licence", after="failure", repeat=3)
    for edges, warned in (([lone], True), ([lone, back], False)):
        document = with_nodes(added, edges=[edge("build", "licence"), *edges], without=("build", "delivery"))
        file = SimpleUploadedFile("w.yaml", as_yaml(document).encode())
        page = asha.post(LIST, {"file": file}, follow=True).content.decode()
        assert "is stored as main_job" in page
        assert ("nothing is delivered" in page) is warned
    assert main_job_warnings("main_job", main_job().definition) == []


def test_settings_begin_with_ones_own_account(asha: Client) -> None:
    assert asha.get("/settings/")["Location"] == reverse("mfa_index")
