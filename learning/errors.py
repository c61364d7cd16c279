"""What can be wrong with a request to learning."""

from projects.errors import DomainError


class NoActivePrompt(DomainError):
    """This role has no active prompt. Load the shipped ones with `manage.py load_prompts`."""


class InvalidPrompt(DomainError):
    """The prompt cannot be used."""
