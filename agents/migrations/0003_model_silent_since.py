from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0002_task_agent_foreign_key")]

    operations = [
        migrations.AddField(
            model_name="run",
            name="model_silent_since",
            field=models.DateTimeField(
                blank=True,
                help_text="Since when the model's API answers none of its requests; empty once it does.",
                null=True,
            ),
        ),
    ]
