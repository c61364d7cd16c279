from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("projects", "0002_clients")]

    operations = [
        migrations.AddField(
            model_name="squadmember",
            name="fallback_model",
            field=models.CharField(
                blank=True, default="", help_text="Asked where the model is overloaded for long. Empty: none.", max_length=100
            ),
            preserve_default=False,
        ),
    ]
