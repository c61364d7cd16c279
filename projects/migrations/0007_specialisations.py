from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('projects', '0006_workflows'),
    ]

    operations = [
        migrations.AddField(
            model_name='squadmember',
            name='specialisation',
            field=models.SlugField(blank=True, db_index=False, help_text='Narrows all agents of this role; given under Roles in the portal.', max_length=40),
        ),
        migrations.AddField(
            model_name='task',
            name='specialisation',
            field=models.SlugField(blank=True, db_index=False, help_text='Narrows whoever works on it.', max_length=40),
        ),
    ]
