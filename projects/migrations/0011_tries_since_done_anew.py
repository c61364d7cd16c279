from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("projects", "0010_forgotten_executions"),
    ]

    operations = [
        migrations.AddField(
            model_name="executionnode",
            name="attempts_before",
            field=models.PositiveSmallIntegerField(
                db_default=0,
                default=0,
                help_text="How many of those were before it was last done anew: its tries come after.",
            ),
        ),
    ]
