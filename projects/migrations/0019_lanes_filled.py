"""Nodes from before have their project's lane, and lanes an index, while runners go on.

Outside a transaction: each batch is committed by itself, and holds the rows of its executions, in the order in which
all lock them, for a moment. What was broken off half-way is run again from the start.
"""

import uuid

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

NO_PROJECT = uuid.UUID(int=2**128 - 1)
BATCH = 10_000

# Of nodes that are over too: they can be done anew.
FILL = """
WITH held AS MATERIALIZED (
  SELECT e.id, e.project_id FROM projects_execution e
  WHERE e.project_id IS NOT NULL AND EXISTS (
    SELECT FROM projects_executionnode n
    WHERE n.execution_id = e.id AND n.id > %(after)s AND n.id <= %(upto)s AND n.lane = %(none)s
  )
  ORDER BY e.id FOR NO KEY UPDATE
)
UPDATE projects_executionnode n SET lane = held.project_id FROM held
WHERE n.execution_id = held.id AND n.id > %(after)s AND n.id <= %(upto)s AND n.lane = %(none)s
"""


def fill(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM projects_executionnode")
        first, last = cursor.fetchone()
        # Nodes that are made meanwhile by runners from before come behind `last`: they stay in the lane of no project.
        for after in range(first - 1, last, BATCH):
            cursor.execute(FILL, {"after": after, "upto": after + BATCH, "none": NO_PROJECT})


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("projects", "0018_lanes_of_nodes"),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
        # One that was broken off leaves an index that is not valid.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS node_claim_by_lane", migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name="executionnode",
            index=models.Index(
                condition=models.Q(("kind", "function"), ("status", "ready")),
                fields=["lane", "rank_at", "id"],
                name="node_claim_by_lane",
            ),
        ),
    ]
