"""What people type about roles: shape only. What it means is checked by the actions."""

from typing import Any

from django import forms

from agents.egress import EgressClass
from agents.roles import Git, Narrowing, Terminal
from projects.roles import Role


class SpecialisationForm(forms.Form):
    """A base role with less."""

    name = forms.CharField(label="Name", max_length=100)
    base = forms.ChoiceField(label="Base role", choices=Role.choices)
    about = forms.CharField(label="What it is for", max_length=300, required=False)
    writable = forms.CharField(
        label="May write",
        max_length=500,
        required=False,
        help_text="Places, with spaces between: docs/ static/. Empty: as the base role. In containers a single file, "
        "such as README.md, can be changed by commands, not by the agent's editor, which replaces files.",
    )
    writes_nothing = forms.BooleanField(label="Writes nothing", required=False)
    no_commits = forms.BooleanField(label="Does not commit", required=False)
    no_terminal = forms.BooleanField(label="No terminal", required=False)
    no_browser = forms.BooleanField(label="No browser", required=False)
    no_spawn = forms.BooleanField(label="No helpers", required=False)
    no_network = forms.BooleanField(label="No network", required=False)
    memory_mb = forms.IntegerField(label="Memory, MB", min_value=1, required=False)
    disk_mb = forms.IntegerField(label="Disk, MB", min_value=1, required=False)
    minutes = forms.IntegerField(label="Minutes per run", min_value=1, required=False)
    turns = forms.IntegerField(label="Turns per run", min_value=1, required=False)

    def clean(self) -> dict[str, Any]:
        """Make the narrowing of it."""
        cleaned = super().clean() or {}
        try:
            cleaned["narrowing"] = _narrowing(cleaned)
        except ValueError as error:
            self.add_error("writable", str(error))
        return cleaned


def _narrowing(given: dict[str, Any]) -> Narrowing:
    places = frozenset(given.get("writable", "").split())
    return Narrowing(
        writable=frozenset() if given.get("writes_nothing") else places or None,
        git=Git.READ if given.get("no_commits") else None,
        terminal=Terminal.NO if given.get("no_terminal") else None,
        browser=False if given.get("no_browser") else None,
        spawn=False if given.get("no_spawn") else None,
        egress=EgressClass.INTERNAL if given.get("no_network") else None,
        **{name: given.get(name) for name in ("memory_mb", "disk_mb", "minutes", "turns")},
    )


class SpecialiseForm(forms.Form):
    """Which agent, or which role of a squad, gets which."""

    to = forms.UUIDField()
    specialisation = forms.SlugField(max_length=40, required=False)
