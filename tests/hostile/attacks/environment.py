"""What the environment of a process gives away."""

import os

from .base import Stopped, World, attack


def _find(prefixes: "tuple[str, ...]") -> str:
    found = [name for name in os.environ if name.startswith(prefixes)]
    if not found:
        raise Stopped(f"none among {len(os.environ)} variables")
    return ", ".join(found)


@attack("env-platform", "learns the platform's settings", stopped="none among [1-9]")
def platform(world: World) -> str:
    prefixes = ("DATABASE_", "DJANGO_", "REDIS_", "EKLAVYA_SECRET", "EKLAVYA_MODEL", "EKLAVYA_VAR", "PG")
    return _find(prefixes)


@attack("env-cloud", "learns credentials that the host's environment has", stopped="none among [1-9]")
def cloud(world: World) -> str:
    return _find(("AWS_", "GOOGLE_", "AZURE_", "GITHUB_", "OPENAI_", "SSH_", "DOCKER_"))


@attack("env-proxy", "is led to the host's own proxy", stopped="none among [1-9]")
def proxies(world: World) -> str:
    return _find(("ALL_PROXY", "all_proxy", "FTP_PROXY"))
