"""Webhooks for programs: for admins, and their keys with the scopes of webhooks."""

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
from projects import permissions
from projects.actions import webhook_deliveries as deliveries
from projects.actions import webhooks as actions
from projects.api.views import ProjectsApi
from projects.models import Project, WebhookDelivery, WebhookEndpoint
from projects.webhooks.messages import SENT_TYPES
from projects.webhooks.targets import MAX_URL_CHARS

READ, WRITE = Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE


class WebhookSerializer(serializers.ModelSerializer[WebhookEndpoint]):
    """A webhook. Its secret is shown when it is added or rotated, and never again."""

    class Meta:
        model = WebhookEndpoint
        fields: tuple[str, ...] = (
            "id",
            "project_id",
            "url",
            "description",
            "events",
            "status",
            "reason",
            "failing_since",
            "old_secret_until",
            "created_at",
        )


class WebhookWithSecretSerializer(WebhookSerializer):
    """A webhook, and its signing secret, this once."""

    secret = serializers.CharField(read_only=True)

    class Meta(WebhookSerializer.Meta):
        fields = (*WebhookSerializer.Meta.fields, "secret")


class NewWebhookSerializer(serializers.Serializer[None]):
    """Where to send which events. No `events`: all types; no `project_id`: all projects."""

    url = serializers.CharField(max_length=MAX_URL_CHARS)
    description = serializers.CharField(
        max_length=actions.MAX_DESCRIPTION, required=False, default="", allow_blank=True
    )
    events = serializers.ListField(
        child=serializers.ChoiceField(choices=list(SENT_TYPES)), required=False, default=list, max_length=50
    )
    project_id = serializers.UUIDField(required=False, default=None, allow_null=True)


class ChangedWebhookSerializer(serializers.Serializer[None]):
    """What shall be different."""

    url = serializers.CharField(max_length=MAX_URL_CHARS, required=False)
    description = serializers.CharField(max_length=actions.MAX_DESCRIPTION, required=False, allow_blank=True)
    events = serializers.ListField(
        child=serializers.ChoiceField(choices=list(SENT_TYPES)), required=False, max_length=50
    )


class DeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    """One event for one webhook, and what the receiver said last."""

    class Meta:
        model = WebhookDelivery
        fields = (
            "id",
            "event_id",
            "event_seq",
            "event_type",
            "status",
            "attempts",
            "next_attempt_at",
            "last_attempt_at",
            "response_status",
            "response_excerpt",
            "problem",
            "duration_ms",
            "created_at",
            "delivered_at",
        )


class WebhooksApi(ProjectsApi):
    """What the addresses of webhooks share: only admins look, as an address may hold a key of the receiver's."""

    serializer_class: type[serializers.BaseSerializer[Any]] = WebhookSerializer

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        permissions.check_can_administer(self.user)

    def webhook(self) -> WebhookEndpoint:
        """Return the webhook of the address. Raises Http404."""
        found = self.of_key(WebhookEndpoint.objects.filter(pk=self.kwargs["webhook_id"])).first()
        if found is None:
            raise Http404("There is no such webhook.")
        return found

    def with_secret(self, endpoint: WebhookEndpoint, secret: str, *, status: int) -> Response:
        """Answer with a webhook and its new secret."""
        shown = {**WebhookSerializer(endpoint).data, "secret": secret}
        return Response(shown, status=status, headers={"Cache-Control": "no-store"})


class Webhooks(WebhooksApi):
    """All webhooks."""

    scopes: ClassVar = {"GET": READ, "POST": WRITE}

    @extend_schema(operation_id="webhooks_list")
    def get(self, request: Request) -> Response:
        """List webhooks, newest first."""
        return self.page(self.of_key(WebhookEndpoint.objects.all()))

    @extend_schema(request=NewWebhookSerializer, responses={201: WebhookWithSecretSerializer})
    def post(self, request: Request) -> Response:
        """Add a webhook. The answer shows its secret, this once."""
        sent = self.read(NewWebhookSerializer)
        wanted = actions.NewWebhook(
            sent["url"], sent["description"], sent["events"], self._project_of(sent["project_id"])
        )
        endpoint, secret = actions.add_webhook(wanted, by=self.actor(), now=timezone.now())
        return self.with_secret(endpoint, secret.get_secret_value(), status=201)

    def _project_of(self, project_id: UUID | None) -> Project | None:
        """Return the project, if any. Raises PermissionDenied for a key that is for another, ValidationError."""
        if self.key_project not in {None, project_id}:
            raise PermissionDenied("This API key is for one project: give its project_id.")
        if project_id is None:
            return None
        found = Project.objects.filter(pk=project_id).first()
        if found is None:
            raise serializers.ValidationError({"project_id": ["There is no such project."]})
        return found


class Webhook(WebhooksApi):
    """One webhook."""

    scopes: ClassVar = {"GET": READ, "PATCH": WRITE, "DELETE": WRITE}

    @extend_schema(operation_id="webhooks_get")
    def get(self, request: Request, webhook_id: UUID) -> Response:
        """Show a webhook."""
        return Response(self.get_serializer(self.webhook()).data)

    @extend_schema(request=ChangedWebhookSerializer)
    def patch(self, request: Request, webhook_id: UUID) -> Response:
        """Change its address, description or events."""
        sent = self.read(ChangedWebhookSerializer)
        changed = actions.change_webhook(self.webhook(), **sent, by=self.actor(), now=timezone.now())
        return Response(self.get_serializer(changed).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, webhook_id: UUID) -> Response:
        """Remove it, with its deliveries."""
        actions.remove_webhook(self.webhook(), by=self.actor(), now=timezone.now())
        return Response(status=204)


class EnableWebhook(WebhooksApi):
    """A verb."""

    scopes: ClassVar = {"POST": WRITE}

    @extend_schema(request=None)
    def post(self, request: Request, webhook_id: UUID) -> Response:
        """Send what happens from now on."""
        endpoint = actions.enable_webhook(self.webhook(), by=self.actor(), now=timezone.now())
        return Response(self.get_serializer(endpoint).data)


class DisableWebhook(WebhooksApi):
    """A verb."""

    scopes: ClassVar = {"POST": WRITE}

    @extend_schema(request=None)
    def post(self, request: Request, webhook_id: UUID) -> Response:
        """Send nothing any more."""
        endpoint = actions.disable_webhook(self.webhook(), by=self.actor(), now=timezone.now())
        return Response(self.get_serializer(endpoint).data)


class RotateWebhook(WebhooksApi):
    """A verb."""

    scopes: ClassVar = {"POST": WRITE}

    @extend_schema(request=None, responses=WebhookWithSecretSerializer)
    def post(self, request: Request, webhook_id: UUID) -> Response:
        """Make a new secret, shown this once; for a day the old one signs too."""
        secret = actions.rotate_secret(self.webhook(), by=self.actor(), now=timezone.now())
        return self.with_secret(self.webhook(), secret.get_secret_value(), status=200)


class TestWebhook(WebhooksApi):
    """A verb."""

    __test__ = False  # for pytest
    scopes: ClassVar = {"POST": WRITE}

    @extend_schema(request=None, responses={202: DeliverySerializer})
    def post(self, request: Request, webhook_id: UUID) -> Response:
        """Send an event of type webhook:test."""
        delivery = actions.send_test(self.webhook(), by=self.actor(), now=timezone.now())
        return Response(DeliverySerializer(delivery).data, status=202)


class Deliveries(WebhooksApi):
    """What was sent to a webhook."""

    scopes: ClassVar = {"GET": READ}
    serializer_class = DeliverySerializer

    def get(self, request: Request, webhook_id: UUID) -> Response:
        """List deliveries of the last 30 days, newest first."""
        return self.page(WebhookDelivery.objects.filter(endpoint=self.webhook()))


class Redeliver(WebhooksApi):
    """A verb."""

    scopes: ClassVar = {"POST": WRITE}
    serializer_class = DeliverySerializer

    @extend_schema(request=None, responses={202: DeliverySerializer})
    def post(self, request: Request, webhook_id: UUID, delivery_id: UUID) -> Response:
        """Send it again, at once."""
        found = WebhookDelivery.objects.filter(endpoint=self.webhook(), pk=delivery_id).first()
        if found is None:
            raise Http404("There is no such delivery.")
        again = deliveries.redeliver(found, by=self.actor(), now=timezone.now())
        return Response(self.get_serializer(again).data, status=202)
