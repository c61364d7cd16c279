"""Requirements and plans."""

import pytest

from projects.actions import plans, projects
from projects.actions.plans import MAX_REQUIREMENTS, RequirementDraft
from projects.errors import InvalidDecision, InvalidPlan, InvalidRequirements, ProjectNotActive, StaleState
from projects.models import Approval, Plan, Project, Requirement, Task
from projects.plans import PlannedTask
from projects.roles import Role
from projects.states import PlanStatus, ProjectStatus
from tests.factories import COMMIT, NOW, TESTER, DemoFactory, PlanFactory, ProjectFactory
from tests.projects import lives

pytestmark = pytest.mark.django_db

LEND = RequirementDraft("Lend a tool", "A volunteer notes who has it.", ["A lent tool is out."])
FIND = RequirementDraft("Find a tool", "", ["A search by name finds it."])


def record(project: Project, *drafts: RequirementDraft, name: str = "Lendery") -> None:
    plans.record_requirements(project, name, drafts or [LEND, FIND], by=TESTER, now=NOW)


def test_requirements_are_kept_in_order_with_keys() -> None:
    project = ProjectFactory()
    record(project)
    assert list(project.requirements.values_list("key", "title")) == [("R1", "Lend a tool"), ("R2", "Find a tool")]


def test_requirements_sent_again_replace_the_first() -> None:
    project = ProjectFactory()
    record(project)
    record(project, FIND)
    assert project.requirements.get().title == "Find a tool"


def test_requirements_name_the_project() -> None:
    project = ProjectFactory(name="We lend too…")
    record(project, name="  Lendery\u202e\n ")
    project.refresh_from_db()
    assert project.name == "Lendery"


def test_requirements_do_not_rename_what_a_person_named() -> None:
    project = projects.create_project(projects.NewProject("We lend tools.", name="Ours"), by=TESTER, now=NOW)
    record(project)
    project.refresh_from_db()
    assert project.name == "Ours"


@pytest.mark.parametrize("name", ["", " \u200b\n"])
def test_empty_name_leaves_the_old_one(name: str) -> None:
    project = ProjectFactory(name="Tool library")
    record(project, name=name)
    assert Project.objects.get(pk=project.pk).name == "Tool library"


def test_requirements_ask_the_architect_for_a_plan() -> None:
    project = ProjectFactory()
    record(project)
    task = project.tasks.get()
    assert (task.kind, task.key, task.role, task.context) == ("plan", "plan-1", Role.ARCHITECT, {"corrections": []})


def test_requirements_are_stored_whatever_they_hold() -> None:
    project = ProjectFactory()
    record(project, RequirementDraft("\x00" * 300, "\ud800", ["<script>", "\x00"]))
    kept = project.requirements.get()
    assert len(kept.title) == 255
    assert kept.acceptance_criteria == ["<script>", "\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize(
    ("drafts", "problem"),
    [
        ([], "not 0"),
        ([LEND] * (MAX_REQUIREMENTS + 1), "not 51"),
        ([LEND, RequirementDraft(" ", "", ["x"])], "Requirement 2 has no title"),
        ([RequirementDraft("Lend", "", [])], "no acceptance criterion"),
        ([RequirementDraft("Lend", "", [" "])], "no acceptance criterion"),
    ],
)
def test_unusable_requirements_are_refused(drafts: list[RequirementDraft], problem: str) -> None:
    project = ProjectFactory()
    with pytest.raises(InvalidRequirements, match=problem):
        plans.record_requirements(project, "", drafts, by=TESTER, now=NOW)
    assert not Requirement.objects.exists()


@pytest.mark.parametrize("status", sorted(set(ProjectStatus) - {"planning", "paused"}))
def test_requirements_come_too_late_after_planning(status: str) -> None:
    with pytest.raises(ProjectNotActive, match="cannot be changed any more"):
        record(ProjectFactory(status=status))
    assert not Task.objects.exists()


def test_paused_project_still_takes_what_its_last_run_wrote() -> None:
    project = ProjectFactory(status="paused", paused_from="planning")
    record(project)
    assert project.requirements.count() == 2


def test_proposed_plan_is_asked_about() -> None:
    project = ProjectFactory(name="Lendery")
    approval = lives.propose(project)
    plan = project.plans.get()
    assert (plan.version, plan.status, len(plan.content)) == (1, PlanStatus.PROPOSED, 4)
    assert (approval.kind, approval.subject_id) == ("plan", plan.pk)
    assert approval.title == "Plan 1 of Lendery: 4 tasks"


def test_proposed_plan_is_kept_as_it_was_submitted() -> None:
    lives.propose(project := ProjectFactory())
    assert tuple(PlannedTask.from_json(data) for data in project.plans.get().content) == lives.NODES


def test_second_plan_waits_for_the_decision_on_the_first() -> None:
    lives.propose(project := ProjectFactory())
    with pytest.raises(StaleState, match="already waits"):
        lives.propose(project)
    assert Approval.objects.count() == 1


@pytest.mark.parametrize("status", sorted(set(ProjectStatus) - {"planning", "paused"}))
def test_plan_comes_too_late_after_planning(status: str) -> None:
    with pytest.raises(ProjectNotActive):
        lives.propose(ProjectFactory(status=status))
    assert not Plan.objects.filter(status="proposed").exists()


def test_unusable_plan_is_refused() -> None:
    with pytest.raises(InvalidPlan):
        lives.propose(ProjectFactory(), [PlannedTask("a", "A", "wizard")])
    assert not Plan.objects.exists()
    assert not Approval.objects.exists()


def test_approved_plan_begins_the_demos() -> None:
    approval = lives.propose(project := ProjectFactory())
    lives.decide(approval, "approve")
    project.refresh_from_db()
    assert (project.status, project.plans.get().status) == (ProjectStatus.DEMO, PlanStatus.ACTIVE)
    assert project.tasks.get().kind == "demo"


@pytest.mark.parametrize(("option", "status"), [("amend", "amended"), ("reject", "rejected")])
def test_refused_plan_is_made_anew_with_the_correction(option: str, status: str) -> None:
    approval = lives.propose(project := ProjectFactory())
    lives.decide(approval, option, "Smaller steps.")
    assert project.plans.get().status == status
    assert project.tasks.get().context == {"corrections": ["Smaller steps."]}
    assert Project.objects.get(pk=project.pk).status == ProjectStatus.PLANNING


def test_architect_is_told_every_correction_in_order() -> None:
    project = ProjectFactory()
    for text in ("Smaller steps.", "Fewer tests."):
        lives.decide(lives.propose(project), "amend", text)
    assert project.tasks.latest("id").context == {"corrections": ["Smaller steps.", "Fewer tests."]}
    assert project.tasks.latest("id").key == "plan-2"
    assert lives.propose(project).title.startswith("Plan 3 ")


def test_plan_of_a_paused_project_is_decided_after_it_goes_on() -> None:
    approval = lives.propose(project := ProjectFactory())
    projects.pause_project(project, reason="", by=TESTER, now=NOW)
    with pytest.raises(ProjectNotActive, match="is paused"):
        lives.decide(approval, "approve")
    projects.resume_project(project, by=TESTER, now=NOW)
    assert lives.decide(approval, "approve").status == "approved"


def test_amending_without_saying_what_is_refused() -> None:
    approval = lives.propose(ProjectFactory())
    with pytest.raises(InvalidDecision, match="needs a comment"):
        lives.decide(approval, "amend", "  ")
    assert Plan.objects.get().status == PlanStatus.PROPOSED


def test_start_building_makes_the_plans_tasks() -> None:
    made = lives.building()
    found = {task.key: (task.status, task.unmet_count, task.role) for task in Task.objects.filter(kind="build")}
    assert found == {
        "storage": ("ready", 0, "developer"),
        "pages": ("pending", 1, "developer"),
        "report": ("pending", 1, "developer"),
        "review": ("pending", 2, "qa"),
    }
    assert set(made["review"].dependencies.values_list("key", flat=True)) == {"pages", "report"}
    lives.check_invariants(made["storage"].project)


def test_earlier_in_the_plan_goes_first() -> None:
    made = lives.building([PlannedTask(f"t{number}", "T", "developer") for number in range(3)])
    assert sorted(made, key=lambda key: -made[key].priority) == ["t0", "t1", "t2"]


def test_building_without_an_active_plan_is_refused() -> None:
    project = ProjectFactory(status="demo")
    demo = DemoFactory(project=project, status="approved")
    PlanFactory(project=project, status="rejected")
    with pytest.raises(Plan.DoesNotExist):
        plans.start_building(project, demo_id=demo.pk, commit=COMMIT, by=TESTER, now=NOW)
    assert Project.objects.get(pk=project.pk).status == ProjectStatus.DEMO


def test_building_starts_once() -> None:
    project = lives.building()["storage"].project
    demo_id = Project.objects.values_list("approved_demo_id", flat=True).get(pk=project.pk)
    with pytest.raises(Exception, match="cannot become building"):
        plans.start_building(project, demo_id=demo_id, commit=COMMIT, by=TESTER, now=NOW)  # type: ignore[arg-type]
    assert Task.objects.filter(kind="build").count() == 4


def test_name_that_another_project_has_gets_a_number_and_a_persons_own_does_not() -> None:
    ProjectFactory(name="Lendery")
    project = projects.create_project(projects.NewProject("We lend tools."), by=TESTER, now=NOW)
    for _ in range(2):
        record(project)
        assert Project.objects.get(pk=project.pk).name == "Lendery (2)"
    own = projects.create_project(projects.NewProject("We lend tools.", name="Lendery"), by=TESTER, now=NOW)
    assert own.name == "Lendery"
