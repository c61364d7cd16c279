import django.contrib.postgres.fields
import django.core.serializers.json
import django.db.models.deletion
import pgtrigger.compiler
import pgtrigger.migrations
import projects.ids
from decimal import Decimal
from django.db import migrations, models

from agents.migrations import _sql


class Migration(migrations.Migration):

    # Kept for databases that have some of them only: docs/adr/0018-squashed-migrations.md
    replaces = [
        ('agents', '0001_initial'),
        ('agents', '0002_task_agent_foreign_key'),
        ('agents', '0003_model_silent_since'),
        ('agents', '0004_egress_record'),
        ('agents', '0005_specialisations'),
        ('agents', '0006_rehearsal_runs'),
        ('agents', '0007_run_events_only_grow'),
        ('agents', '0008_leases_of_held_runs'),
        ('agents', '0009_run_events_by_week'),
        ('agents', '0010_upkeep_of_hot_tables'),
        ('agents', '0011_narrowed_runs'),
        ('agents', '0012_workers'),
        ('agents', '0013_recoveries'),
        ('agents', '0014_messages_in_order'),
        ('agents', '0015_remote_workers'),
        ('agents', '0016_recovery_settings'),
        ('agents', '0017_merge_entries'),
        ('agents', '0018_newest_agents'),
        ('agents', '0019_program_times'),
    ]

    initial = True

    dependencies = [
        ('accounts', '0004_remote_workers'),
        ('projects', '0013_lists_of_actors_and_finished_projects'),
        ('billing', '0006_audited_requests'),
        ('django_celery_beat', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Worker',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=100, unique=True)),
                ('queue', models.CharField(max_length=120, unique=True)),
                ('status', models.CharField(choices=[('online', 'Online'), ('busy', 'Busy'), ('draining', 'Draining'), ('offline', 'Offline'), ('error', 'Error')], default='online', max_length=8)),
                ('capacity', models.PositiveSmallIntegerField(help_text='Runs at once.')),
                ('runtime', models.CharField(max_length=16)),
                ('machine_id', models.CharField(blank=True, help_text='Stays when the machine gets another name.', max_length=64)),
                ('trust', models.CharField(choices=[('normal', 'Normal'), ('sensitive', 'Sensitive')], default='normal', max_length=9)),
                ('tools', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=40), blank=True, default=list, size=None)),
                ('info', models.JSONField(blank=True, default=dict, help_text='CPUs and memory, as reported when it registered.')),
                ('load', models.JSONField(blank=True, default=dict, help_text='Its last reading: see agents.machine.Reading.')),
                ('reason', models.CharField(blank=True, help_text='Why it takes no new run: disk_short, clock_ahead…', max_length=64)),
                ('cordoned_at', models.DateTimeField(blank=True, help_text='Since when people let it take nothing new.', null=True)),
                ('key', models.ForeignKey(blank=True, help_text='Of a remote worker.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='accounts.apikey')),
                ('registered_at', models.DateTimeField()),
                ('heartbeat_at', models.DateTimeField()),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('capacity__gte', 1)), name='worker_has_capacity'), models.UniqueConstraint(condition=models.Q(('machine_id', ''), _negated=True), fields=('machine_id',), name='worker_machine_once'), models.CheckConstraint(condition=models.Q(models.Q(('status', 'draining'), _negated=True), ('cordoned_at__isnull', False), _connector='OR'), name='worker_draining_is_cordoned')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='worker',
            trigger=pgtrigger.compiler.Trigger(name='worker_fsm', sql=pgtrigger.compiler.UpsertTriggerSql(declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{busy:draining,busy:error,busy:offline,busy:online,draining:busy,draining:error,draining:offline,draining:online,error:busy,error:draining,error:offline,error:online,offline:busy,offline:draining,offline:error,offline:online,online:busy,online:draining,online:error,online:offline}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='271ddfd467cb60255869a2fab4e99a0802051e64', operation='UPDATE', pgid='pgtrigger_worker_fsm_fa616', table='agents_worker', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='Specialisation',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('key', models.SlugField(max_length=40, unique=True)),
                ('name', models.CharField(max_length=100)),
                ('about', models.CharField(blank=True, max_length=300)),
                ('base_role', models.CharField(choices=[('orchestrator', 'Orchestrator'), ('architect', 'Architect'), ('pm', 'Product manager'), ('developer', 'Developer'), ('tester', 'Tester'), ('qa', 'QA'), ('uat', 'UAT'), ('sre', 'SRE'), ('monitor', 'Monitor'), ('mentor', 'Mentor')], max_length=32)),
                ('narrowing', models.JSONField(default=dict)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('key', ''), _negated=True), name='specialisation_has_key')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='specialisation',
            trigger=pgtrigger.compiler.Trigger(name='specialisation_stays', sql=pgtrigger.compiler.UpsertTriggerSql(func="RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;", hash='1d2dd1841f29093f416fdfb71a124b6a86247e6b', operation='UPDATE OR DELETE', pgid='pgtrigger_specialisation_stays_6f5f8', table='agents_specialisation', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='Agent',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='agents', to='projects.project')),
                ('member', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='agents', to='projects.squadmember')),
                ('agent_type', models.CharField(choices=[('orchestrator', 'Orchestrator'), ('architect', 'Architect'), ('pm', 'Product manager'), ('developer', 'Developer'), ('tester', 'Tester'), ('qa', 'QA'), ('uat', 'UAT'), ('sre', 'SRE'), ('monitor', 'Monitor'), ('mentor', 'Mentor')], max_length=32)),
                ('specialisation', models.SlugField(blank=True, help_text="Narrows its role: a built-in one, or a Specialisation's key.", max_length=40)),
                ('name', models.CharField(max_length=100)),
                ('status', models.CharField(choices=[('spawn', 'Spawn'), ('init', 'Init'), ('ready', 'Ready'), ('working', 'Working'), ('complete', 'Complete'), ('paused', 'Paused'), ('checkpoint', 'Checkpoint'), ('blocked', 'Blocked'), ('failed', 'Failed'), ('terminated', 'Terminated')], default='spawn', max_length=12)),
                ('pid', models.PositiveIntegerField(blank=True, null=True)),
                ('working_dir', models.CharField(blank=True, max_length=500)),
                ('tokens_used', models.PositiveBigIntegerField(default=0)),
                ('last_heartbeat', models.DateTimeField(blank=True, null=True)),
                ('inbox_seq', models.PositiveBigIntegerField(default=0, help_text='Messages up to this number count as read.')),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['project', 'agent_type', 'status'], name='agent_free_by_role'), models.Index(fields=['-created_at', '-id'], name='agent_newest')],
                'constraints': [models.UniqueConstraint(fields=('project', 'name'), name='agent_name_once')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='agent',
            trigger=pgtrigger.compiler.Trigger(name='agent_fsm', sql=pgtrigger.compiler.UpsertTriggerSql(declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{blocked:ready,blocked:terminated,blocked:working,checkpoint:ready,checkpoint:terminated,checkpoint:working,complete:ready,complete:terminated,failed:ready,failed:terminated,init:failed,init:ready,init:terminated,paused:ready,paused:terminated,ready:paused,ready:terminated,ready:working,spawn:init,spawn:terminated,working:blocked,working:checkpoint,working:complete,working:failed,working:paused,working:ready,working:terminated}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='1504b5d6dd8c4531295d3b58a6c2262a96aa4ccb', operation='UPDATE', pgid='pgtrigger_agent_fsm_fb7c8', table='agents_agent', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='Run',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='runs', to='projects.project')),
                ('task', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='runs', to='projects.task')),
                ('agent', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='runs', to='agents.agent')),
                ('worker', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='runs', to='agents.worker')),
                ('attempt', models.PositiveSmallIntegerField()),
                ('status', models.CharField(choices=[('queued', 'Queued'), ('starting', 'Starting'), ('running', 'Running'), ('evaluating', 'Evaluating'), ('merging', 'Merging'), ('succeeded', 'Succeeded'), ('failed', 'Failed'), ('lost', 'Lost'), ('cancelled', 'Cancelled'), ('over_budget', 'Over Budget')], default='queued', max_length=12)),
                ('reason', models.CharField(blank=True, help_text='Machine-readable cause of the status.', max_length=64)),
                ('detail', models.TextField(blank=True, help_text='The cause, in words for people.')),
                ('allocation', models.JSONField(blank=True, default=dict, help_text="Why this worker: its score and the others'.")),
                ('runtime', models.CharField(blank=True, max_length=16)),
                ('model', models.CharField(max_length=100)),
                ('specialisations', models.JSONField(blank=True, default=list, help_text="What narrows its role: of its squad's row, its agent and its task.")),
                ('max_turns', models.PositiveIntegerField(blank=True, help_text="Model requests; empty: its squad's row.", null=True)),
                ('prompt_version_id', models.UUIDField(blank=True, null=True)),
                ('token_hash', models.CharField(blank=True, max_length=64)),
                ('lease_owner', models.CharField(blank=True, max_length=100)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('rehearsal', models.BooleanField(default=False, help_text='Whether the rehearsal model answered when it was claimed: then nobody pays its cost.')),
                ('base_commit', models.CharField(blank=True, max_length=40)),
                ('commit', models.CharField(blank=True, max_length=40)),
                ('merge_commit', models.CharField(blank=True, help_text='Recorded before main is moved to it.', max_length=40)),
                ('stop_requested', models.CharField(blank=True, help_text='Why its supervisor is asked to end it: cancelled, paused, over_budget.', max_length=32)),
                ('model_silent_since', models.DateTimeField(blank=True, help_text="Since when the model's API answers none of its requests; empty once it does.", null=True)),
                ('outcome', models.JSONField(blank=True, default=dict, help_text='The ending verb and its arguments.')),
                ('turns', models.PositiveIntegerField(default=0)),
                ('tokens_used', models.PositiveBigIntegerField(default=0)),
                ('cost', models.DecimalField(decimal_places=6, default=Decimal('0'), max_digits=14)),
                ('last_seq', models.PositiveBigIntegerField(default=0, help_text='Sequence of its newest event.')),
                ('inbox_seq', models.PositiveBigIntegerField(default=0, help_text='Up to which message it has read.')),
                ('created_at', models.DateTimeField()),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('program_began_at', models.DateTimeField(blank=True, help_text='When its program was started: before the run was made when it waited for it.', null=True)),
                ('program_up_at', models.DateTimeField(blank=True, help_text='When its program could be spoken to.', null=True)),
                ('program_ended_at', models.DateTimeField(blank=True, null=True)),
                ('first_request_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'indexes': [models.Index(fields=['project', '-created_at', '-id'], name='run_of_project'), models.Index(fields=['task', '-attempt'], name='run_of_task'), models.Index(condition=models.Q(('status__in', ['evaluating', 'merging', 'queued', 'running', 'starting'])), fields=['lease_until'], name='run_leases'), models.Index(condition=models.Q(('status', 'queued')), fields=['created_at'], name='run_queued'), models.Index(condition=models.Q(('rehearsal', False), ('started_at__isnull', False)), fields=['project'], name='run_real'), models.Index(fields=['-created_at', '-id'], name='run_newest'), models.Index(condition=models.Q(('status__in', ['evaluating', 'merging', 'queued', 'running', 'starting'])), fields=['worker'], name='run_of_worker')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('status__in', ['evaluating', 'merging', 'queued', 'running', 'starting'])), fields=('task',), name='run_one_active_per_task'), models.UniqueConstraint(condition=models.Q(('status__in', ['evaluating', 'merging', 'queued', 'running', 'starting'])), fields=('agent',), name='run_one_active_per_agent'), models.UniqueConstraint(condition=models.Q(('token_hash', ''), _negated=True), fields=('token_hash',), name='run_token_unique'), models.UniqueConstraint(fields=('task', 'attempt'), name='run_attempt_once'), models.CheckConstraint(condition=models.Q(models.Q(('status__in', ['evaluating', 'merging', 'running', 'starting']), _negated=True), models.Q(('lease_until__isnull', False), models.Q(('lease_owner', ''), _negated=True)), _connector='OR'), name='run_working_has_lease'), models.CheckConstraint(condition=models.Q(models.Q(('finished_at__isnull', True), ('status__in', ['evaluating', 'merging', 'queued', 'running', 'starting'])), models.Q(models.Q(('status__in', ['evaluating', 'merging', 'queued', 'running', 'starting']), _negated=True), ('finished_at__isnull', False), ('token_hash', '')), _connector='OR'), name='run_ended_has_no_token'), models.CheckConstraint(condition=models.Q(('cost__gte', 0)), name='run_cost_not_negative')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='run',
            trigger=pgtrigger.compiler.Trigger(name='run_fsm', sql=pgtrigger.compiler.UpsertTriggerSql(declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{evaluating:cancelled,evaluating:failed,evaluating:lost,evaluating:merging,evaluating:over_budget,evaluating:succeeded,merging:cancelled,merging:evaluating,merging:failed,merging:lost,merging:over_budget,merging:succeeded,queued:cancelled,queued:failed,queued:lost,queued:starting,running:cancelled,running:evaluating,running:failed,running:lost,running:over_budget,running:succeeded,starting:cancelled,starting:failed,starting:lost,starting:over_budget,starting:running}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='5a33ae09f6c5f49dd4e8e44c2096cec21b2a0786', operation='UPDATE', pgid='pgtrigger_run_fsm_0d003', table='agents_run', when='BEFORE')),
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name='RunEvent',
                    fields=[
                        ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                        ('run', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='events', to='agents.run')),
                        ('seq', models.PositiveBigIntegerField()),
                        ('kind', models.CharField(choices=[('text', 'Text'), ('thinking', 'Thinking'), ('tool_use', 'Tool Use'), ('tool_result', 'Tool Result'), ('message', 'Message'), ('system', 'System'), ('result', 'Result'), ('error', 'Error')], max_length=12)),
                        ('payload', models.JSONField()),
                        ('created_at', models.DateTimeField()),
                    ],
                    options={
                        'constraints': [models.UniqueConstraint(fields=('run', 'seq'), name='run_event_seq_once')],
                    },
                ),
            ],
            database_operations=[migrations.RunSQL(_sql.RUN_EVENTS)],
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='runevent',
            trigger=pgtrigger.compiler.Trigger(name='run_event_no_change', sql=pgtrigger.compiler.UpsertTriggerSql(func="RAISE EXCEPTION 'append-only: % on % is refused', TG_OP, TG_TABLE_NAME;", hash='66441b529a3c43a3cd99999efeda3210ade5d498', operation='UPDATE OR DELETE', pgid='pgtrigger_run_event_no_change_802cb', table='agents_runevent', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='runevent',
            trigger=pgtrigger.compiler.Trigger(name='run_event_no_truncate', sql=pgtrigger.compiler.UpsertTriggerSql(func="RAISE EXCEPTION 'append-only: % on % is refused', TG_OP, TG_TABLE_NAME;", hash='4f14bd449313518df9d39f0e7c75b46c927358b4', level='STATEMENT', operation='TRUNCATE', pgid='pgtrigger_run_event_no_truncate_5dad4', table='agents_runevent', when='BEFORE')),
        ),
        migrations.RunSQL([_sql.BOUND, _sql.GUARD, _sql.MAKE, _sql.PARTITIONS]),
        migrations.CreateModel(
            name='EgressRecord',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='egress', to='agents.run')),
                ('host', models.CharField(max_length=255)),
                ('port', models.PositiveIntegerField()),
                ('decision', models.CharField(choices=[('allowed', 'Allowed'), ('refused', 'Refused'), ('failed', 'Failed')], max_length=8)),
                ('reason', models.CharField(blank=True, help_text='Machine-readable cause, unless it was reached.', max_length=32)),
                ('requests', models.PositiveBigIntegerField(default=0)),
                ('bytes_up', models.PositiveBigIntegerField(default=0)),
                ('bytes_down', models.PositiveBigIntegerField(default=0)),
                ('first_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['run', '-first_at', '-id'], name='egress_of_run')],
                'constraints': [models.UniqueConstraint(fields=('run', 'host', 'port', 'decision', 'reason'), name='egress_row_once'), models.CheckConstraint(condition=models.Q(models.Q(('decision', 'allowed'), ('reason', '')), models.Q(models.Q(('decision', 'allowed'), _negated=True), models.Q(('reason', ''), _negated=True)), _connector='OR'), name='egress_refusal_has_reason')],
            },
        ),
        migrations.CreateModel(
            name='Message',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='messages', to='projects.project')),
                ('seq', models.PositiveBigIntegerField(help_text='Its number in the project. Some may be missing.')),
                ('from_agent', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='sent', to='agents.agent')),
                ('to_agent', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='inbox', to='agents.agent')),
                ('to_role', models.CharField(blank=True, choices=[('orchestrator', 'Orchestrator'), ('architect', 'Architect'), ('pm', 'Product manager'), ('developer', 'Developer'), ('tester', 'Tester'), ('qa', 'QA'), ('uat', 'UAT'), ('sre', 'SRE'), ('monitor', 'Monitor'), ('mentor', 'Mentor')], max_length=32)),
                ('message_type', models.CharField(choices=[('TASK_ASSIGN', 'Task Assign'), ('TASK_COMPLETE', 'Task Complete'), ('TASK_FAILED', 'Task Failed'), ('TASK_BLOCKED', 'Task Blocked'), ('TASK_PROGRESS', 'Task Progress'), ('MENTOR_REQUEST', 'Mentor Request'), ('MENTOR_REPLY', 'Mentor Reply'), ('CHECKPOINT', 'Checkpoint'), ('HEARTBEAT', 'Heartbeat')], max_length=16)),
                ('payload', models.JSONField(default=dict)),
                ('idempotency_key', models.CharField(max_length=100)),
                ('created_at', models.DateTimeField()),
                ('read_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'indexes': [models.Index(fields=['project', '-id'], name='message_of_project')],
                'constraints': [models.UniqueConstraint(fields=('project', 'seq'), name='message_seq_once'), models.UniqueConstraint(fields=('project', 'idempotency_key'), name='message_sent_once')],
            },
        ),
        migrations.CreateModel(
            name='MessageCounter',
            fields=[
                ('project', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='+', serialize=False, to='projects.project')),
                ('last_seq', models.PositiveBigIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name='Checkpoint',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('agent', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='checkpoints', to='agents.agent')),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='checkpoints', to='agents.run')),
                ('seq', models.PositiveIntegerField()),
                ('state', models.JSONField(default=dict)),
                ('file_snapshot', models.CharField(help_text="Git ref of the workspace's snapshot.", max_length=200)),
                ('resume_instructions', models.TextField(blank=True)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['agent', '-created_at'], name='checkpoint_of_agent')],
                'constraints': [models.UniqueConstraint(fields=('run', 'seq'), name='checkpoint_seq_once')],
            },
        ),
        migrations.CreateModel(
            name='Recovery',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='recoveries', to='projects.project')),
                ('task', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='recoveries', to='projects.task')),
                ('run', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='recovery', to='agents.run')),
                ('reason', models.CharField(max_length=64)),
                ('fingerprint', models.CharField(help_text='What equal failures have in common: SHA-256.', max_length=64)),
                ('decision', models.CharField(choices=[('retry', 'Retry'), ('same_again', 'Same Again'), ('recovery_itself', 'Recovery Itself'), ('task_cap', 'Task Cap'), ('account_cap', 'Account Cap'), ('switched_off', 'Switched Off')], max_length=16)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'verbose_name_plural': 'recoveries',
                'indexes': [models.Index(condition=models.Q(('decision', 'retry')), fields=['-created_at'], name='recovery_recent')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('decision', 'retry')), fields=('task', 'fingerprint'), name='recovery_once_per_failure')],
            },
        ),
        migrations.CreateModel(
            name='RecoverySettings',
            fields=[
                ('id', models.PositiveSmallIntegerField(default=1, editable=False, primary_key=True, serialize=False)),
                ('switched_off', models.JSONField(blank=True, default=list, help_text='Reasons after which a person is asked.')),
                ('per_task', models.PositiveSmallIntegerField(blank=True, help_text='Empty: as in the environment.', null=True)),
                ('per_hour', models.PositiveIntegerField(blank=True, help_text='Empty: as in the environment.', null=True)),
            ],
            options={
                'verbose_name_plural': 'recovery settings',
                'constraints': [models.CheckConstraint(condition=models.Q(('id', 1)), name='recovery_settings_one_row')],
            },
        ),
        migrations.CreateModel(
            name='MergeEntry',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='merge_entries', to='projects.project')),
                ('run', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='merge_entry', to='agents.run')),
                ('stage', models.CharField(choices=[('waiting', 'Waiting'), ('asked', 'Asked'), ('confirmed', 'Confirmed'), ('landed', 'Landed'), ('refused', 'Refused')], default='waiting', max_length=12)),
                ('is_leading', models.BooleanField(default=False)),
                ('commit', models.CharField(blank=True, max_length=64)),
                ('told', models.JSONField(blank=True, default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder, help_text='What was seen of the commit, or what became.')),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'verbose_name_plural': 'merge entries',
                'constraints': [models.UniqueConstraint(condition=models.Q(('is_leading', True)), fields=('project',), name='merge_one_leads'), models.CheckConstraint(condition=models.Q(models.Q(('stage__in', ['asked', 'confirmed', 'landed']), _negated=True), models.Q(('commit', ''), _negated=True), _connector='OR'), name='merge_asked_of_commit')],
            },
        ),
        migrations.CreateModel(
            name='Verification',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='verifications', to='projects.project')),
                ('run', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='verifications', to='agents.run')),
                ('purpose', models.CharField(choices=[('merge', 'Merge'), ('delivery', 'Delivery')], max_length=8)),
                ('commit', models.CharField(max_length=40)),
                ('tree', models.CharField(max_length=40)),
                ('passed', models.BooleanField()),
                ('reason', models.CharField(max_length=64)),
                ('detail', models.TextField(blank=True)),
                ('tests_run', models.PositiveIntegerField(default=0)),
                ('test_output', models.TextField(blank=True)),
                ('test_output_sha256', models.CharField(blank=True, max_length=64)),
                ('start_output', models.TextField(blank=True)),
                ('duration_s', models.DecimalField(decimal_places=3, max_digits=8)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['project', '-created_at'], name='verification_of_project')],
            },
        ),
        migrations.RunSQL([_sql.TASK_AGENT, _sql.UPKEEP]),
    ]
