"""How each state is shown to people: one word, one icon, one tone. The only place where a page learns them.

Tones: `quiet` nothing happens, `active` the platform works, `wait` a person is asked, `done`, `bad`, `hold` stopped on
purpose. States of higher apps appear here as plain text; a test holds this table complete against all `states.py`.
"""

from dataclasses import dataclass
from typing import Literal

Tone = Literal["quiet", "active", "wait", "done", "bad", "hold"]


@dataclass(frozen=True)
class Look:
    """What a badge shows."""

    word: str
    icon: str
    tone: Tone


LOOKS: dict[str, dict[str, Look]] = {
    "project": {
        "planning": Look("Planning", "drafting-compass", "active"),
        "demo": Look("Demo", "monitor-play", "active"),
        "building": Look("Building", "loader-circle", "active"),
        "complete": Look("Delivered", "circle-check", "done"),
        "paused": Look("Paused", "circle-pause", "hold"),
        "archived": Look("Archived", "archive", "quiet"),
        "cancelled": Look("Cancelled", "ban", "quiet"),
    },
    "plan": {
        "proposed": Look("Needs you", "hand", "wait"),
        "active": Look("Active", "circle-check", "done"),
        "amended": Look("Amended", "pencil", "quiet"),
        "rejected": Look("Rejected", "circle-x", "bad"),
        "superseded": Look("Superseded", "archive", "quiet"),
    },
    "task": {
        "pending": Look("To do", "circle-dashed", "quiet"),
        "ready": Look("Ready", "circle", "quiet"),
        "allocated": Look("Starting", "hourglass", "active"),
        "in_progress": Look("Running", "loader-circle", "active"),
        "review": Look("Checking", "git-merge", "active"),
        "completed": Look("Done", "circle-check", "done"),
        "blocked": Look("Blocked", "hand", "wait"),
        "failed": Look("Failed", "circle-x", "bad"),
        "cancelled": Look("Cancelled", "ban", "quiet"),
    },
    "run": {
        "queued": Look("Queued", "clock", "quiet"),
        "starting": Look("Starting", "hourglass", "active"),
        "running": Look("Running", "loader-circle", "active"),
        "evaluating": Look("Checking", "flask-conical", "active"),
        "merging": Look("Merging", "git-merge", "active"),
        "succeeded": Look("Succeeded", "circle-check", "done"),
        "failed": Look("Failed", "circle-x", "bad"),
        "lost": Look("Lost", "wifi-off", "bad"),
        "cancelled": Look("Stopped", "ban", "quiet"),
        "over_budget": Look("Over budget", "wallet", "bad"),
    },
    "agent": {
        "spawn": Look("New", "circle-dashed", "quiet"),
        "init": Look("Setting up", "hourglass", "quiet"),
        "ready": Look("Free", "circle", "quiet"),
        "working": Look("Working", "loader-circle", "active"),
        "complete": Look("Finished", "circle-check", "done"),
        "paused": Look("Paused", "circle-pause", "hold"),
        "checkpoint": Look("Saving", "archive", "active"),
        "blocked": Look("Blocked", "hand", "wait"),
        "failed": Look("Failed", "circle-x", "bad"),
        "terminated": Look("Left", "circle-slash", "quiet"),
    },
    "demo": {
        "building": Look("Starting", "loader-circle", "active"),
        "ready": Look("Needs you", "hand", "wait"),
        "approved": Look("Approved", "circle-check", "done"),
        "changes_requested": Look("Changes asked", "pencil", "hold"),
        "rejected": Look("Rejected", "circle-x", "bad"),
        "expired": Look("Expired", "clock", "quiet"),
    },
    "approval": {
        "pending": Look("Needs you", "hand", "wait"),
        "approved": Look("Approved", "circle-check", "done"),
        "rejected": Look("Rejected", "circle-x", "bad"),
        "amended": Look("Amended", "pencil", "hold"),
        "expired": Look("Expired", "clock", "quiet"),
        "escalated": Look("Escalated", "arrow-up-right", "wait"),
    },
    "webhook": {
        "active": Look("Active", "circle-check", "done"),
        "disabled": Look("Disabled", "circle-slash", "hold"),
    },
    "delivery": {
        "pending": Look("Waiting", "clock", "active"),
        "failed": Look("Retrying", "rotate-ccw", "wait"),
        "delivered": Look("Delivered", "circle-check", "done"),
        "dead": Look("Given up", "circle-x", "bad"),
    },
    "execution": {
        "running": Look("Running", "loader-circle", "active"),
        "paused": Look("Paused", "circle-pause", "hold"),
        "completed": Look("Done", "circle-check", "done"),
        "failed": Look("Failed", "circle-x", "bad"),
        "cancelled": Look("Cancelled", "ban", "quiet"),
    },
    "node": {
        "pending": Look("Waiting", "circle-dashed", "quiet"),
        "held": Look("Held", "circle-pause", "hold"),
        "ready": Look("Ready", "circle", "quiet"),
        "running": Look("Running", "loader-circle", "active"),
        "completed": Look("Done", "circle-check", "done"),
        "failed": Look("Failed", "circle-x", "bad"),
        "skipped": Look("Skipped", "circle-slash", "quiet"),
        "cancelled": Look("Cancelled", "ban", "quiet"),
    },
    "worker": {
        "online": Look("Online", "circle-check", "done"),
        "busy": Look("Busy", "loader-circle", "active"),
        "draining": Look("Draining", "hourglass", "hold"),
        "offline": Look("Offline", "wifi-off", "bad"),
        "error": Look("Error", "circle-alert", "bad"),
    },
}

ROLE_ICONS: dict[str, str] = {
    "orchestrator": "network",
    "architect": "drafting-compass",
    "pm": "clipboard-list",
    "developer": "code-xml",
    "tester": "flask-conical",
    "qa": "badge-check",
    "uat": "smile",
    "sre": "rocket",
    "monitor": "activity",
    "mentor": "graduation-cap",
}

APPROVAL_ICONS: dict[str, str] = {
    "plan": "network",
    "demo": "monitor-play",
    "question": "circle-help",
    "blocked_task": "hand",
    "budget": "wallet",
}


def look(machine: str, state: str) -> Look:
    """Return how `state` of `machine` ("project", "task", …) is shown. KeyError for an unknown one."""
    return LOOKS[machine][state]
