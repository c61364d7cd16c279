"""Pages of the whole: signing in by link, and the style guide."""

from allauth.account.utils import perform_login
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from eklavya.login_links import find_user
from eklavya.styleguide import context
from projects.web import PageRequest


@login_not_required
@never_cache
@require_http_methods(["GET", "POST"])
def login_link(request: HttpRequest, token: str) -> HttpResponse:
    """GET shows a button, POST signs in and uses the link up."""
    user = find_user(token)
    if user is None:
        return render(request, "registration/login_link_dead.html", status=410)
    if request.method != "POST":
        return render(request, "registration/login_link.html")
    # Through allauth, which asks for the second factor where the person has one.
    answer: HttpResponse = perform_login(request, user)
    return answer


@require_GET
def styleguide(request: PageRequest) -> HttpResponse:
    """Every component once. For those who work on the portal: admins, and everybody with EKLAVYA_DEBUG."""
    if not (settings.DEBUG or request.user.is_superuser):
        raise Http404
    return render(request, "styleguide.html", context(timezone.now()))


@require_GET
def settings_start(request: PageRequest) -> HttpResponse:
    """Go to the first page of the settings."""
    return redirect("mfa_index")
