"""A remote worker's program, by hand."""

from typing import Any

from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiKey
from accounts.roles import AccountRole
from accounts.scopes import Scope
from agents.models import Worker
from projects.models import AuditLog
from tests.accounts.making import bearer, key_of, person

ABOUT = {
    "machine_id": "a" * 32,
    "machine_name": "far-away",
    "runtime": "local",
    "capacity": 2,
    "available_tools": ["claude_code", "local"],
    "cpus": 4,
    "memory_mb": 8_000,
    "platform": "Linux",
}
READING = {"cpu_percent": 12.5, "memory_free_mb": 4_000, "memory_mb": 8_000, "disk_free_mb": 50_000}


class Machine:
    """A remote worker's program, by hand."""

    def __init__(self, *scopes: Scope, role: AccountRole = AccountRole.ADMIN, **about: Any) -> None:
        self.key, text = key_of(person(role, username=f"u{ApiKey.objects.count()}"), *scopes, now=timezone.now())
        self.text = text
        self.client = Client(headers=bearer(text))
        self.about = ABOUT | about

    def join(self) -> Any:
        return self.client.post(reverse("api_workers"), self.about, content_type="application/json")

    @property
    def worker(self) -> Worker:
        found: Worker = Worker.objects.get(key=self.key)
        return found

    def beat(self, worker: Worker | None = None, **more: Any) -> Any:
        said = {"timestamp": timezone.now().isoformat(), "resources": READING} | more
        address = reverse("api_worker_heartbeat", args=[(worker or self.worker).pk])
        return self.client.post(address, said, content_type="application/json")

    def leave(self, worker: Worker) -> Any:
        return self.client.delete(reverse("api_worker", args=[worker.pk]))


def refusals() -> list[str]:
    rows = AuditLog.objects.filter(action="worker.report_refused").order_by("seq")
    return [row.details["reason"] for row in rows]
