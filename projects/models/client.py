"""Who the work is for."""

import pgtrigger
from django.db import models
from django.db.models.functions import Lower

from projects.ids import new_id


class Client(models.Model):
    """A customer of the house, known by a name; upper and lower case do not tell two apart.

    Nobody makes one by hand: `Project.client_name` is what people type, and a trigger keeps `Project.client` in step
    with it, so that no way of naming a client can forget the row that carries the client's budget.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=255)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(Lower("name"), name="client_name_once")]

    def __str__(self) -> str:
        return self.name


def follow_name() -> pgtrigger.Trigger:
    """Return the trigger that finds or makes the client whom `client_name` names; an empty name is nobody's."""
    return pgtrigger.Trigger(
        name="project_follow_client_name",
        operation=pgtrigger.Insert | pgtrigger.UpdateOf("client_name"),  # type: ignore[no-untyped-call]
        when=pgtrigger.Before,
        func="""
            NEW.client_id := NULL;
            IF NEW.client_name <> '' THEN
                INSERT INTO projects_client (id, name, created_at)
                VALUES (
                    -- A UUIDv7, as `projects.ids` makes them: 48 bits of milliseconds, the version, and what a random
                    -- UUID has after its own version. Older servers than 18 have no uuidv7().
                    (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
                     || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid,
                    NEW.client_name, NEW.created_at
                ) ON CONFLICT DO NOTHING;
                SELECT id INTO STRICT NEW.client_id FROM projects_client WHERE lower(name) = lower(NEW.client_name);
            END IF;
            RETURN NEW;
        """,
    )
