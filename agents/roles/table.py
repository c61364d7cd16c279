"""The role table (seed 000 §5, permissions matrix): the one place that says what an agent of each role may do.

Mounts, tools, verbs, egress, limits and what is merged come from it (`agents.roles.compiling`), and so do the page of
roles and docs/roles.md (`agents.roles.shown`).
"""

from agents.egress import EgressClass
from agents.roles.policy import EVERYTHING, Git, RoleLimits, RolePolicy, Terminal
from projects.roles import Role

_REPORT = frozenset(
    {
        "report_progress",
        "read_messages",
        "send_message",
        "save_checkpoint",
        "task_complete",
        "task_failed",
        "task_blocked",
    }
)
_WORK = _REPORT | {"ask_mentor"}
_DOCS = frozenset({"docs/"})
_TESTS = frozenset({"tests/"})
_ALL = frozenset({EVERYTHING})
# Who only reads and writes text needs no more than the CLI itself.
_DESK = RoleLimits(memory_mb=1536, pids=256, disk_mb=1024, tmp_mb=256)

ROLES: dict[Role, RolePolicy] = {
    Role.ORCHESTRATOR: RolePolicy(spawn=True, egress=EgressClass.INTERNAL, limits=_DESK, verbs=_WORK | {"add_tasks"}),
    Role.ARCHITECT: RolePolicy(
        writable=_DOCS, egress=EgressClass.RESEARCH, limits=_DESK, verbs=_WORK | {"submit_plan"}
    ),
    Role.PM: RolePolicy(
        writable=_DOCS,
        egress=EgressClass.RESEARCH,
        limits=_DESK,
        verbs=_WORK | {"submit_requirements", "ask_client"},
    ),
    Role.DEVELOPER: RolePolicy(
        writable=_ALL,
        git=Git.FULL,
        terminal=Terminal.FULL,
        egress=EgressClass.PACKAGES,
        verbs=_WORK | {"submit_demo"},
    ),
    Role.TESTER: RolePolicy(writable=_TESTS, terminal=Terminal.TEST, egress=EgressClass.TEST_ONLY, verbs=_WORK),
    Role.QA: RolePolicy(terminal=Terminal.TEST, browser=True, egress=EgressClass.TEST_ONLY, verbs=_WORK),
    Role.UAT: RolePolicy(git=Git.NO, browser=True, egress=EgressClass.TEST_ONLY, verbs=_WORK),
    Role.SRE: RolePolicy(writable=_ALL, git=Git.FULL, terminal=Terminal.FULL, egress=EgressClass.FULL, verbs=_WORK),
    Role.MONITOR: RolePolicy(terminal=Terminal.DIAGNOSTIC, egress=EgressClass.METRICS, verbs=_WORK),
    Role.MENTOR: RolePolicy(browser=True, egress=EgressClass.RESEARCH, limits=_DESK, verbs=_REPORT | {"reply_mentor"}),
}
