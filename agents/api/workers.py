"""Workers for programs: who looks after machines sees them, and takes them out of use before it turns them off."""

from typing import Any, ClassVar
from uuid import UUID

from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.scopes import Scope
from agents import pages
from agents.actions import remote as remote_actions
from agents.actions import workers as actions
from agents.api import remote
from agents.models import Worker
from projects import permissions
from projects.api.views import ProjectsApi

READ, WRITE = Scope.WORKERS_READ, Scope.WORKERS_WRITE


class WorkerSerializer(serializers.ModelSerializer[Worker]):
    """A machine that executes runs. `running`: its runs now; `reason`: why it takes no new one, if it does not."""

    running = serializers.IntegerField(source="busy", read_only=True)

    class Meta:
        model = Worker
        fields = (
            "id",
            "name",
            "machine_id",
            "status",
            "reason",
            "cordoned_at",
            "capacity",
            "running",
            "runtime",
            "tools",
            "trust",
            "info",
            "load",
            "registered_at",
            "heartbeat_at",
        )


class WorkersApi(ProjectsApi):
    """What the addresses of workers share: they are the house's, and not for keys of one project."""

    serializer_class = WorkerSerializer

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if self.key_project is not None:
            raise PermissionDenied("This API key is for one project; workers are for all.")

    def worker(self) -> Worker:
        """Return the worker of the address. Raises Http404."""
        found = pages.workers().filter(pk=self.kwargs["worker_id"]).first()
        if found is None:
            raise Http404("There is no such worker.")
        return found


class Workers(WorkersApi):
    """All workers."""

    scopes: ClassVar = {"GET": READ, "POST": remote.JOIN}

    @extend_schema(operation_id="workers_list")
    def get(self, request: Request) -> Response:
        """List workers, newest first."""
        return self.page(pages.workers().order_by())

    @extend_schema(request=remote.JoiningSerializer, responses={201: remote.JoinedSerializer})
    def post(self, request: Request) -> Response:
        """Join as a remote worker, or join again."""
        return remote.joined(self, request)


class OneWorker(WorkersApi):
    """One worker."""

    @property
    def scopes(self) -> dict[str, Scope]:  # type: ignore[override]
        """A worker's own key signs it off; any other key needs the scope for taking machines out of use."""
        return {"GET": READ, "DELETE": remote.JOIN if self._is_by_itself() else WRITE}

    def _is_by_itself(self) -> bool:
        key = self.key
        return key is not None and Worker.objects.filter(pk=self.kwargs["worker_id"], key=key).exists()

    @extend_schema(operation_id="workers_get")
    def get(self, request: Request, worker_id: UUID) -> Response:
        """Show a worker."""
        return Response(self.get_serializer(self.worker()).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, worker_id: UUID) -> Response:
        """Forget a worker that is gone for good; or, with its own key, sign it off: it stopped."""
        if self._is_by_itself():
            remote_actions.leave(self.worker(), now=timezone.now())
            return Response(status=204)
        permissions.check_can_administer(self.user)
        actions.forget_worker(self.worker(), by=self.actor(), now=timezone.now())
        return Response(status=204)


class SteerWorker(WorkersApi):
    """A verb."""

    scopes: ClassVar = {"POST": WRITE}

    def step(self, found: Worker) -> None:
        """Do it."""
        raise NotImplementedError

    @extend_schema(request=None)
    def post(self, request: Request, worker_id: UUID) -> Response:
        """Do it, and show the worker as it is then."""
        permissions.check_can_administer(self.user)
        self.step(self.worker())
        return Response(self.get_serializer(self.worker()).data)


class CordonWorker(SteerWorker):
    """Have it take nothing new."""

    def step(self, found: Worker) -> None:
        """Cordon."""
        actions.cordon_worker(found, by=self.actor(), now=timezone.now())


class DrainWorker(SteerWorker):
    """Have it take nothing new, and others go on with its runs."""

    def step(self, found: Worker) -> None:
        """Drain."""
        actions.drain_worker(found, by=self.actor(), now=timezone.now())


class UncordonWorker(SteerWorker):
    """Let it take runs again."""

    def step(self, found: Worker) -> None:
        """Uncordon."""
        actions.uncordon_worker(found, by=self.actor(), now=timezone.now())
