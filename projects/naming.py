"""Names that the platform gives to projects: two of one brief are told apart by a number."""

from uuid import UUID

from django.db import connection
from django.db.models import Q

from projects.models import Project

# Any constant that no other class of advisory locks has. The second key is the name's.
_LOCK_CLASS = 0x6E616D65
_ROOM = 240


def free_name(name: str, *, project_id: UUID | None = None) -> str:
    """Return a name that no other project has: this one, else with a number, as "Bakery (2)".

    The name stays free until the transaction ends: whoever wants the same one meanwhile waits for that. Names that
    people choose are not changed; they only count as taken.
    """
    base = name[:_ROOM]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [_LOCK_CLASS, base])
    alike = Project.objects.filter(Q(name=base) | Q(name__startswith=f"{base} ("))
    taken = {name for pk, name in alike.values_list("pk", "name") if pk != project_id}
    if base not in taken:
        return base
    return next(found for number in range(2, len(taken) + 3) if (found := f"{base} ({number})") not in taken)
