"""Egress classes: which hosts of the outside world a sandbox may reach, through the egress proxy and no other way.

The role table gives each role a class; the operator says in EKLAVYA_EGRESS_<CLASS> what a class may reach, as an
allow-list in the form that `projects.addresses` explains.
"""

from collections.abc import Mapping
from enum import StrEnum

from django.conf import settings

from projects.addresses import Rule, parse_rules


class EgressClass(StrEnum):
    """How far a role's sandbox reaches. Each but `internal` has an allow-list of its own."""

    INTERNAL = "internal"  # the gateway's verbs and model, nothing else: no proxy
    PACKAGES = "packages"  # package registries
    RESEARCH = "research"  # documentation and other reading
    TEST_ONLY = "test_only"  # what tests need, such as a staging server
    METRICS = "metrics"  # where a system's health is read
    FULL = "full"  # every public host on the web's ports, unless the operator narrows it


def allow_list(egress_class: EgressClass, lists: Mapping[str, str] | None = None) -> tuple[Rule, ...]:
    """Return what a class may reach: nothing for `internal`, else what `lists` or the settings say."""
    if egress_class is EgressClass.INTERNAL:
        return ()
    texts: Mapping[str, str] = settings.EKLAVYA_EGRESS if lists is None else lists
    return parse_rules(texts[egress_class.value])


def proxy_environment(egress_class: EgressClass, *, host: str, port: int, token: str) -> dict[str, str]:
    """Return what tells programs in a sandbox of their way out: nothing for `internal`.

    `host` is where they find the gateway and the proxy; that and their own machine they reach without it. In both
    cases of letters: curl reads `http_proxy` only small, others read only capitals.
    """
    if egress_class is EgressClass.INTERNAL:
        return {}
    address = f"http://run:{token}@{host}:{port}"
    direct = ",".join(dict.fromkeys([host, "localhost", "127.0.0.1", "::1"]))
    values = {"HTTP_PROXY": address, "HTTPS_PROXY": address, "NO_PROXY": direct}
    return values | {name.lower(): value for name, value in values.items()}
