"""The platform's own keys that are in force: what no change may contain, whatever it looks like."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.views.decorators.debug import sensitive_variables
from pydantic import SecretStr

from projects.errors import SecretUnreadable
from projects.models import Secret
from projects.secrets import reveal

_NAMED = ("_KEY", "_KEYS", "_FALLBACKS", "_SECRET", "_SECRETS", "_TOKEN", "_TOKENS", "_PASSWORD")


@sensitive_variables()
def keys_in_force() -> set[str]:
    """Return all of them, found by the names of settings, so that a new one is not forgotten."""
    found = {text for name in dir(settings) if name.endswith(_NAMED) for text in _texts(getattr(settings, name))}
    found |= _of_projects()
    found |= {text for of in settings.DATABASES.values() for text in _texts(of.get("PASSWORD"))}
    return found | {unquote(urlsplit(settings.CELERY_BROKER_URL).password or "")}


@sensitive_variables()
def _of_projects() -> set[str]:
    """The secrets of all projects and of the account: no project's repository may hold another's either."""
    found = set()
    for secret in Secret.objects.all():
        # One that cannot be read is in nobody's use.
        with suppress(SecretUnreadable):
            found.add(reveal(secret).get_secret_value())
    return found


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case bytes():
            yield value.decode("latin-1")
        case SecretStr():
            yield value.get_secret_value()
        case Mapping():
            yield from _texts(list(value.values()))
        case Iterable():
            for item in value:
                yield from _texts(item)
