"""Addresses of the WebSockets."""

from django.urls import path

from agents.remote.consumers import WorkerSocket
from eklavya.consumers import Events, ProjectEvents

websocket_urlpatterns = [
    path("ws/events/", Events.as_asgi()),
    path("ws/projects/<uuid:project_id>/", ProjectEvents.as_asgi()),
    path("api/v1/ws/worker/<uuid:worker_id>", WorkerSocket.as_asgi()),
]
