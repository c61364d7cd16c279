from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0019_program_times'),
    ]

    operations = [
        migrations.CreateModel(
            name='Pulse',
            fields=[
                ('id', models.PositiveSmallIntegerField(default=1, editable=False, primary_key=True, serialize=False)),
                ('since', models.DateTimeField()),
                ('seen_at', models.DateTimeField()),
            ],
            options={
                'verbose_name_plural': 'pulse',
                'constraints': [models.CheckConstraint(condition=models.Q(('id', 1)), name='pulse_one_row'), models.CheckConstraint(condition=models.Q(('since__lte', models.F('seen_at'))), name='pulse_in_order')],
            },
        ),
    ]
