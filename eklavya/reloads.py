"""A page that was the answer to a form is asked for once more: by its address, or after a sign-in in between."""

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction

from django.http import HttpRequest, HttpResponseBase, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import Resolver404, resolve
from django.utils.decorators import sync_and_async_middleware

Answer = HttpResponseBase | Awaitable[HttpResponseBase]


@sync_and_async_middleware
def middleware(get_response: Callable[[HttpRequest], Answer]) -> Callable[[HttpRequest], Answer]:
    """Send a browser that asks for an address which only takes forms to the nearest page above it."""
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            return _instead(request, await get_response(request))

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        return _instead(request, get_response(request))  # type: ignore[arg-type]

    return answer


def _instead(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    is_page = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
    if is_page and isinstance(response, HttpResponseNotAllowed) and not response.content:
        return HttpResponseRedirect(_above(request.path))
    return response


def _above(path: str) -> str:
    """Return the nearest address above that is one; if it takes only forms too, the browser comes again from there."""
    while path != "/":
        path = path.rstrip("/").rpartition("/")[0] + "/"
        try:
            resolve(path)
        except Resolver404:
            continue
        return path
    return path
