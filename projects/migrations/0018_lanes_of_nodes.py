"""Nodes have a lane, by which claims are fair between projects."""

import uuid

from django.db import migrations, models

NO_PROJECT = uuid.UUID(int=2**128 - 1)
# Of those that are over too: they can be done anew.
FILL = """
UPDATE projects_executionnode n SET lane = e.project_id FROM projects_execution e
WHERE e.id = n.execution_id AND e.project_id IS NOT NULL
"""


class Migration(migrations.Migration):
    dependencies = [
        ("projects", "0017_plurals_in_the_admin"),
    ]

    operations = [
        migrations.AddField(
            model_name="executionnode",
            name="lane",
            field=models.UUIDField(
                db_default=NO_PROJECT,
                default=NO_PROJECT,
                help_text="Whose share of the queue it takes: its project's id.",
            ),
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.AddIndex(
            model_name="executionnode",
            index=models.Index(
                condition=models.Q(("kind", "function"), ("status", "ready")),
                fields=["lane", "rank_at", "id"],
                name="node_claim_by_lane",
            ),
        ),
    ]
