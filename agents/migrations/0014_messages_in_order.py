import django.db.models.deletion
from django.db import migrations, models

# In the order in which their ids were made. What nobody has read yet, and all that came after it, is read again.
FILL = """
UPDATE agents_message message SET seq = numbered.seq
FROM (SELECT id, row_number() OVER (PARTITION BY project_id ORDER BY id) AS seq FROM agents_message) numbered
WHERE numbered.id = message.id;
INSERT INTO agents_messagecounter (project_id, last_seq)
SELECT project_id, max(seq) FROM agents_message GROUP BY project_id;
UPDATE agents_agent agent SET inbox_seq = read.up_to
FROM (SELECT project_id, coalesce(min(seq) FILTER (WHERE read_at IS NULL) - 1, max(seq)) AS up_to
    FROM agents_message GROUP BY project_id) read
WHERE read.project_id = agent.project_id;
SET CONSTRAINTS ALL IMMEDIATE;
"""


class Migration(migrations.Migration):

    dependencies = [
        ("agents", "0013_recoveries"),
        ("projects", "0006_workflows"),
    ]

    operations = [
        migrations.CreateModel(
            name="MessageCounter",
            fields=[
                (
                    "project",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="projects.project",
                    ),
                ),
                ("last_seq", models.PositiveBigIntegerField(default=0)),
            ],
        ),
        migrations.RemoveIndex(model_name="message", name="message_unread"),
        migrations.AddField(
            model_name="agent",
            name="inbox_seq",
            field=models.PositiveBigIntegerField(default=0, help_text="Messages up to this number count as read."),
        ),
        migrations.AddField(
            model_name="run",
            name="inbox_seq",
            field=models.PositiveBigIntegerField(default=0, help_text="Up to which message it has read."),
        ),
        migrations.AddField(model_name="message", name="seq", field=models.PositiveBigIntegerField(null=True)),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.AlterField(
            model_name="message",
            name="seq",
            field=models.PositiveBigIntegerField(help_text="Its number in the project. Some may be missing."),
        ),
        migrations.AddConstraint(
            model_name="message",
            constraint=models.UniqueConstraint(fields=("project", "seq"), name="message_seq_once"),
        ),
    ]
