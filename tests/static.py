"""Static files in the test client, without an event loop for each request.

The product's middleware is for ASGI servers alone. In the test client, which is synchronous, Django begins and ends an
event loop around it for each page, and changes threads three times: more than most pages cost themselves.
"""

from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.http import HttpRequest
from servestatic.middleware import ServeStaticMiddleware, is_async_callable


class StaticFiles(ServeStaticMiddleware):
    """The product's. Where all around it is synchronous, an event loop has only what it serves itself."""

    sync_capable = True

    def __init__(self, get_response: Any) -> None:
        self._next = None if is_async_callable(get_response) else get_response
        super().__init__(sync_to_async(get_response) if self._next else get_response)
        if self._next:
            del self._is_coroutine  # Django would take it for asynchronous

    def __call__(self, request: HttpRequest) -> Any:
        if self._next is None:
            return super().__call__(request)
        if self.autorefresh or settings.DEBUG or request.path_info in self.files:
            return async_to_sync(super().__call__)(request)
        return self._next(request)
