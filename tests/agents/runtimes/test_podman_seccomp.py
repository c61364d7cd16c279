"""What is made of the filter of system calls that Podman comes with."""

from typing import Any

from agents.runtimes.podman_seccomp import allows_namespaces, tighten

ADMIN = {"caps": ["CAP_SYS_ADMIN"]}
SHIPPED: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "syscalls": [
        {
            "names": ["clone", "clone3", "mount", "read", "unshare"],
            "action": "SCMP_ACT_ALLOW",
            "includes": {},
            "args": [],
        },
        {"names": ["setns"], "action": "SCMP_ACT_ALLOW", "includes": {}},
        {"names": ["bpf", "mount"], "action": "SCMP_ACT_ALLOW", "includes": ADMIN},
        {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "excludes": ADMIN},
    ],
}


def names(profile: dict[str, Any], action: str, includes: dict[str, Any]) -> set[str]:
    rules = [rule for rule in profile["syscalls"] if rule["action"] == action and rule.get("includes", {}) == includes]
    return {name for rule in rules for name in rule["names"]}


def test_a_filter_that_lets_namespaces_pass_is_known() -> None:
    assert allows_namespaces(SHIPPED)
    assert not allows_namespaces(tighten(SHIPPED))


def test_what_no_capability_is_asked_for_loses_namespaces_and_mounts() -> None:
    made = tighten(SHIPPED)
    # A clone that makes no namespace stays: threads and processes are made by it.
    assert names(made, "SCMP_ACT_ALLOW", {}) == {"clone", "read"}
    (clone,) = [rule for rule in made["syscalls"] if "clone" in rule["names"]]
    assert clone["args"][0]["op"] == "SCMP_CMP_MASKED_EQ"
    assert {"clone3", "mount", "setns", "unshare", "bpf"} <= names(made, "SCMP_ACT_ERRNO", {})
    assert names(made, "SCMP_ACT_ALLOW", ADMIN) == {"bpf", "mount"}


def test_what_is_shipped_is_not_changed() -> None:
    tighten(SHIPPED)
    assert "unshare" in SHIPPED["syscalls"][0]["names"]
