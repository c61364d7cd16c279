"""A stricter filter of system calls from Podman's, which lets containers make user namespaces; Docker's does not.

    python -m agents.runtimes.podman_seccomp > /etc/containers/eklavya-seccomp.json

and in containers.conf, under [containers]: seccomp_profile = "/etc/containers/eklavya-seccomp.json". It cannot be given
with each container: Docker's client sends a profile's text where Podman's socket wants its path.
"""

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["allows_namespaces", "tighten"]

_SHIPPED = (Path("/etc/containers/seccomp.json"), Path("/usr/share/containers/seccomp.json"))
_ALLOW, _REFUSE = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
_EPERM, _ENOSYS = 1, 38
_NEW_NAMESPACES = 0x7E020000
"""Every flag CLONE_NEW… of clone(2)."""
_REFUSED = (
    *("unshare", "setns", "pivot_root", "keyctl"),
    *(
        "mount",
        "umount",
        "umount2",
        "mount_setattr",
        "move_mount",
        "open_tree",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
    ),
)
"""What an unprivileged program needs for nothing, and holes in the kernel are reached by."""


def allows_namespaces(profile: dict[str, Any]) -> bool:
    """Whether a process without capabilities may make a user namespace, and be root of everything in it."""
    return any("unshare" in rule["names"] for rule in _for_all(profile))


def tighten(profile: dict[str, Any]) -> dict[str, Any]:
    """The profile without namespaces, mounts and keyrings for whom no capability is asked."""
    taken = {*_REFUSED, "clone", "clone3"}
    open_rules = _for_all(profile)
    rules = [
        {**rule, "names": [name for name in rule["names"] if name not in taken]} if rule in open_rules else rule
        for rule in profile["syscalls"]
    ]
    plain_clone = {"index": 0, "value": _NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    return {
        **profile,
        "syscalls": [
            *(rule for rule in rules if rule["names"]),
            {"names": ["clone"], "action": _ALLOW, "args": [plain_clone]},
            # Its flags lie in memory, where no filter looks. Programs take clone when it is not there.
            {"names": ["clone3"], "action": _REFUSE, "errnoRet": _ENOSYS},
            {"names": list(_REFUSED), "action": _REFUSE, "errnoRet": _EPERM},
        ],
    }


def _for_all(profile: dict[str, Any]) -> list[dict[str, Any]]:
    """The rules that allow something whatever capabilities a container has, and whatever is asked."""
    return [
        rule
        for rule in profile["syscalls"]
        if rule["action"] == _ALLOW and not rule.get("args") and not (rule.get("includes") or {}).get("caps")
    ]


def main() -> None:
    """Print the stricter profile, from the one that Podman came with."""
    for path in _SHIPPED:
        if path.exists():
            json.dump(tighten(json.loads(path.read_bytes())), sys.stdout, indent=1)
            return
    sys.exit(f"none of Podman's profiles is here: {', '.join(map(str, _SHIPPED))}")


if __name__ == "__main__":
    main()
