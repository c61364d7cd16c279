"""Nodes have a lane, by which claims are fair between projects.

A constant that the database keeps as the column's default: no row is written, however many there are.
"""

import uuid

from django.db import migrations, models

NO_PROJECT = uuid.UUID(int=2**128 - 1)


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
    ]
