import django.db.models.deletion
import pgtrigger.compiler
import pgtrigger.migrations
import projects.ids
from django.conf import settings
from django.db import migrations, models

from demos.migrations import _sql


class Migration(migrations.Migration):

    # Kept for databases that have some of them only: docs/adr/0018-squashed-migrations.md
    replaces = [
        ('demos', '0001_initial'),
        ('demos', '0002_build_needs_approved_demo'),
    ]

    initial = True

    dependencies = [
        ('projects', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Demo',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='demos', to='projects.project')),
                ('demo_number', models.PositiveIntegerField()),
                ('status', models.CharField(choices=[('building', 'Building'), ('ready', 'Ready'), ('approved', 'Approved'), ('changes_requested', 'Changes Requested'), ('rejected', 'Rejected'), ('expired', 'Expired')], default='building', max_length=20)),
                ('reason', models.CharField(blank=True, help_text='Machine-readable cause of the status.', max_length=64)),
                ('detail', models.TextField(blank=True, help_text='The cause, in words for people.')),
                ('commit', models.CharField(blank=True, max_length=40)),
                ('summary', models.TextField(blank=True)),
                ('token', models.CharField(help_text="The host name's secret part.", max_length=64, unique=True)),
                ('preview_url', models.URLField(max_length=300)),
                ('feedback', models.TextField(blank=True, help_text='What the decision said.')),
                ('sandbox', models.CharField(blank=True, help_text="Name of the preview's sandbox.", max_length=100)),
                ('address', models.CharField(blank=True, help_text='host:port of the application in it.', max_length=100)),
                ('created_at', models.DateTimeField()),
                ('ready_at', models.DateTimeField(blank=True, null=True)),
                ('approved_at', models.DateTimeField(blank=True, null=True)),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
                ('expires_at', models.DateTimeField()),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('sandbox', ''), _negated=True), fields=['expires_at'], name='demo_with_sandbox'), models.Index(fields=['project', '-created_at'], name='demo_of_project')],
                'constraints': [models.UniqueConstraint(fields=('project', 'demo_number'), name='demo_number_once'), models.UniqueConstraint(condition=models.Q(('status', 'approved')), fields=('project',), name='demo_one_approved'), models.CheckConstraint(condition=models.Q(models.Q(('status', 'approved'), _negated=True), models.Q(models.Q(('commit', ''), _negated=True), ('approved_at__isnull', False)), _connector='OR'), name='demo_approved_has_commit'), models.CheckConstraint(condition=models.Q(models.Q(('status', 'ready'), _negated=True), models.Q(models.Q(('commit', ''), _negated=True), ('ready_at__isnull', False)), _connector='OR'), name='demo_ready_has_commit')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='demo',
            trigger=pgtrigger.compiler.Trigger(name='demo_fsm', sql=pgtrigger.compiler.UpsertTriggerSql(declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{building:expired,building:ready,expired:building,ready:approved,ready:changes_requested,ready:expired,ready:rejected}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='0c7904780dbb166f12f35ec37c805c406e7efe61', operation='UPDATE', pgid='pgtrigger_demo_fsm_840c1', table='demos_demo', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='DemoFeedback',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('demo', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='remarks', to='demos.demo')),
                ('user', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('body', models.TextField()),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['demo', 'created_at'], name='demo_feedback_of_demo')],
            },
        ),
        migrations.RunSQL(_sql.APPROVED_DEMO),
    ]
