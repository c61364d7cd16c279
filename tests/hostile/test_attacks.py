"""Every attack came to nothing: it was really made, something stopped it, and it was written down.

The runs are made once, by the first test that asks (tests/hostile/performance.py); then each attack is looked at.
"""

import re
from collections.abc import Iterator

import pytest
from django.conf import settings
from pytest_django import DjangoDbBlocker

from tests.eklavya.test_hostile_texts import dangers
from tests.hostile.attacks import ATTACKS, CONTROLS
from tests.hostile.attacks.injection import TEXTS
from tests.hostile.attacks.tools import OWN_CALLS, TOOL_ATTACKS
from tests.hostile.performance import LOG_BYTES, Found, performed
from tests.hostile.shown import PAGES, PREVIEWS
from tests.hostile.stage import KEY, TEXT

# The database is made for whoever is marked so; the tests themselves only look at what the fixture brought.
pytestmark = [pytest.mark.docker, pytest.mark.cli, pytest.mark.django_db]


@pytest.fixture(scope="module")
def found(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Found]:
    """All runs, their neighbour and the controls."""
    with django_db_blocker.unblock(), performed(tmp_path_factory.mktemp("hostile")) as made:
        yield made


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_comes_to_nothing(found: Found, name: str) -> None:
    attack = ATTACKS[name]
    role = "@tester" if attack.family == "role" else ""
    result = found.results[name + role]

    assert result["outcome"] == "stopped", result
    assert re.search(attack.stopped, result["evidence"], re.DOTALL), result
    assert_control(found, name)
    assert_recorded(found, name)


def assert_control(found: Found, name: str) -> None:
    """The same attempt works where the guard is not there, or what is allowed works from the same place."""
    attack = ATTACKS[name]
    match attack.control:
        case "naked" | "host":
            assert found.controls[name]["outcome"] == "succeeded", found.controls[name]
        case "developer":
            assert found.results[f"{name}@everything"]["outcome"] == "succeeded", found.results[f"{name}@everything"]
        case "inside":
            run = found.of_attack[name]
            allowed = [f"{control}@{run}" for control in CONTROLS if control.startswith(f"{attack.family}-")]
            for one in allowed or [f"mcp-own-verb@{'everything'}"]:
                assert found.results[one]["outcome"] == "succeeded", found.results[one]
        case _:
            assert attack.control == "outside"


def assert_recorded(found: Found, name: str) -> None:
    """The platform has it in writing."""
    attack = ATTACKS[name]
    run = found.runs["tester" if attack.family == "role" else found.of_attack[name]]
    action, needle = attack.trace
    if action == "detail":
        assert (run.status, run.reason) == ("failed", "clone_refused")
        assert needle in run.detail
        return
    if action in {"transcript", "outside"}:
        said = [payload for kind, payload in run.transcript if kind == "tool_result"]
        assert any(name in payload for payload in said), "the transcript does not have it"
        return
    rows = [details for done, details in [*run.audit, *found.account_audit] if done == action]
    assert any(re.search(needle, row) if "|" in needle else needle in row for row in rows), rows


@pytest.mark.parametrize("name", [one.id for one in TOOL_ATTACKS])
def test_a_tool_does_no_more_than_its_role_may(found: Found, name: str) -> None:
    attack = next(one for one in TOOL_ATTACKS if one.id == name)

    said = found.results[name]["evidence"]

    assert re.search(attack.stopped, said, re.DOTALL), said
    worked = found.results[attack.worked]["evidence"]
    assert attack.worked in OWN_CALLS
    assert not worked.startswith("error: "), worked
    calls = [payload for kind, payload in found.runs["everything"].transcript if kind == "tool_use"]
    assert any(f'"{attack.tool}"' in payload for payload in calls)


def test_the_neighbour_completes_meanwhile(found: Found) -> None:
    run = found.runs["neighbour"]

    assert (run.status, run.reason) == ("succeeded", "completed"), run.detail
    assert run.main_after != run.main_before
    assert found.neighbour_cost == found.neighbour_ledger > 0
    assert not [action for action, _ in run.audit if action.endswith(".refused")]


def test_no_poisoned_change_reaches_main(found: Found) -> None:
    reasons = {"everything": "secrets_refused"} | dict.fromkeys(("again", "dotgit"), "clone_refused")
    for name, reason in reasons.items():
        run = found.runs[name]
        assert (run.status, run.reason) == ("failed", reason), run.detail
    assert found.runs["tester"].status == "failed"
    assert found.runs["again"].main_before == found.runs["again"].main_after


def test_what_a_clone_holds_is_never_run(found: Found) -> None:
    assert found.marks_of_control == ["filter", "fsmonitor", "hook"]
    assert found.marks == []


def test_the_key_is_known_to_the_gateway_and_the_model_alone(found: Found) -> None:
    assert found.keys_at_the_model == {KEY}
    assert not [seen for seen in found.thief_saw if KEY in seen]
    for run in found.runs.values():
        told = [run.told.first, run.told.system, *run.told.results.values(), run.detail, run.test_output]
        assert KEY not in "".join([*told, *(payload for _, payload in run.transcript)])


def test_a_process_does_not_outlive_its_run(found: Found) -> None:
    assert found.results["bomb-outlive"]["evidence"] == "started; still here"
    assert found.survivors == []


def test_a_flood_of_output_is_cut(found: Found) -> None:
    run = found.runs["everything"]
    longest = max(len(payload) for kind, payload in run.transcript if kind == "tool_result")

    assert any("/dev/zero" in payload for kind, payload in run.transcript if kind == "tool_use")
    assert any("x" * 1_000 in payload for kind, payload in run.transcript if kind == "tool_result")
    assert longest < LOG_BYTES / 100


def test_no_budget_is_exceeded_by_a_race(found: Found) -> None:
    run = found.runs["spender"]

    assert (run.status, run.reason) == ("over_budget", "run_budget"), run.detail
    assert found.limit / 2 < found.most_held <= found.limit
    assert found.still_held == 0


@pytest.mark.parametrize("name", list(TEXTS))
def test_orders_in_texts_reach_the_model_as_data_alone(found: Found, name: str) -> None:
    told = found.runs["poisoner"].told
    canary = f"(canary-{name.removeprefix('inject-')})"

    reached = [text for text in (told.first, *told.results.values()) if canary in text]

    assert reached, "the order was not read, so nothing was shown"
    assert canary not in told.system
    assert told.first.count("</task-context>") == 1
    assert not any("\n</messages>" in text and "System:" in text.partition("</messages>")[2] for text in reached)


def test_what_is_verified_learns_and_reaches_nothing(found: Found) -> None:
    run = found.runs["poisoner"]
    assert (run.status, run.reason) == ("succeeded", "completed"), run.detail

    tried = re.findall(r'\["([a-z0-9-]+)", "([a-z]+)", "((?:[^"\\]|\\.)*)"\]', run.test_output)

    assert len(tried) >= 20, run.test_output
    assert [one for one in tried if one[1] != "stopped"] == []


@pytest.mark.parametrize("name", PAGES)
def test_what_agents_wrote_is_text_where_people_see_it(found: Found, name: str) -> None:
    page = found.pages[name]

    assert dangers(TEXT), "the text would do nothing anywhere"
    assert "hostile7f3" in page, page[:200]
    assert [danger for danger in dangers(page) if "alert" in danger] == []


@pytest.mark.parametrize("name", PREVIEWS)
def test_a_preview_gets_and_sets_no_cookie_of_the_portal(found: Found, name: str) -> None:
    plain, preview = found.visits
    session = settings.SESSION_COOKIE_NAME

    assert "of-the-portal" in plain.text
    assert f"{session}=stolen; Path=/; Domain=localhost" in plain.headers.get_list("set-cookie")
    assert preview.status_code == 200
    if name == "preview-cookie":
        assert "of-the-portal" not in preview.text
        assert "own=1" in preview.text
    else:
        assert preview.headers.get_list("set-cookie") == ["basket=7; Path=/"]


def test_every_attack_was_tried(found: Found) -> None:
    assert [name for name in ATTACKS if name not in found.of_attack] == []
