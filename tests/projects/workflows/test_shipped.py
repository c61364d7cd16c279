"""What comes with Eklavya, and the command that brings workflows in and out."""

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from projects.actions.workflows import load_shipped, save_workflow
from projects.models import AuditLog, Workflow
from projects.workflows.documents import Document, read
from projects.workflows.shipped import shipped
from tests.factories import NOW, TESTER

SEED_003 = {"develop_feature", "bug_fix", "refactor", "code_review", "documentation", "testing"}


def test_templates_of_the_seed_and_the_main_job_are_there() -> None:
    assert {document.key for document in shipped()} == SEED_003 | {"main_job"}


def test_the_seeds_example_has_its_steps_priorities_and_order() -> None:
    (feature,) = [document for document in shipped() if document.key == "develop_feature"]
    priorities = {node.key: node.priority for node in feature.definition.nodes}
    assert priorities["code-generation"] == 100
    assert (priorities["code-review"], priorities["test-generation"], priorities["documentation"]) == (80, 70, 50)
    first = {edge.target for edge in feature.definition.edges if edge.source == "code-generation"}
    assert first == {"code-review", "test-generation"}


@pytest.mark.django_db
def test_shipped_are_loaded_once_and_a_persons_version_stays() -> None:
    load_shipped(by=TESTER, now=NOW)
    (mine,) = [document for document in shipped() if document.key == "testing"]
    changed = save_workflow(Document("testing", "My way", "", mine.definition), by=TESTER, now=NOW)
    again = load_shipped(by=TESTER, now=NOW)
    assert changed in again
    assert Workflow.objects.filter(key="testing").latest("version") == changed
    assert Workflow.objects.count() == 8


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("workflow", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.django_db
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_workflow_goes_out_and_comes_in_as_a_version_by_command(tmp_path: Path, form: str) -> None:
    load_shipped(by=TESTER, now=NOW)
    text = run("export", "bug_fix", "--format", form)
    file = tmp_path / "one"
    file.write_text(text)
    assert run("import", str(file)) == "bug_fix 1\n"
    file.write_text(text.replace("Mend it", "Repair it"))
    assert "nothing is wrong" in run("check", str(file))
    assert run("import", str(file)) == "bug_fix 2\n"
    assert "bug_fix 2" in run("list")
    assert read(run("export", "bug_fix", "--number", "1", "--format", form)) == read(text)


@pytest.mark.django_db
def test_command_says_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "one"
    file.write_text("key: x\nname: X\nnodes:\n- {key: a, role: wizard, title: A}\nedges:\n- {from: a, to: a}\n")
    for verb in ("check", "import"):
        with pytest.raises(CommandError, match="unknown role “wizard”"):
            run(verb, str(file))
    (refused,) = AuditLog.objects.filter(action="workflow.refused")
    assert "wizard" in refused.details["problems"][0]
    file.write_bytes(b"\xff\xfe")
    for arguments in (("check", str(file)), ("check", str(tmp_path / "none")), ("export", "nobody")):
        with pytest.raises(CommandError):
            run(*arguments)
    assert not Workflow.objects.exists()
