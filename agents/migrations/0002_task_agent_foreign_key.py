from django.db import migrations


class Migration(migrations.Migration):
    """Tie `projects.Task.agent_id` to agents: projects is the lower app and cannot name the table itself."""

    dependencies = [("agents", "0001_initial")]

    operations = [
        migrations.RunSQL(
            sql="""
                ALTER TABLE projects_task
                    ADD CONSTRAINT projects_task_agent_fk FOREIGN KEY (agent_id)
                    REFERENCES agents_agent (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED;
                CREATE INDEX projects_task_agent ON projects_task (agent_id) WHERE agent_id IS NOT NULL;
            """,
            reverse_sql="""
                DROP INDEX projects_task_agent;
                ALTER TABLE projects_task DROP CONSTRAINT projects_task_agent_fk;
            """,
        ),
    ]
