"""What can be wrong with a request about people and keys. The docstring is the default sentence for people."""

import inspect


class AccountError(Exception):
    """This cannot be done."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or inspect.getdoc(type(self)))


class LastAdmin(AccountError):
    """This is the last admin. Make somebody else an admin first."""


class InvalidPerson(AccountError):
    """This name or address cannot be used."""


class InvalidKey(AccountError):
    """An API key cannot be made like this."""


class KeyRefused(AccountError):
    """This API key is not accepted."""
