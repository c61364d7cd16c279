"""What people type about money: shape only."""

from decimal import Decimal

from django import forms


class LimitForm(forms.Form):
    """A project's new limit."""

    limit = forms.DecimalField(label="Limit", min_value=Decimal("0.01"), max_digits=14, decimal_places=2)


class LevelLimitForm(forms.Form):
    """A level's new limit; empty takes it away where none is needed."""

    limit = forms.DecimalField(
        label="Limit", required=False, min_value=Decimal("0.01"), max_digits=14, decimal_places=2
    )
