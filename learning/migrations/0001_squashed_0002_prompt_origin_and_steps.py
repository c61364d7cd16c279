import django.db.models.deletion
import pgtrigger.compiler
import pgtrigger.migrations
import projects.ids
from decimal import Decimal
from django.db import migrations, models


class Migration(migrations.Migration):

    # Kept for databases that have some of them only: docs/adr/0018-squashed-migrations.md
    replaces = [
        ('learning', '0001_initial'),
        ('learning', '0002_prompt_origin_and_steps'),
    ]

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='PromptVersion',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('agent_type', models.CharField(choices=[('orchestrator', 'Orchestrator'), ('architect', 'Architect'), ('pm', 'Product manager'), ('developer', 'Developer'), ('tester', 'Tester'), ('qa', 'QA'), ('uat', 'UAT'), ('sre', 'SRE'), ('monitor', 'Monitor'), ('mentor', 'Mentor')], max_length=32)),
                ('version', models.PositiveIntegerField()),
                ('prompt_text', models.TextField()),
                ('status', models.CharField(choices=[('draft', 'Draft'), ('trial', 'Trial'), ('active', 'Active'), ('retired', 'Retired')], default='draft', max_length=8)),
                ('origin', models.CharField(choices=[('shipped', 'Shipped'), ('person', 'Person')], default='person', max_length=8)),
                ('success_rate', models.DecimalField(blank=True, decimal_places=4, max_digits=5, null=True)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'ordering': ['agent_type', '-version'],
                'constraints': [models.UniqueConstraint(fields=('agent_type', 'version'), name='prompt_version_once'), models.UniqueConstraint(condition=models.Q(('status', 'active')), fields=('agent_type',), name='prompt_one_active_per_role'), models.CheckConstraint(condition=models.Q(('success_rate__isnull', True), models.Q(('success_rate__gte', 0), ('success_rate__lte', 1)), _connector='OR'), name='prompt_success_rate_is_share')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='promptversion',
            trigger=pgtrigger.compiler.Trigger(name='prompt_fsm', sql=pgtrigger.compiler.UpsertTriggerSql(declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{active:retired,draft:active,draft:retired,draft:trial,retired:active,retired:trial,trial:active,trial:retired}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='862b0777fb0d20b1720b71523407f06f48eba56f', operation='UPDATE', pgid='pgtrigger_prompt_fsm_4670d', table='learning_promptversion', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='promptversion',
            trigger=pgtrigger.compiler.Trigger(name='prompt_text_stays', sql=pgtrigger.compiler.UpsertTriggerSql(condition='WHEN (OLD."agent_type" IS DISTINCT FROM (NEW."agent_type") OR OLD."version" IS DISTINCT FROM (NEW."version") OR OLD."prompt_text" IS DISTINCT FROM (NEW."prompt_text") OR OLD."origin" IS DISTINCT FROM (NEW."origin"))', func="RAISE EXCEPTION 'pgtrigger: Cannot update rows from % table', TG_TABLE_NAME;", hash='1efa821211acb202bd082b2766591d9171999c3f', operation='UPDATE', pgid='pgtrigger_prompt_text_stays_d3923', table='learning_promptversion', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='Outcome',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('prompt_version', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='outcomes', to='learning.promptversion')),
                ('run_id', models.UUIDField(unique=True)),
                ('project_id', models.UUIDField()),
                ('succeeded', models.BooleanField()),
                ('reason', models.CharField(blank=True, max_length=64)),
                ('cost', models.DecimalField(decimal_places=6, default=Decimal('0'), max_digits=14)),
                ('duration_s', models.DecimalField(decimal_places=3, max_digits=10)),
                ('turns', models.PositiveIntegerField(default=0)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['prompt_version', '-created_at'], name='outcome_of_version')],
            },
        ),
    ]
