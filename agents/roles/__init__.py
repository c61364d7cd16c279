"""What an agent of each role may use and change. Start reading at `table`."""

from agents.roles.compiling import BROWSER_SERVER, limits_of, mounts_need_no_files, mounts_of, tools_of
from agents.roles.of_runs import limits_of_run, policy_of, specialisations_of
from agents.roles.policy import Git, RoleLimits, RolePolicy, Terminal
from agents.roles.specialisations import BUILT_IN, Narrowing, Specialised, compile_policy, find_widening
from agents.roles.table import ROLES

__all__ = [
    "BROWSER_SERVER",
    "BUILT_IN",
    "ROLES",
    "Git",
    "Narrowing",
    "RoleLimits",
    "RolePolicy",
    "Specialised",
    "Terminal",
    "compile_policy",
    "find_widening",
    "limits_of",
    "limits_of_run",
    "mounts_need_no_files",
    "mounts_of",
    "policy_of",
    "specialisations_of",
    "tools_of",
]
