"""The remote worker's own addresses: it joins, beats and leaves. Each answers the key that the worker joined with."""

import math
import os
from collections.abc import Iterator
from typing import Any, BinaryIO, ClassVar
from uuid import UUID

from django.conf import settings
from django.http import Http404, StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.scopes import Scope
from agents.actions import remote
from agents.actions.workers import Registration
from agents.errors import ReportRefused
from agents.machine import Reading
from agents.models import Run, Worker
from agents.remote import files
from agents.runtimes.answering import MOST_CHARACTERS
from agents.worker.server import PIECE_BYTES as MOST_PIECE_BYTES
from projects import permissions
from projects.api.views import ProjectsApi
from projects.errors import NotAllowed
from projects.web import streamed

JOIN = Scope.WORKERS_JOIN
HEARTBEAT_S = 5
_MACHINE_ID = r"^[0-9a-f]{32}$"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_MOST_RUNS = 1_000
_REQUEST = r"^[0-9a-f]{32}$"
_BLOCK_BYTES = 2**18


class JoiningSerializer(serializers.Serializer[Any]):
    """What a machine says of itself when it joins."""

    machine_id = serializers.RegexField(_MACHINE_ID)
    machine_name = serializers.RegexField(_NAME, max_length=100)
    runtime = serializers.ChoiceField(["docker", "local"])
    capacity = serializers.IntegerField(min_value=1, max_value=500)
    available_tools = serializers.ListField(child=serializers.RegexField(r"^[a-z_]+$", max_length=40), max_length=50)
    cpus = serializers.IntegerField(min_value=1, max_value=100_000)
    memory_mb = serializers.IntegerField(min_value=1, max_value=10**9)
    platform = serializers.CharField(max_length=200)
    weaknesses = serializers.ListField(child=serializers.CharField(max_length=1_000), max_length=20, required=False)


class JoinedSerializer(serializers.Serializer[Any]):
    """What it is told: who it is now, how often to beat, and where the agents' doors are."""

    worker_id = serializers.UUIDField()
    name = serializers.CharField()
    trust = serializers.CharField()
    heartbeat_seconds = serializers.IntegerField()
    gateway_port = serializers.IntegerField()
    egress_port = serializers.IntegerField()


class ReadingSerializer(serializers.Serializer[Any]):
    """How the machine is: percent of all cores, and megabytes (2^20 bytes). `runtime_problem`: why what runs agents
    there does not answer, in a sentence; empty when it does. `disk_promised_mb`: how much of what is free its sandboxes
    may still take; null where nothing is promised to them."""

    cpu_percent = serializers.FloatField(min_value=0, max_value=100)
    memory_free_mb = serializers.IntegerField(min_value=0, max_value=10**9)
    memory_mb = serializers.IntegerField(min_value=1, max_value=10**9)
    disk_free_mb = serializers.IntegerField(min_value=0, max_value=10**12)
    disk_promised_mb = serializers.IntegerField(
        min_value=0, max_value=10**12, allow_null=True, required=False, default=None
    )
    runtime_problem = serializers.CharField(max_length=MOST_CHARACTERS, allow_blank=True, required=False, default="")

    def validate_cpu_percent(self, value: float) -> float:
        """Refuse what JSON calls a number and PostgreSQL does not."""
        if not math.isfinite(value):
            raise serializers.ValidationError("This is no number.")
        return value


class HeartbeatSerializer(serializers.Serializer[Any]):
    """A heartbeat. `running`: the runs that it has; `status` is "stopping" once it is asked to end."""

    timestamp = serializers.DateTimeField()
    status = serializers.ChoiceField(["online", "stopping"], default="online")
    resources = ReadingSerializer()
    running = serializers.ListField(child=serializers.UUIDField(), max_length=_MOST_RUNS, required=False)


class HeardSerializer(serializers.Serializer[Any]):
    """The answer to a heartbeat. `unwanted`: runs that it is to end, as they are not its own or not any more."""

    status = serializers.CharField()
    unwanted = serializers.ListField(child=serializers.UUIDField())


def joined(view: ProjectsApi, request: Request) -> Response:
    """Let a machine join. The key's owner must be an admin: its machine gets to see projects."""
    _check_owner(view, Worker.objects.filter(key=view.key).first() if view.key else None)
    if view.key is None:
        raise PermissionDenied("A remote worker joins with an API key that has the scope workers:join.")
    sent = view.read(JoiningSerializer)
    facts = {name: sent[name] for name in ("cpus", "memory_mb", "platform")}
    given = Registration(
        name=sent["machine_name"],
        queue="",
        capacity=sent["capacity"],
        runtime=sent["runtime"],
        machine_id=sent["machine_id"],
        tools=sorted(set(sent["available_tools"])),
        info=facts | {"isolated": sent["runtime"] == "docker", "weaknesses": sent.get("weaknesses", [])},
    )
    worker = remote.join(given, key=view.key, now=timezone.now())
    told = {
        "worker_id": worker.pk,
        "name": worker.name,
        "trust": worker.trust,
        "heartbeat_seconds": HEARTBEAT_S,
        "gateway_port": settings.EKLAVYA_GATEWAY_PORT,
        "egress_port": settings.EKLAVYA_EGRESS_PORT,
    }
    return Response(JoinedSerializer(told).data, status=201)


def _check_owner(view: ProjectsApi, known: Worker | None) -> None:
    """Raise NotAllowed unless the key's owner is an admin; of a worker that is known, that is recorded."""
    try:
        permissions.check_can_administer(view.user)
    except NotAllowed as why:
        if known is not None:
            remote.refuse(known, "owner_is_no_admin", str(why), now=timezone.now())
        raise


class OfWorker(ProjectsApi):
    """What the addresses share that a remote worker calls: nobody but the holder of its key is that worker."""

    serializer_class = HeartbeatSerializer

    def mine(self) -> Worker:
        """Return the worker that the request's key joined as. Raises Http404, NotAllowed.

        Asked at each request, as when it joined: the key acts as its owner, who may be an admin no more.
        """
        found = worker_of_key(self, self.kwargs.get("worker_id"))
        _check_owner(self, found)
        return found


def worker_of_key(view: ProjectsApi, worker_id: UUID | None = None) -> Worker:
    """Return the worker, or the only one, that joined with the request's key. Raises Http404."""
    rows = Worker.objects.filter(key=view.key) if view.key else Worker.objects.none()
    found = (rows.filter(pk=worker_id) if worker_id else rows.order_by("-heartbeat_at")).first()
    if found is None:
        raise Http404("No worker joined with this key, or it is another one.")
    return found


class Heartbeat(OfWorker):
    """A heartbeat."""

    scopes: ClassVar = {"POST": JOIN}

    @extend_schema(request=HeartbeatSerializer, responses={200: HeardSerializer})
    def post(self, request: Request, worker_id: UUID) -> Response:
        """Say that the machine is there and how it is, and learn what is not wanted any more."""
        worker, now = self.mine(), timezone.now()
        sent = self.read(HeartbeatSerializer)
        reading = Reading(**sent["resources"])
        unwanted = remote.beat(worker, reading, running=sent.get("running", []), said_at=sent["timestamp"], now=now)
        if sent["status"] == "stopping":
            remote.stop(worker, now=now)
        worker.refresh_from_db(fields=["status"])
        return Response(HeardSerializer({"status": worker.status, "unwanted": unwanted}).data)


class Bytes(BaseParser):
    """A body as it is."""

    media_type = "application/octet-stream"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        """Read no more than one byte above the limit: who gets so much refuses it."""
        return stream.read(MOST_PIECE_BYTES + 1)


class PieceSerializer(serializers.Serializer[Any]):
    """Which piece of a run's files this is."""

    request = serializers.RegexField(_REQUEST)
    offset = serializers.IntegerField(min_value=0)


class ResultSerializer(serializers.Serializer[Any]):
    """That all files of a run were sent; with 0 bytes that there are none."""

    request = serializers.RegexField(_REQUEST)
    bytes = serializers.IntegerField(min_value=0)
    sha256 = serializers.RegexField(r"^[0-9a-f]{64}$", required=False, default="")


class OfRun(OfWorker):
    """What the addresses of one run share that a worker has. The protocol calls it a subtask."""

    def run(self) -> Run:
        """Return the run, if the request's worker has it. Raises Http404, ReportRefused."""
        return remote.run_of(self.mine(), self.kwargs["run_id"], now=timezone.now())

    def refused(self, run: Run, reason: str, why: Exception) -> ReportRefused:
        """Record that files were not taken, and return the error that says so."""
        assert run.worker is not None
        return remote.refuse(run.worker, reason, str(why), now=timezone.now(), run=run.pk)


class RunFiles(OfRun):
    """The files of a run: there as it begins, and back as it ends."""

    scopes: ClassVar = {"GET": JOIN, "PUT": JOIN}
    parser_classes = (Bytes,)

    @extend_schema(operation_id="run_files_get", responses={(200, "application/gzip"): OpenApiTypes.BINARY})
    def get(self, request: Request, run_id: UUID) -> StreamingHttpResponse:
        """Get the directories of a run as an archive, which was packed once as it began."""
        run = self.run()
        try:
            file = files.given(run.pk).open("rb")
        except files.NotTaken as why:
            raise self.refused(run, "files_not_given", why) from why
        response = StreamingHttpResponse(streamed(_blocks(file)), content_type="application/gzip")
        response["Content-Length"] = str(os.fstat(file.fileno()).st_size)
        return response

    @extend_schema(parameters=[PieceSerializer], request=OpenApiTypes.BINARY, responses={200: None})
    def put(self, request: Request, run_id: UUID) -> Response:
        """Send a piece of what the server asked for."""
        run = self.run()
        asked = PieceSerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        sent = asked.validated_data
        piece: Any = request.data
        try:
            if len(piece) > MOST_PIECE_BYTES:
                raise files.NotTaken(f"A piece has at most {MOST_PIECE_BYTES:,} bytes.")
            have = files.take_piece(run.pk, sent["request"], sent["offset"], piece)
        except files.NotTaken as why:
            raise self.refused(run, "files_not_taken", why) from why
        return Response({"bytes": have})


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while block := file.read(_BLOCK_BYTES):
            yield block


class RunResult(OfRun):
    """The end of a run on its worker."""

    scopes: ClassVar = {"POST": JOIN}

    @extend_schema(request=ResultSerializer, responses={200: None})
    def post(self, request: Request, run_id: UUID) -> Response:
        """Say that all files that the server asked for were sent, or that there are none."""
        run, sent = self.run(), self.read(ResultSerializer)
        try:
            files.complete(run.pk, sent["request"], total=sent["bytes"], sha256=sent["sha256"])
        except files.NotTaken as why:
            raise self.refused(run, "result_not_taken", why) from why
        return Response({})
