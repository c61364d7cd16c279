"""What people type: shape only. What it means is checked by the actions."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, cast

from django import forms

from projects.actions.webhooks import MAX_DESCRIPTION
from projects.models import Approval, Project, Workflow
from projects.webhooks.messages import SENT_TYPES
from projects.webhooks.targets import MAX_URL_CHARS, describe_receivers

MOST_OFFERED = 50
"""Projects in a list to choose from; more make a page slow, and are not looked through."""


class BriefForm(forms.Form):
    """A new project: the brief, and what may be left to the platform."""

    brief = forms.CharField(
        label="Brief",
        strip=False,
        widget=forms.Textarea(
            attrs={
                "rows": 5,
                "placeholder": "What does the client want? Paste their mail, a specification, or three sentences.",
                "data-draft": "brief",
                "data-key": "c",
                "aria-label": "Brief",
            }
        ),
    )
    name = forms.CharField(
        label="Name", required=False, max_length=255, help_text="Empty: the product manager names it."
    )
    client_name = forms.CharField(label="Client", required=False, max_length=255)
    budget_limit = forms.DecimalField(
        label="Budget, USD", required=False, min_value=Decimal(0), max_digits=10, decimal_places=2
    )


class MessageForm(forms.Form):
    """A line to the squad."""

    body = forms.CharField(
        label="Message",
        max_length=20_000,
        widget=forms.Textarea(
            attrs={"rows": 2, "placeholder": "Write to the squad…", "aria-label": "Message", "data-key": "c"}
        ),
    )


class StartForm(forms.Form):
    """A workflow, and what it is about."""

    workflow = forms.ChoiceField(label="Workflow")
    request = forms.CharField(
        label="What is it about?",
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": "The list of tools is empty after a search…"}),
        help_text="Every task of it is told.",
    )

    def __init__(self, *args: Any, workflows: Iterable[Workflow], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["workflow"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(one.key, one.name) for one in workflows]


class WorkflowFileForm(forms.Form):
    """A workflow as a file. One that is empty is refused like all that are no workflow."""

    file = forms.FileField(
        label="File",
        allow_empty_file=True,
        widget=forms.FileInput(attrs={"accept": ".yaml,.yml,.json"}),
        help_text="YAML or JSON, at most 8 MB. It becomes the next version of its key, for all projects.",
        error_messages={"required": "Choose a file."},
    )


class ReasonForm(forms.Form):
    """Why something is done, optional."""

    reason = forms.CharField(required=False, max_length=500)


class DecisionForm(forms.Form):
    """A decision: the button pressed, why, and for questions one answer each (`answer_0`, `answer_1`, …).

    An answer is one of the offered options or, in `other_<n>`, free text, which wins.
    """

    option = forms.CharField(max_length=32)
    comment = forms.CharField(required=False, max_length=20_000)

    def __init__(self, data: object, *, approval: Approval) -> None:
        super().__init__(data)  # type: ignore[arg-type]
        self.approval = approval
        for number in range(len(approval.questions)):
            self.fields[f"answer_{number}"] = forms.CharField(required=False, max_length=4_000)
            self.fields[f"other_{number}"] = forms.CharField(required=False, max_length=4_000)

    @property
    def answers(self) -> tuple[str, ...]:
        """The answers in the order of the questions; an empty one was not given."""
        data = self.cleaned_data
        return tuple(
            (data[f"other_{number}"] or data[f"answer_{number}"]).strip()
            for number in range(len(self.approval.questions))
        )


class SecretForm(forms.Form):
    """A secret to keep. What was typed is never sent back."""

    name = forms.CharField(max_length=64, label="Name", help_text="ANTHROPIC_API_KEY is the key of the model.")
    value = forms.CharField(
        label="Value",
        max_length=8_000,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="It is encrypted, and never shown again.",
    )


class ChangeWebhookForm(forms.Form):
    """Where events are sent, and which; none ticked stands for all types."""

    url = forms.CharField(
        label="Address",
        max_length=MAX_URL_CHARS,
        widget=forms.URLInput(attrs={"placeholder": "https://hooks.example.org/eklavya", "spellcheck": "false"}),
    )
    description = forms.CharField(max_length=MAX_DESCRIPTION, required=False)
    events = forms.MultipleChoiceField(
        choices=list(SENT_TYPES.items()), required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["url"].help_text = f"{describe_receivers()} It gets a signed POST for each event."


class WebhookForm(ChangeWebhookForm):
    """A new one. The newest projects are offered; an older one is named by its id."""

    project = forms.ModelChoiceField(Project.objects.all(), required=False, label="For")
    project_id = forms.UUIDField(
        required=False,
        label="Or for an older project",
        help_text="Its id, from the address of its page.",
        error_messages={"invalid": "That is no id of a project. Copy it from the address of the project's page."},
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        newest = list(Project.objects.order_by("-created_at", "-pk").values_list("pk", "name")[: MOST_OFFERED + 1])
        # Both are checked against all projects; only what is offered is bounded.
        offered = [("", "All projects"), *newest[:MOST_OFFERED]]
        cast("forms.ModelChoiceField[Project]", self.fields["project"]).choices = offered
        if len(newest) <= MOST_OFFERED:
            del self.fields["project_id"]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if older := data.pop("project_id", None):
            if data.get("project"):
                self.add_error("project_id", "Choose a project above, or give an id here, not both.")
            data["project"] = Project.objects.filter(pk=older).first()
            if data["project"] is None:
                self.add_error("project_id", "There is no project with this id.")
        return data
