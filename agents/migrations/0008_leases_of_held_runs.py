from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0007_run_events_only_grow'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='run',
            name='run_leases',
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('status__in', ['evaluating', 'merging', 'queued', 'running', 'starting'])), fields=['lease_until'], name='run_leases'),
        ),
    ]
