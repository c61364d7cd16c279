"""What every address of the API shares: scopes by method, and a key's project as a limit to what it sees."""

from typing import Any, ClassVar, TypeVar
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from rest_framework.pagination import CursorPagination
from rest_framework.views import APIView

from accounts.models import ApiKey
from accounts.scopes import Scope

M = TypeVar("M", bound=Model)


class ScopedView(APIView):
    """An address whose `scopes` say what a key must have for each method."""

    scopes: ClassVar[dict[str, Scope]] = {}

    def of_key(self, rows: QuerySet[M], field: str = "project_id") -> QuerySet[M]:
        """Return the rows that the request's key may see: those of its project, where it has one."""
        project_id = self.key_project
        return rows if project_id is None else rows.filter(**{field: project_id})

    @property
    def user(self) -> User:
        """The person who acts, or whose key does."""
        assert isinstance(self.request.user, User)
        return self.request.user

    @property
    def key(self) -> ApiKey | None:
        """The request's key; None for a person's session."""
        return self.request.auth if isinstance(self.request.auth, ApiKey) else None

    @property
    def key_project(self) -> UUID | None:
        """The project that the request is limited to."""
        return self.key.project_id if self.key else None


class NewestFirst(CursorPagination):
    """Pages by key, which for our ids is by time: as cheap far back as in front, and new rows shift nothing."""

    ordering: Any = "-id"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200
