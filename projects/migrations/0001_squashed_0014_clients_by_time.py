import django.contrib.postgres.fields
import django.core.serializers.json
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.text
import pgtrigger.compiler
import pgtrigger.migrations
import projects.ids
import projects.sealing
from decimal import Decimal
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    # Kept for databases that have some of them only: docs/adr/0018-squashed-migrations.md
    replaces = [
        ('projects', '0001_initial'),
        ('projects', '0002_clients'),
        ('projects', '0003_fallback_model'),
        ('projects', '0004_secrets'),
        ('projects', '0005_webhooks'),
        ('projects', '0006_workflows'),
        ('projects', '0007_specialisations'),
        ('projects', '0008_steps_of_workflows'),
        ('projects', '0009_executions_done_anew'),
        ('projects', '0010_forgotten_executions'),
        ('projects', '0011_tries_since_done_anew'),
        ('projects', '0012_money_has_no_default'),
        ('projects', '0013_lists_of_actors_and_finished_projects'),
        ('projects', '0014_clients_by_time'),
    ]

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Client',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=255)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(django.db.models.functions.text.Lower('name'), name='client_name_once')],
            },
        ),
        migrations.CreateModel(
            name='Project',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=255)),
                ('client_name', models.CharField(blank=True, max_length=255)),
                ('client', models.ForeignKey(blank=True, editable=False, help_text="Follows from the client's name.", null=True, on_delete=django.db.models.deletion.PROTECT, related_name='projects', to='projects.client')),
                ('description', models.TextField(help_text="The client's brief, as it was pasted.")),
                ('status', models.CharField(choices=[('planning', 'Planning'), ('demo', 'Demo'), ('building', 'Building'), ('complete', 'Complete'), ('paused', 'Paused'), ('archived', 'Archived'), ('cancelled', 'Cancelled')], default='planning', max_length=16)),
                ('status_reason', models.CharField(blank=True, help_text='Why, in a sentence for people.', max_length=500)),
                ('paused_from', models.CharField(blank=True, choices=[('planning', 'Planning'), ('demo', 'Demo'), ('building', 'Building'), ('complete', 'Complete'), ('paused', 'Paused'), ('archived', 'Archived'), ('cancelled', 'Cancelled')], max_length=16)),
                ('budget_limit', models.DecimalField(decimal_places=6, max_digits=14, validators=[django.core.validators.MinValueValidator(0)])),
                ('budget_spent', models.DecimalField(decimal_places=6, default=Decimal('0'), max_digits=14)),
                ('currency', models.CharField(default='USD', max_length=3)),
                ('config', models.JSONField(blank=True, default=dict)),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('created_at', models.DateTimeField()),
                ('completed_at', models.DateTimeField(blank=True, null=True)),
                ('approved_demo_id', models.UUIDField(blank=True, null=True)),
                ('approved_demo_commit', models.CharField(blank=True, max_length=40)),
                ('delivered_commit', models.CharField(blank=True, max_length=40)),
            ],
            options={
                'indexes': [models.Index(fields=['-created_at', '-id'], name='project_newest'), models.Index(fields=['status', '-created_at'], name='project_by_status'), models.Index(condition=models.Q(('completed_at__isnull', False)), fields=['-completed_at'], name='project_recently_finished')],
                'constraints': [models.CheckConstraint(condition=models.Q(('budget_limit__gte', 0), ('budget_spent__gte', 0)), name='project_money_not_negative'), models.CheckConstraint(condition=models.Q(models.Q(('status__in', ['building', 'complete']), _negated=True), models.Q(('approved_demo_id__isnull', False), models.Q(('approved_demo_commit', ''), _negated=True)), _connector='OR'), name='project_build_needs_approved_demo'), models.CheckConstraint(condition=models.Q(models.Q(('approved_demo_commit', ''), ('approved_demo_id__isnull', True)), models.Q(('approved_demo_id__isnull', False), models.Q(('approved_demo_commit', ''), _negated=True)), _connector='OR'), name='project_approved_demo_has_commit'), models.CheckConstraint(condition=models.Q(models.Q(('status', 'paused'), ('paused_from__in', ['building', 'demo', 'planning'])), models.Q(models.Q(('status', 'paused'), _negated=True), ('paused_from', '')), _connector='OR'), name='project_paused_knows_from_where'), models.CheckConstraint(condition=models.Q(models.Q(('status', 'complete'), _negated=True), models.Q(models.Q(('delivered_commit', ''), _negated=True), ('completed_at__isnull', False)), _connector='OR'), name='project_complete_has_delivery')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='project',
            trigger=pgtrigger.compiler.Trigger(name='project_fsm', sql=pgtrigger.compiler.UpsertTriggerSql(declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{building:cancelled,building:complete,building:paused,cancelled:archived,complete:archived,demo:building,demo:cancelled,demo:paused,paused:archived,paused:building,paused:cancelled,paused:demo,paused:planning,planning:cancelled,planning:demo,planning:paused}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='d4671225d8ad1740d7485a4863fef87c37e76401', operation='UPDATE', pgid='pgtrigger_project_fsm_e5372', table='projects_project', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='project',
            trigger=pgtrigger.compiler.Trigger(name='project_follow_client_name', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n            NEW.client_id := NULL;\n            IF NEW.client_name <> '' THEN\n                INSERT INTO projects_client (id, name, created_at)\n                VALUES (\n                    -- A UUIDv7, as `projects.ids` makes them: 48 bits of milliseconds, the version, and what a random\n                    -- UUID has after its own version. Older servers than 18 have no uuidv7().\n                    (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'\n                     || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid,\n                    NEW.client_name, NEW.created_at\n                ) ON CONFLICT DO NOTHING;\n                SELECT id INTO STRICT NEW.client_id FROM projects_client WHERE lower(name) = lower(NEW.client_name);\n            END IF;\n            RETURN NEW;\n        ", hash='1ac0f40057d6ed7c44135e546459ef94ae463194', operation='INSERT OR UPDATE OF "client_name"', pgid='pgtrigger_project_follow_client_name_f5289', table='projects_project', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='Squad',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='squad', to='projects.project')),
                ('max_concurrent_runs', models.PositiveSmallIntegerField(default=4, help_text='Runs of the project at once.')),
                ('created_at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='SquadMember',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('squad', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='members', to='projects.squad')),
                ('role', models.CharField(choices=[('orchestrator', 'Orchestrator'), ('architect', 'Architect'), ('pm', 'Product manager'), ('developer', 'Developer'), ('tester', 'Tester'), ('qa', 'QA'), ('uat', 'UAT'), ('sre', 'SRE'), ('monitor', 'Monitor'), ('mentor', 'Mentor')], max_length=32)),
                ('count', models.PositiveSmallIntegerField(default=1)),
                ('specialisation', models.SlugField(blank=True, db_index=False, help_text='Narrows all agents of this role; given under Roles in the portal.', max_length=40)),
                ('tool', models.CharField(default='claude_code', max_length=32)),
                ('model', models.CharField(max_length=100)),
                ('fallback_model', models.CharField(blank=True, help_text='Asked where the model is overloaded for long. Empty: none.', max_length=100)),
                ('prompt_version_id', models.UUIDField(blank=True, help_text='Pinned version; empty = the active.', null=True)),
                ('max_turns', models.PositiveIntegerField(default=60, help_text='Model requests per run.')),
                ('max_minutes', models.PositiveIntegerField(default=30, help_text='Wall-clock minutes per run.')),
                ('max_cost', models.DecimalField(decimal_places=4, default=Decimal('5'), help_text='Per run.', max_digits=10)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('squad', 'role'), name='squad_role_once'), models.CheckConstraint(condition=models.Q(('count__gte', 1)), name='squad_member_at_least_one'), models.CheckConstraint(condition=models.Q(('max_cost__gte', 0)), name='squad_member_cost_not_negative')],
            },
        ),
        migrations.CreateModel(
            name='Requirement',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='requirements', to='projects.project')),
                ('key', models.CharField(max_length=16)),
                ('position', models.PositiveIntegerField()),
                ('title', models.CharField(max_length=255)),
                ('body', models.TextField(blank=True)),
                ('acceptance_criteria', models.JSONField(default=list)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'ordering': [models.OrderBy(models.F('position'))],
                'constraints': [models.UniqueConstraint(fields=('project', 'key'), name='requirement_key_once'), models.UniqueConstraint(fields=('project', 'position'), name='requirement_position_once')],
            },
        ),
        migrations.CreateModel(
            name='Plan',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='plans', to='projects.project')),
                ('version', models.PositiveIntegerField()),
                ('status', models.CharField(choices=[('proposed', 'Proposed'), ('active', 'Active'), ('amended', 'Amended'), ('rejected', 'Rejected'), ('superseded', 'Superseded')], default='proposed', max_length=16)),
                ('summary', models.TextField(blank=True)),
                ('content', models.JSONField(help_text='[{key, title, description, role, depends_on, estimate_minutes, …}]')),
                ('created_at', models.DateTimeField()),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('project', 'version'), name='plan_version_once'), models.UniqueConstraint(condition=models.Q(('status', 'active')), fields=('project',), name='plan_one_active'), models.UniqueConstraint(condition=models.Q(('status', 'proposed')), fields=('project',), name='plan_one_proposed'), models.CheckConstraint(condition=models.Q(models.Q(('decided_at__isnull', True), ('status', 'proposed')), models.Q(models.Q(('status', 'proposed'), _negated=True), ('decided_at__isnull', False)), _connector='OR'), name='plan_decided_has_time')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='plan',
            trigger=pgtrigger.compiler.Trigger(name='plan_fsm', sql=pgtrigger.compiler.UpsertTriggerSql(declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{active:superseded,proposed:active,proposed:amended,proposed:rejected}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='5071ac05a72e5e71c83b0c7d571efe3ea5d2dad1', operation='UPDATE', pgid='pgtrigger_plan_fsm_ed060', table='projects_plan', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='Task',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tasks', to='projects.project')),
                ('plan', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='tasks', to='projects.plan')),
                ('parent', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='subtasks', to='projects.task')),
                ('kind', models.CharField(choices=[('requirements', 'Requirements'), ('plan', 'Plan'), ('demo', 'Demo'), ('build', 'Build'), ('mentor', 'Mentor'), ('step', 'Step')], max_length=16)),
                ('key', models.CharField(max_length=64)),
                ('title', models.CharField(max_length=255)),
                ('description', models.TextField(blank=True)),
                ('acceptance_criteria', models.JSONField(blank=True, default=list)),
                ('role', models.CharField(choices=[('orchestrator', 'Orchestrator'), ('architect', 'Architect'), ('pm', 'Product manager'), ('developer', 'Developer'), ('tester', 'Tester'), ('qa', 'QA'), ('uat', 'UAT'), ('sre', 'SRE'), ('monitor', 'Monitor'), ('mentor', 'Mentor')], max_length=32)),
                ('specialisation', models.SlugField(blank=True, db_index=False, help_text='Narrows whoever works on it.', max_length=40)),
                ('status', models.CharField(choices=[('pending', 'Pending'), ('ready', 'Ready'), ('allocated', 'Allocated'), ('in_progress', 'In Progress'), ('review', 'Review'), ('completed', 'Completed'), ('blocked', 'Blocked'), ('failed', 'Failed'), ('cancelled', 'Cancelled')], default='pending', max_length=16)),
                ('reason', models.CharField(blank=True, help_text='Machine-readable cause of the status.', max_length=64)),
                ('detail', models.TextField(blank=True, help_text='The cause, in words for people.')),
                ('progress', models.PositiveSmallIntegerField(default=0, help_text='Percent, as the agent reports it.')),
                ('priority', models.IntegerField(default=0, help_text='Higher goes first.')),
                ('unmet_count', models.PositiveIntegerField(default=0)),
                ('attempts', models.PositiveSmallIntegerField(default=0, help_text='Runs that counted against the limit.')),
                ('max_attempts', models.PositiveSmallIntegerField(default=3)),
                ('next_attempt_at', models.DateTimeField(help_text='Not dispatched before this time.')),
                ('estimate_minutes', models.PositiveIntegerField(default=0)),
                ('agent_id', models.UUIDField(blank=True, null=True)),
                ('context', models.JSONField(blank=True, default=dict, help_text='What the next run must know: conflict, failure.')),
                ('result', models.JSONField(blank=True, default=dict)),
                ('created_at', models.DateTimeField()),
                ('ready_at', models.DateTimeField(blank=True, null=True)),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('completed_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'indexes': [models.Index(models.OrderBy(models.F('priority'), descending=True), models.F('next_attempt_at'), models.F('id'), condition=models.Q(('status', 'ready')), name='task_dispatch_order'), models.Index(fields=['project', 'id'], name='task_of_project'), models.Index(condition=models.Q(('status__in', ['allocated', 'in_progress', 'review'])), fields=['project', 'role'], name='task_running'), models.Index(condition=models.Q(('status__in', ['allocated', 'blocked', 'in_progress', 'pending', 'ready', 'review'])), fields=['project'], name='task_open_of_project')],
                'constraints': [models.UniqueConstraint(fields=('project', 'kind', 'key'), name='task_key_once'), models.CheckConstraint(condition=models.Q(('unmet_count', 0), ('status__in', ['pending', 'cancelled']), _connector='OR'), name='task_unmet_only_pending'), models.CheckConstraint(condition=models.Q(('progress__lte', 100)), name='task_progress_percent'), models.CheckConstraint(condition=models.Q(models.Q(('status', 'completed'), _negated=True), ('completed_at__isnull', False), _connector='OR'), name='task_completed_has_time'), models.CheckConstraint(condition=models.Q(models.Q(('kind', 'build'), ('plan__isnull', False)), models.Q(models.Q(('kind', 'build'), _negated=True), ('plan__isnull', True)), _connector='OR'), name='task_build_belongs_to_plan')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='task',
            trigger=pgtrigger.compiler.Trigger(name='task_fsm', sql=pgtrigger.compiler.UpsertTriggerSql(declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{allocated:blocked,allocated:cancelled,allocated:in_progress,allocated:ready,blocked:cancelled,blocked:failed,blocked:ready,failed:cancelled,failed:ready,in_progress:blocked,in_progress:cancelled,in_progress:completed,in_progress:failed,in_progress:ready,in_progress:review,pending:cancelled,pending:ready,ready:allocated,ready:blocked,ready:cancelled,review:blocked,review:cancelled,review:completed,review:failed,review:ready}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='8a6a6ce759bc40ad7d71efae06d4c8bfeefa047b', operation='UPDATE', pgid='pgtrigger_task_fsm_41357', table='projects_task', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='TaskDependency',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('task', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='dependency_edges', to='projects.task')),
                ('depends_on', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='dependent_edges', to='projects.task')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('task', 'depends_on'), name='task_dependency_once'), models.CheckConstraint(condition=models.Q(('task', models.F('depends_on')), _negated=True), name='task_dependency_not_self')],
            },
        ),
        migrations.CreateModel(
            name='Approval',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='approvals', to='projects.project')),
                ('task', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='approvals', to='projects.task')),
                ('kind', models.CharField(choices=[('plan', 'Plan'), ('demo', 'Demo'), ('question', 'Question'), ('blocked_task', 'Blocked Task'), ('budget', 'Budget')], max_length=16)),
                ('subject_id', models.UUIDField()),
                ('title', models.CharField(max_length=255)),
                ('body', models.TextField(blank=True)),
                ('options', models.JSONField(default=list)),
                ('questions', models.JSONField(blank=True, default=list)),
                ('answers', models.JSONField(blank=True, default=list)),
                ('recommended', models.CharField(blank=True, max_length=32)),
                ('default_option', models.CharField(blank=True, help_text='Taken when nobody decides in time.', max_length=32)),
                ('deadline_at', models.DateTimeField(blank=True, null=True)),
                ('status', models.CharField(choices=[('pending', 'Pending'), ('approved', 'Approved'), ('rejected', 'Rejected'), ('amended', 'Amended'), ('expired', 'Expired'), ('escalated', 'Escalated')], default='pending', max_length=16)),
                ('comment', models.TextField(blank=True)),
                ('created_at', models.DateTimeField()),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
                ('decided_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('status__in', ['escalated', 'pending'])), fields=['created_at', 'id'], name='approval_inbox'), models.Index(fields=['project', '-created_at'], name='approval_of_project'), models.Index(condition=models.Q(('decided_at__isnull', False)), fields=['-decided_at', '-id'], name='approval_decided')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('status__in', ['escalated', 'pending'])), fields=('kind', 'subject_id'), name='approval_open_once_per_subject'), models.CheckConstraint(condition=models.Q(models.Q(('decided_at__isnull', True), ('status__in', ['escalated', 'pending'])), models.Q(models.Q(('status__in', ['escalated', 'pending']), _negated=True), ('decided_at__isnull', False)), _connector='OR'), name='approval_decided_has_time'), models.CheckConstraint(condition=models.Q(models.Q(('kind', 'budget'), _negated=True), ('default_option', ''), _connector='OR'), name='approval_money_has_no_default')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='approval',
            trigger=pgtrigger.compiler.Trigger(name='approval_fsm', sql=pgtrigger.compiler.UpsertTriggerSql(declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{escalated:amended,escalated:approved,escalated:expired,escalated:rejected,pending:amended,pending:approved,pending:escalated,pending:expired,pending:rejected}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='02610d8a149b5932f06592da37637db9e8a0c41a', operation='UPDATE', pgid='pgtrigger_approval_fsm_cc33c', table='projects_approval', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='Correction',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='corrections', to='projects.project')),
                ('approval', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='corrections', to='projects.approval')),
                ('text', models.TextField()),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['project', 'created_at'], name='correction_of_project')],
            },
        ),
        migrations.CreateModel(
            name='AuditChain',
            fields=[
                ('key', models.CharField(max_length=36, primary_key=True, serialize=False)),
                ('last_seq', models.BigIntegerField(default=0)),
                ('last_hash', models.CharField(blank=True, max_length=64)),
            ],
        ),
        migrations.CreateModel(
            name='AuditLog',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('chain', models.CharField(max_length=36)),
                ('seq', models.BigIntegerField()),
                ('timestamp', models.DateTimeField()),
                ('project_id', models.UUIDField(blank=True, null=True)),
                ('agent_id', models.UUIDField(blank=True, null=True)),
                ('actor_kind', models.CharField(max_length=8)),
                ('actor_id', models.CharField(blank=True, max_length=64)),
                ('actor_name', models.CharField(max_length=150)),
                ('action', models.CharField(max_length=64)),
                ('object_type', models.CharField(blank=True, max_length=32)),
                ('object_id', models.CharField(blank=True, max_length=64)),
                ('details', models.JSONField(default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder)),
                ('event_type', models.CharField(blank=True, max_length=32)),
                ('event_payload', models.JSONField(blank=True, encoder=django.core.serializers.json.DjangoJSONEncoder, null=True)),
                ('prev_hash', models.CharField(blank=True, max_length=64)),
                ('hash', models.CharField(max_length=64)),
            ],
            options={
                'indexes': [models.Index(fields=['-timestamp', '-id'], name='audit_newest'), models.Index(fields=['project_id', '-seq'], name='audit_of_project'), models.Index(fields=['action', '-timestamp'], name='audit_by_action'), models.Index(fields=['object_type', 'object_id'], name='audit_of_object'), models.Index(fields=['actor_name', '-timestamp'], name='audit_by_actor'), models.Index(condition=models.Q(('event_type', ''), _negated=True), fields=['chain', 'seq'], name='audit_events')],
                'constraints': [models.UniqueConstraint(fields=('chain', 'seq'), name='audit_seq_once'), models.CheckConstraint(condition=models.Q(models.Q(('event_payload__isnull', True), ('event_type', '')), models.Q(models.Q(('event_type', ''), _negated=True), ('event_payload__isnull', False)), _connector='OR'), name='audit_event_has_payload')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='auditlog',
            trigger=pgtrigger.compiler.Trigger(name='audit_no_change', sql=pgtrigger.compiler.UpsertTriggerSql(func="RAISE EXCEPTION 'append-only: % on % is refused', TG_OP, TG_TABLE_NAME;", hash='a590d6c99251f6e6152e4d246f37346621241eeb', operation='UPDATE OR DELETE', pgid='pgtrigger_audit_no_change_2180d', table='projects_auditlog', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='auditlog',
            trigger=pgtrigger.compiler.Trigger(name='audit_no_truncate', sql=pgtrigger.compiler.UpsertTriggerSql(func="RAISE EXCEPTION 'append-only: % on % is refused', TG_OP, TG_TABLE_NAME;", hash='ecbf93911fd375454ee3d3440ef2a6b3d5e30978', level='STATEMENT', operation='TRUNCATE', pgid='pgtrigger_audit_no_truncate_e33ab', table='projects_auditlog', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='ChatMessage',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='chat', to='projects.project')),
                ('author', models.CharField(choices=[('person', 'Person'), ('agent', 'Agent'), ('system', 'System')], max_length=8)),
                ('author_name', models.CharField(max_length=100)),
                ('user', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('agent_id', models.UUIDField(blank=True, null=True)),
                ('approval', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='projects.approval')),
                ('body', models.TextField(help_text='Markdown; rendered sanitised.')),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['project', 'id'], name='chat_of_project')],
            },
        ),
        migrations.CreateModel(
            name='Notification',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='notifications', to='projects.project')),
                ('level', models.CharField(choices=[('info', 'Info'), ('warning', 'Warning'), ('error', 'Error'), ('action', 'Action')], max_length=8)),
                ('title', models.CharField(max_length=255)),
                ('message', models.TextField(blank=True)),
                ('actions', models.JSONField(blank=True, default=list)),
                ('created_at', models.DateTimeField()),
                ('read_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'indexes': [models.Index(fields=['-created_at', '-id'], name='notification_newest'), models.Index(condition=models.Q(('read_at__isnull', True)), fields=['-created_at'], name='notification_unread')],
            },
        ),
        migrations.CreateModel(
            name='Secret',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='secrets', to='projects.project')),
                ('name', models.CharField(help_text='As a variable is named, such as ANTHROPIC_API_KEY.', max_length=64)),
                ('value', projects.sealing.SealedField(editable=False)),
                ('last_four', models.CharField(blank=True, help_text='The end of the value, when it is long enough.', max_length=4)),
                ('created_at', models.DateTimeField()),
                ('changed_at', models.DateTimeField()),
                ('changed_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('project', 'name'), name='secret_once_per_project', nulls_distinct=False), models.CheckConstraint(condition=models.Q(('name__regex', '^[A-Z][A-Z0-9_]{0,63}$')), name='secret_name_is_a_variables')],
            },
        ),
        migrations.CreateModel(
            name='WebhookEndpoint',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='webhooks', to='projects.project')),
                ('url', models.CharField(max_length=2000)),
                ('description', models.CharField(blank=True, max_length=200)),
                ('events', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=32), blank=True, default=list, help_text='None: all types.', size=None)),
                ('status', models.CharField(choices=[('active', 'Active'), ('disabled', 'Disabled')], default='active', max_length=16)),
                ('reason', models.CharField(blank=True, help_text='Why it is disabled.', max_length=255)),
                ('active_since', models.DateTimeField(blank=True, null=True)),
                ('secret', projects.sealing.SealedField(editable=False)),
                ('old_secret', projects.sealing.SealedField(editable=False, null=True)),
                ('old_secret_until', models.DateTimeField(blank=True, null=True)),
                ('failing_since', models.DateTimeField(blank=True, help_text='When the first of the failures in a row was; empty after a success.', null=True)),
                ('problem', models.CharField(blank=True, help_text='The kind of the last failure.', max_length=16)),
                ('created_at', models.DateTimeField()),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'indexes': [models.Index(fields=['-created_at', '-id'], name='webhook_newest')],
                'constraints': [models.CheckConstraint(condition=models.Q(('url__regex', '^https?://[^/?#@]+([/?]|$)')), name='webhook_url_is_http'), models.CheckConstraint(condition=models.Q(models.Q(('active_since__isnull', False), ('reason', ''), ('status', 'active')), models.Q(('active_since__isnull', True), ('status', 'disabled'), models.Q(('reason', ''), _negated=True)), _connector='OR'), name='webhook_disabled_says_why'), models.CheckConstraint(condition=models.Q(models.Q(('old_secret__isnull', True), ('old_secret_until__isnull', True)), models.Q(('old_secret__isnull', False), ('old_secret_until__isnull', False)), _connector='OR'), name='webhook_old_secret_has_an_end')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='webhookendpoint',
            trigger=pgtrigger.compiler.Trigger(name='webhook_fsm', sql=pgtrigger.compiler.UpsertTriggerSql(declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{active:disabled,disabled:active}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='e5d12b2595765e890302b066832d3e5373b5b515', operation='UPDATE', pgid='pgtrigger_webhook_fsm_ca863', table='projects_webhookendpoint', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='WebhookDelivery',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('endpoint', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='projects.webhookendpoint')),
                ('event_id', models.UUIDField()),
                ('event_seq', models.BigIntegerField()),
                ('event_type', models.CharField(max_length=32)),
                ('status', models.CharField(choices=[('pending', 'Pending'), ('failed', 'Failed'), ('delivered', 'Delivered'), ('dead', 'Dead')], default='pending', max_length=16)),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('next_attempt_at', models.DateTimeField(blank=True, null=True)),
                ('give_up_at', models.DateTimeField()),
                ('last_attempt_at', models.DateTimeField(blank=True, null=True)),
                ('response_status', models.PositiveSmallIntegerField(blank=True, null=True)),
                ('response_excerpt', models.CharField(blank=True, max_length=1000)),
                ('problem', models.CharField(blank=True, help_text='Why the last attempt failed, in a sentence.', max_length=255)),
                ('duration_ms', models.PositiveIntegerField(blank=True, null=True)),
                ('created_at', models.DateTimeField()),
                ('delivered_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'verbose_name_plural': 'webhook deliveries',
                'indexes': [models.Index(condition=models.Q(('status__in', ['failed', 'pending'])), fields=['endpoint', 'next_attempt_at'], name='webhook_delivery_due'), models.Index(fields=['endpoint', '-id'], name='webhook_delivery_newest'), models.Index(fields=['created_at'], name='webhook_delivery_age')],
                'constraints': [models.UniqueConstraint(fields=('endpoint', 'event_id'), name='webhook_delivery_once'), models.CheckConstraint(condition=models.Q(models.Q(('next_attempt_at__isnull', False), ('status__in', ['failed', 'pending'])), models.Q(models.Q(('status__in', ['failed', 'pending']), _negated=True), ('next_attempt_at__isnull', True)), _connector='OR'), name='webhook_delivery_open_is_due'), models.CheckConstraint(condition=models.Q(models.Q(('delivered_at__isnull', False), ('status', 'delivered')), models.Q(models.Q(('status', 'delivered'), _negated=True), ('delivered_at__isnull', True)), _connector='OR'), name='webhook_delivery_has_time'), models.CheckConstraint(condition=models.Q(('response_status__isnull', True), ('response_status__range', (100, 599)), _connector='OR'), name='webhook_delivery_status_is_http')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='webhookdelivery',
            trigger=pgtrigger.compiler.Trigger(name='delivery_fsm', sql=pgtrigger.compiler.UpsertTriggerSql(declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{dead:pending,delivered:pending,failed:dead,failed:delivered,failed:pending,pending:dead,pending:delivered,pending:failed}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='d2e7df685934eecbe37ba7c98cec6895bc45d41f', operation='UPDATE', pgid='pgtrigger_delivery_fsm_90697', table='projects_webhookdelivery', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='WebhookCursor',
            fields=[
                ('chain', models.CharField(max_length=36, primary_key=True, serialize=False)),
                ('seq', models.BigIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name='Workflow',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('key', models.CharField(max_length=64)),
                ('version', models.PositiveIntegerField()),
                ('name', models.CharField(max_length=255)),
                ('description', models.TextField(blank=True)),
                ('definition', models.JSONField(help_text='{nodes: […], edges: […]}, validated (docs/workflows.md)')),
                ('is_shipped', models.BooleanField(default=False, help_text='Came with Eklavya, and not from a person.')),
                ('created_by', models.CharField(max_length=150)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('key', 'version'), name='workflow_version_once'), models.CheckConstraint(condition=models.Q(('key__regex', '^[a-z0-9][a-z0-9_-]{0,63}$')), name='workflow_key_is_a_key')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='workflow',
            trigger=pgtrigger.compiler.Trigger(name='workflow_never_changes', sql=pgtrigger.compiler.UpsertTriggerSql(condition='WHEN (OLD.* IS DISTINCT FROM NEW.*)', func="RAISE EXCEPTION 'pgtrigger: Cannot update rows from % table', TG_TABLE_NAME;", hash='f287a05933e64639273797e66728514def299c02', operation='UPDATE', pgid='pgtrigger_workflow_never_changes_1b2b3', table='projects_workflow', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='Execution',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('workflow', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='executions', to='projects.workflow')),
                ('project', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='executions', to='projects.project')),
                ('key', models.CharField(blank=True, help_text='Whoever starts it again by it gets this.', max_length=200, null=True)),
                ('status', models.CharField(choices=[('running', 'Running'), ('paused', 'Paused'), ('completed', 'Completed'), ('failed', 'Failed'), ('cancelled', 'Cancelled')], default='running', max_length=16)),
                ('detail', models.TextField(blank=True, help_text='The cause of the status, in words for people.')),
                ('input', models.JSONField(blank=True, default=dict)),
                ('result', models.JSONField(blank=True, default=dict, help_text='Results of the nodes that nothing follows, by key.')),
                ('open_count', models.PositiveIntegerField()),
                ('redone', models.PositiveIntegerField(db_default=0, default=0, help_text='How often nodes of it were done anew.')),
                ('started_by', models.CharField(max_length=150)),
                ('audited_status', models.CharField(blank=True, help_text='The last status in the audit log.', max_length=16)),
                ('created_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'indexes': [models.Index(fields=['project', '-id'], name='execution_of_project'), models.Index(condition=models.Q(('audited_status', models.F('status')), _negated=True), fields=['id'], name='execution_unaudited'), models.Index(condition=models.Q(('status__in', ['paused', 'running'])), fields=['id'], name='execution_open'), models.Index(condition=models.Q(('finished_at__isnull', False)), fields=['finished_at'], name='execution_ended')],
                'constraints': [models.UniqueConstraint(fields=('key',), name='execution_key_once'), models.CheckConstraint(condition=models.Q(models.Q(('finished_at__isnull', True), ('status__in', ['paused', 'running'])), models.Q(models.Q(('status__in', ['paused', 'running']), _negated=True), ('finished_at__isnull', False)), _connector='OR'), name='execution_ended_has_time'), models.CheckConstraint(condition=models.Q(models.Q(('status', 'completed'), _negated=True), ('open_count', 0), _connector='OR'), name='execution_completed_has_none_open')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='execution',
            trigger=pgtrigger.compiler.Trigger(name='execution_fsm', sql=pgtrigger.compiler.UpsertTriggerSql(condition='WHEN (OLD."status" IS DISTINCT FROM (NEW."status"))', declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{cancelled:running,completed:running,failed:running,paused:cancelled,paused:completed,paused:failed,paused:running,running:cancelled,running:completed,running:failed,running:paused}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='1c326ad3effdd0fe99489395b45a85b8f964423b', operation='UPDATE', pgid='pgtrigger_execution_fsm_5c16e', table='projects_execution', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='Runner',
            fields=[
                ('id', models.AutoField(primary_key=True, serialize=False)),
                ('name', models.CharField(help_text='Host and process.', max_length=255)),
                ('started_at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='ExecutionNode',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('execution', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='nodes', to='projects.execution')),
                ('position', models.PositiveIntegerField(help_text="Its place in the workflow's list of nodes, from 0.")),
                ('key', models.CharField(max_length=64)),
                ('kind', models.CharField(choices=[('task', 'Task'), ('function', 'Function')], max_length=8)),
                ('task', models.OneToOneField(blank=True, help_text='The one it waits for.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='node', to='projects.task')),
                ('status', models.CharField(choices=[('pending', 'Pending'), ('held', 'Held'), ('ready', 'Ready'), ('running', 'Running'), ('completed', 'Completed'), ('failed', 'Failed'), ('skipped', 'Skipped'), ('cancelled', 'Cancelled')], max_length=16)),
                ('priority', models.SmallIntegerField(default=0)),
                ('unmet_count', models.PositiveIntegerField()),
                ('open_edges', models.PositiveIntegerField()),
                ('attempts', models.PositiveSmallIntegerField(default=0, help_text='How often it was claimed.')),
                ('attempts_before', models.PositiveSmallIntegerField(db_default=0, default=0, help_text='How many of those were before it was last done anew: its tries come after.')),
                ('timeout_s', models.PositiveIntegerField()),
                ('runner', models.IntegerField(blank=True, null=True)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('not_before', models.DateTimeField(help_text='Not claimed before this time.')),
                ('rank_at', models.DateTimeField(help_text='Its place in the queue: when it became ready, less a minute a priority.')),
                ('result', models.JSONField(blank=True, null=True)),
                ('error', models.TextField(blank=True)),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('kind', 'function'), ('status', 'ready')), fields=['rank_at', 'id'], name='node_claim_order'), models.Index(condition=models.Q(('status', 'running')), fields=['runner'], name='node_of_runner'), models.Index(condition=models.Q(('kind', 'task'), ('status', 'ready')), fields=['execution'], name='node_to_begin')],
                'constraints': [models.UniqueConstraint(fields=('execution', 'position'), name='node_position_once'), models.CheckConstraint(condition=models.Q(models.Q(('kind', 'function'), ('lease_until__isnull', False), ('runner__isnull', False), ('status', 'running')), models.Q(('kind', 'task'), ('runner__isnull', True), ('status', 'running'), ('task__isnull', False)), models.Q(models.Q(('status', 'running'), _negated=True), ('lease_until__isnull', True), ('runner__isnull', True)), _connector='OR'), name='node_running_has_lease'), models.CheckConstraint(condition=models.Q(models.Q(('finished_at__isnull', True), ('status__in', ['held', 'pending', 'ready', 'running'])), models.Q(models.Q(('status__in', ['held', 'pending', 'ready', 'running']), _negated=True), ('finished_at__isnull', False)), _connector='OR'), name='node_ended_has_time')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='executionnode',
            trigger=pgtrigger.compiler.Trigger(name='node_fsm', sql=pgtrigger.compiler.UpsertTriggerSql(declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{cancelled:pending,completed:pending,failed:pending,held:cancelled,held:pending,held:ready,held:skipped,pending:cancelled,pending:held,pending:ready,pending:running,pending:skipped,ready:cancelled,ready:held,ready:pending,ready:running,ready:skipped,running:cancelled,running:completed,running:failed,running:held,running:pending,running:ready,running:skipped,skipped:pending}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='dd41f7941b82bbb6b4ff0f916f21c8367142384f', operation='UPDATE', pgid='pgtrigger_node_fsm_7492d', table='projects_executionnode', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='ExecutionLog',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('execution_id', models.UUIDField()),
                ('position', models.PositiveIntegerField(blank=True, null=True)),
                ('event', models.CharField(max_length=16)),
                ('detail', models.TextField(blank=True)),
                ('at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['execution_id', 'id'], name='execution_log_order')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='executionlog',
            trigger=pgtrigger.compiler.Trigger(name='execution_log_kept', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n    IF TG_OP = 'DELETE' AND NOT EXISTS (SELECT FROM projects_execution WHERE id = OLD.execution_id) THEN\n        RETURN OLD;\n    END IF;\n    RAISE EXCEPTION 'rows of % are never changed or deleted', TG_TABLE_NAME;\n", hash='8135f56a7bd2226b65f6a791a8de5a1cb53460fa', operation='UPDATE OR DELETE', pgid='pgtrigger_execution_log_kept_0f7e4', table='projects_executionlog', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='executionlog',
            trigger=pgtrigger.compiler.Trigger(name='execution_log_no_truncate', sql=pgtrigger.compiler.UpsertTriggerSql(func="RAISE EXCEPTION 'append-only: % on % is refused', TG_OP, TG_TABLE_NAME;", hash='ab34dfbb839404970916df7d598fd1f446d5302e', level='STATEMENT', operation='TRUNCATE', pgid='pgtrigger_execution_log_no_truncate_e17bc', table='projects_executionlog', when='BEFORE')),
        ),
        migrations.AddField(
            model_name='task',
            name='dependencies',
            field=models.ManyToManyField(related_name='dependents', through='projects.TaskDependency', to='projects.task'),
        ),
    ]
