"""What people type about demos: shape only."""

from django import forms

from demos.actions import MAX_EXTENSION_DAYS


class ExtendForm(forms.Form):
    """For how much longer a demo is shown."""

    days = forms.IntegerField(label="Days", initial=7, min_value=1, max_value=MAX_EXTENSION_DAYS)


class RemarkForm(forms.Form):
    """Something about a demo, without deciding it."""

    remark = forms.CharField(
        label="Remark",
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": "What did you notice? The next developer reads it."}),
    )
