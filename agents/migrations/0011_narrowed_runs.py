from django.db import migrations, models

# Runs that work while this is applied keep what their agent had when they began.
KEEP = """
UPDATE agents_run r SET specialisations = jsonb_build_array(a.specialisation) FROM agents_agent a
WHERE a.id = r.agent_id AND a.specialisation <> '' AND r.finished_at IS NULL
"""


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0010_upkeep_of_hot_tables'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='max_turns',
            field=models.PositiveIntegerField(blank=True, help_text="Model requests; empty: its squad's row.", null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='specialisations',
            field=models.JSONField(blank=True, default=list, help_text="What narrows its role: of its squad's row, its agent and its task."),
        ),
        migrations.RunSQL(KEEP, migrations.RunSQL.noop),
    ]
