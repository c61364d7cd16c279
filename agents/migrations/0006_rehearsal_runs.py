"""Remember of each run whether the rehearsal model answered it. Of earlier ones nobody knows: they count as real."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("agents", "0005_specialisations")]

    operations = [
        migrations.AddField(
            model_name="run",
            name="rehearsal",
            field=models.BooleanField(
                default=False,
                help_text="Whether the rehearsal model answered when it was claimed: then nobody pays its cost.",
            ),
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                condition=Q(("rehearsal", False), ("started_at__isnull", False)), fields=["project"], name="run_real"
            ),
        ),
    ]
