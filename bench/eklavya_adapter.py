"""Eklavya in the harness that measures engines of graphs side by side (`bench/graphs.py` runs it).

Nodes are run by two Celery workers in processes of their own; the harness's process only starts executions and is told
of their end. Nothing is set up that an installation has not: the product's settings, migrations, worker and statements.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
from engines.base import Adapter, wait_until  # of the harness

ROOT = Path(__file__).resolve().parents[1]
WORKERS = 2


class Eklavya(Adapter):
    needs = ("postgres", "redis")
    packages = ("Django", "celery", "psycopg")

    def start(self) -> None:
        own = {
            "DJANGO_SETTINGS_MODULE": "eklavya.settings",
            "DATABASE_URL": self.env.pg_dsn,
            "REDIS_URL": self.env.redis_url,
            "EKLAVYA_VAR": self.env.workdir + "/var",
            "EKLAVYA_ENV_FILE": "",
            "EKLAVYA_RUNTIME": "local",
            "EKLAVYA_ALLOW_LOCAL_RUNTIME": "true",
            "EKLAVYA_DB_POOL_SIZE": "0",
        }
        os.environ.update(own)
        paths = [str(ROOT), str(ROOT / "bench"), *sys.path]
        sys.path[:0] = paths[:2]
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        subprocess.run([sys.executable, "manage.py", "migrate", "--no-input", "-v0"], cwd=ROOT, check=True, timeout=120)
        for number in range(WORKERS):
            self.spawn(
                [
                    *(sys.executable, "-m", "celery", "-A", "eklavya", "worker", "-I", "bench.workflow_nodes"),
                    *("-c", "2", "-n", f"bench{number}@%h", "-l", "INFO", "--without-gossip", "--without-mingle"),
                ],
                f"worker{number}.log",
                cwd=ROOT,
            )
        import django

        django.setup()
        self._listening = psycopg.connect(self.env.pg_dsn, autocommit=True)
        self._listening.execute("LISTEN eklavya_done")
        self._ended: set[str] = set()
        self._workflows: dict[str, Any] = {}
        count = "SELECT count(*) FROM projects_runner r WHERE NOT pg_try_advisory_xact_lock(%s, r.id)"
        lock = 0x656B_6C77
        wait_until(lambda: self._listening.execute(count, [lock]).fetchone()[0] == WORKERS, 60, 0.02, "runners")

    def prepare(self, graph: Any) -> None:
        from projects.actions.workflows import save_workflow
        from projects.actors import Actor
        from projects.workflows.definition import Definition
        from projects.workflows.documents import Document

        if graph.shape in self._workflows:
            return
        nodes = [{"key": self._key(name), "function": "bench.node"} for name in graph.nodes]
        edges = [{"from": self._key(one), "to": self._key(two)} for one, two in graph.edges]
        definition = Definition.from_json({"nodes": nodes, "edges": edges})
        by, now = Actor.system("bench"), _now()
        document = Document(graph.shape, graph.shape, "", definition)
        self._workflows[graph.shape] = save_workflow(document, by=by, now=now)

    @staticmethod
    def _key(name: str) -> str:
        return name.replace("_", "-")

    def submit(self, graph: Any, key: str) -> str:
        return self.submit_many(graph, [key])[0]

    def submit_many(self, graph: Any, keys: list[str]) -> list[str]:
        from projects.actions.workflows import Start, start_executions
        from projects.actors import Actor

        starts = [Start(key) for key in keys]
        made = start_executions(self._workflows[graph.shape], starts, by=Actor.system("bench"), now=_now())
        return [str(pk) for pk in made]

    def resume(self, graph: Any, key: str) -> str:
        """Nothing has to be done by hand: the new workers have taken it up already. By its key it is only found."""
        handle = self.submit(graph, key)
        row = self._listening.execute("SELECT status FROM projects_execution WHERE id = %s", [handle]).fetchone()
        if row[0] == "completed":
            self._ended.add(handle)
        return handle

    def wait(self, handle: str, timeout: float = 110) -> None:
        deadline = time.monotonic() + timeout
        while handle not in self._ended:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(handle)
            for notice in self._listening.notifies(timeout=left, stop_after=1):
                self._ended.add(notice.payload)

    def node_times(self, handle: str) -> dict[str, int]:
        rows = self._listening.execute(
            "SELECT result->>'node', (result->>'t')::bigint FROM projects_executionnode "
            "WHERE execution_id = %s AND status = 'completed'",
            [handle],
        )
        return dict(rows.fetchall())

    def stop(self) -> None:
        self._listening.close()
        self.stop_processes()


def _now() -> Any:
    from django.utils import timezone

    return timezone.now()
