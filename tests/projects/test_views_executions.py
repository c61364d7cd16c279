"""Pages of workflows: starting one, its graph and log, and what a person does to nodes and tasks."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from projects.actions import tasks, workflows
from projects.actions.workflow_files import import_workflow
from projects.ids import new_id
from projects.models import Approval, AuditLog, Execution, Workflow
from projects.states import ExecutionStatus, NodeStatus, TaskStatus
from projects.workflows.documents import as_json, as_yaml, read
from tests.factories import NOW, TESTER, ProjectFactory, TaskFactory, UserFactory
from tests.projects import lives
from tests.projects.workflows.test_documents import TEXT
from tests.projects.workflows.test_main_job import job
from tests.projects.workflows.test_steps import do, open_steps, save, shipped, started

pytestmark = pytest.mark.django_db


@pytest.fixture
def asha(client: Client) -> Client:
    client.force_login(UserFactory(username="asha", is_superuser=True))
    return client


def shown(client: Client, execution: Execution) -> str:
    answer = client.get(reverse("execution", args=[execution.pk]))
    assert answer.status_code == 200
    return answer.content.decode()


def test_workflow_is_started_with_what_it_is_about(asha: Client) -> None:
    project = ProjectFactory(status="building")
    workflows.load_shipped(by=TESTER, now=NOW)
    page = asha.get(reverse("project_executions", args=[project.pk])).content.decode()
    assert "No workflow was started here yet" in page
    assert ">Fix a bug</option>" in page
    assert ">From brief to delivery</option>" not in page

    data = {"workflow": "bug_fix", "request": "Dates are off by one."}
    answer = asha.post(reverse("execution_start", args=[project.pk]), data)

    made = Execution.objects.get()
    assert answer["Location"] == reverse("execution", args=[made.pk])
    assert made.input == {"request": "Dates are off by one."}
    assert "Dates are off by one." in asha.get(reverse("project_executions", args=[project.pk])).content.decode()


@pytest.mark.parametrize("data", [{"workflow": "main_job"}, {"workflow": "none"}, {}])
def test_what_cannot_be_started_is_refused_in_words(asha: Client, data: dict[str, str]) -> None:
    project = ProjectFactory(status="building")
    workflows.load_shipped(by=TESTER, now=NOW)
    answer = asha.post(reverse("execution_start", args=[project.pk]), data, follow=True)
    assert "Choose a workflow" in answer.content.decode()
    assert not Execution.objects.exists()


def test_project_that_is_not_built_says_so_on_the_button(asha: Client) -> None:
    project = ProjectFactory(status="planning")
    workflows.load_shipped(by=TESTER, now=NOW)
    page = asha.get(reverse("project_executions", args=[project.pk])).content.decode()
    assert "Workflows work on what is being built" in page


def test_page_shows_nodes_with_their_states_and_what_happened(asha: Client) -> None:
    execution = started(shipped("bug_fix"), input={"request": "<b>Dates</b>"})
    do(execution, "analysis", reproduced=True, cause="<script>alert(1)</script>")

    page = shown(asha, execution)

    assert page.count("dag__node") == 7
    assert "&lt;b&gt;Dates&lt;/b&gt;" in page
    assert "<script>alert(1)" not in page
    assert page.count("Retry from here") == 3  # done, at work, skipped
    for line in ("Begun", "Completed", "Skipped"):
        assert f">{line}</td>" in page


def test_stage_that_waits_for_a_person_says_so_and_leads_to_the_decision(asha: Client) -> None:
    approval = lives.planned()
    page = shown(asha, job(approval.project))
    assert f'href="{reverse("approval", args=[approval.pk])}"' in page
    assert page.count("Waiting for a decision") == 3  # in the list, in the drawing, in its tooltip
    assert f"Needs you: {approval.title}" in page

    lives.decide(approval, "approve")
    assert "Waiting for a decision" not in shown(asha, job(approval.project))


def test_node_whose_task_waits_for_an_answer_leads_to_the_question(asha: Client) -> None:
    project = lives.planned().project
    lives.decide(Approval.objects.get(project=project), "approve")
    demo = lives.begin(project.tasks.get(kind="demo"))
    asked = tasks.ask_questions(demo, [{"question": "Which colour?", "options": []}], by=TESTER, now=NOW)
    assert f'href="{reverse("approval", args=[asked.pk])}"' in shown(asha, job(project))

    execution = started(save([{"key": "a"}]))
    step = lives.begin(execution.nodes.get().task)
    asked = tasks.ask_questions(step, [{"question": "Which colour?", "options": []}], by=TESTER, now=NOW)
    assert f'href="{reverse("approval", args=[asked.pk])}"' in shown(asha, execution)


def test_every_node_says_who_does_it(asha: Client) -> None:
    page = shown(asha, job(lives.planned().project))
    who = re.findall(r'data-label="Who">(?:<[^>]+>)*([^<]+)<', page.replace("</svg>", "").replace("</use>", ""))
    assert who == ["Product manager", "Architect", "A person", "Developer", "A person", "The squad", "Eklavya"]


def test_result_is_shown_in_words_and_all_of_it_as_json(asha: Client) -> None:
    execution = started(shipped("bug_fix"))
    do(execution, "analysis", reproduced=True, cause="x" * 301, files=["a.py", "b.py"], deep={"a": 1})
    page = shown(asha, execution)
    assert "<dt>Reproduced</dt><dd>yes</dd>" in page
    assert "<dt>Files</dt><dd>a.py, b.py</dd>" in page
    assert "<dt>Cause</dt>" not in page
    assert "<dt>Deep</dt>" not in page
    assert "x" * 301 in page


def test_page_of_a_large_graph_lists_and_does_not_draw_and_costs_no_more(asha: Client) -> None:
    small = started(save([{"key": "a"}]))
    large = started(save([{"key": f"n{number}", "function": "noop"} for number in range(600)]))
    costs = []
    for execution in (small, large):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            page = shown(asha, execution)
        costs.append(len(queries))
    assert "dag__node" not in page
    assert "and 100 more" in page
    assert costs[0] == costs[1]


def test_execution_is_paused_resumed_cancelled_and_taken_up_again(asha: Client) -> None:
    execution = started(save([{"key": "a"}, {"key": "b"}], [("a", "b")]))
    for verb, status in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        asha.post(reverse(f"execution_{verb}", args=[execution.pk]))
        execution.refresh_from_db()
        assert execution.status == status
    assert "Cancelled by asha." in shown(asha, execution)

    asha.post(reverse("node_retry", args=[execution.pk, "a"]))
    asha.post(reverse("node_skip", args=[execution.pk, "a"]))

    execution.refresh_from_db()
    assert execution.status == ExecutionStatus.RUNNING
    assert dict(execution.nodes.values_list("key", "status")) == {"a": NodeStatus.SKIPPED, "b": NodeStatus.RUNNING}


def test_node_that_decides_is_left_out_with_a_result(asha: Client) -> None:
    execution = started(shipped("bug_fix"))
    address = reverse("node_skip", args=[execution.pk, "analysis"])
    for wrong, said in (("", "one must be given"), ("[1]", "must be a JSON object"), ("{", "must be a JSON object")):
        assert said in asha.post(address, {"result": wrong}, follow=True).content.decode()
    asha.post(address, {"result": '{"reproduced": false}'})
    assert list(open_steps(execution)) == ["not-reproduced"]


def test_board_offers_what_may_be_done_to_a_task(asha: Client) -> None:
    blocked = TaskFactory(status="blocked")
    project = blocked.project
    TaskFactory(project=project, status="completed")
    TaskFactory(project=project, kind="mentor", status="ready")

    page = asha.get(reverse("project_board", args=[project.pk])).content.decode()

    assert page.count(">Change</summary>") == 1
    for verb, data in (("retry", {}), ("reassign", {"role": "sre"}), ("skip", {})):
        assert reverse(f"task_{verb}", args=[blocked.pk]) in page
        asha.post(reverse(f"task_{verb}", args=[blocked.pk]), data)
    blocked.refresh_from_db()
    assert (blocked.status, blocked.role, blocked.reason) == (TaskStatus.CANCELLED, "sre", "skipped")


def test_viewer_sees_and_changes_nothing(client: Client) -> None:
    client.force_login(UserFactory())
    task = TaskFactory(status="blocked")
    execution = started(save([{"key": "a"}]))

    assert "Retry from here" not in shown(client, execution)
    assert 'type="file"' not in client.get(reverse("project_executions", args=[task.project.pk])).content.decode()
    assert files_page(client, TEXT.encode()).status_code == 403
    assert client.get(reverse("workflow_yaml", args=[execution.workflow_id])).status_code == 200
    assert ">Change</summary>" not in client.get(reverse("project_board", args=[task.project.pk])).content.decode()
    assert client.post(reverse("task_skip", args=[task.pk])).status_code == 403
    assert client.post(reverse("node_skip", args=[execution.pk, "a"])).status_code == 403


def files_page(client: Client, file: bytes | None, **about: Any) -> Any:
    address = reverse("project_executions", args=[ProjectFactory().pk])
    return client.post(address, {} if file is None else {"file": SimpleUploadedFile("w.yaml", file)}, **about)


@pytest.mark.parametrize(("form", "write"), [("yaml", as_yaml), ("json", as_json)])
def test_workflow_is_stored_from_a_file_and_downloaded(asha: Client, form: str, write: Callable[..., str]) -> None:
    page = files_page(asha, TEXT.encode(), follow=True).content.decode()

    assert "“Review “twice”” is stored as review 1." in page
    address = reverse(f"workflow_{form}", args=[Workflow.objects.get().pk])
    assert address in page
    answer = asha.get(address)
    assert answer["Content-Disposition"] == f'attachment; filename="review-1.{form}"'
    assert answer.content.decode() == write(read(TEXT))
    assert asha.get(reverse(f"workflow_{form}", args=[new_id()])).status_code == 404
    execution = started(save([{"key": "a"}]))
    assert reverse(f"workflow_{form}", args=[execution.workflow_id]) in shown(asha, execution)


@pytest.mark.parametrize(
    ("file", "said", "recorded"),
    [
        (None, "Choose a file.", 0),
        (b"", "no object", 1),
        (b"\xff\xfe", "no text in UTF-8", 1),
        (b" " * (8 * 2**20 + 1), "over 8 MB", 1),
        (b"key: x\nname: X\nnodes: [{key: a, role: <b>, title: A}]\n", "unknown role “&lt;b&gt;”", 1),
    ],
)
def test_file_that_is_no_workflow_is_refused_beside_the_form(
    asha: Client, file: bytes | None, said: str, recorded: int
) -> None:
    answer = files_page(asha, file)
    _, _, error = answer.content.decode().partition('<p class="field__error"')
    assert answer.status_code == 422
    assert said in error.partition("</p>")[0]
    assert AuditLog.objects.filter(action="workflow.refused", actor_name="asha").count() == recorded
    assert not Workflow.objects.exists()


def test_refused_file_is_explained_where_the_page_begins(asha: Client) -> None:
    page = files_page(
        asha, b"key: x\nname: X\nnodes:\n- {key: a, role: boss, title: A}\n- {key: b, role: qa}\n"
    ).content.decode()
    _, _, notice = page.partition('id="refused-file"')
    assert page.index('id="refused-file"') < page.index("<h2>")
    assert "The file was not stored: 2 problems" in notice
    assert "<li>Line 4: Node “a” names the unknown role “boss”" in notice
    assert "<li>Line 5: Node “b” has no title.</li>" in notice
    assert 'href="#id_file"' in notice
    assert 'id="id_file"' in notice


def test_more_workflows_cost_the_page_no_more_queries(asha: Client) -> None:
    address = reverse("project_executions", args=[ProjectFactory().pk])
    costs = []
    for many in (1, 20):
        for number in range(many):
            import_workflow(TEXT.replace("key: review", f"key: w{number}"), by=TESTER, now=NOW)
        with CaptureQueriesContext(connection) as queries:
            assert asha.get(address).content.count(b'id="workflow-') == many
        costs.append(len(queries))
    assert costs[0] == costs[1]


def test_main_job_is_among_the_files(asha: Client) -> None:
    workflows.load_shipped(by=TESTER, now=NOW)
    page = asha.get(reverse("project_executions", args=[ProjectFactory(status="building").pk])).content.decode()
    assert "<code>main_job 1</code>" in page
