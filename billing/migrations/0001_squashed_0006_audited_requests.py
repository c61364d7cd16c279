import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.expressions
import pgtrigger.compiler
import pgtrigger.migrations
import projects.ids
from datetime import date
from decimal import Decimal
from django.db import migrations, models

# The prices of the models that agents use, in US dollars per million tokens (docs.anthropic.com, pricing).
VALID_FROM = date(2025, 1, 1)
PRICES = [
    # model, input, output, cache write (five minutes), cache write (one hour), cache read
    ("claude-opus-4-5", "5", "25", "6.25", "10", "0.50"),
    ("claude-sonnet-4-5", "3", "15", "3.75", "6", "0.30"),
    ("claude-haiku-4-5", "1", "5", "1.25", "2", "0.10"),
]


def fill(apps, schema_editor):
    price = apps.get_model("billing", "Price")
    price.objects.bulk_create(
        price(
            model=model,
            valid_from=VALID_FROM,
            input_per_mtok=fresh,
            output_per_mtok=output,
            cache_write_per_mtok=write,
            long_cache_write_per_mtok=long_write,
            cache_read_per_mtok=read,
        )
        for model, fresh, output, write, long_write, read in PRICES
    )


class Migration(migrations.Migration):

    # Kept for databases that have some of them only: docs/adr/0018-squashed-migrations.md
    replaces = [
        ('billing', '0001_initial'),
        ('billing', '0002_prices'),
        ('billing', '0003_tokens_by_kind'),
        ('billing', '0004_levels'),
        ('billing', '0005_expired_reservations'),
        ('billing', '0006_audited_requests'),
    ]

    initial = True

    dependencies = [
        ('projects', '0004_secrets'),
    ]

    operations = [
        migrations.CreateModel(
            name='Price',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('model', models.CharField(help_text='Model id, without the date suffix.', max_length=100)),
                ('valid_from', models.DateField()),
                ('input_per_mtok', models.DecimalField(decimal_places=6, max_digits=14)),
                ('output_per_mtok', models.DecimalField(decimal_places=6, max_digits=14)),
                ('cache_write_per_mtok', models.DecimalField(decimal_places=6, help_text='Written to the five-minute cache.', max_digits=14)),
                ('long_cache_write_per_mtok', models.DecimalField(decimal_places=6, help_text='Written to the one-hour cache.', max_digits=14)),
                ('cache_read_per_mtok', models.DecimalField(decimal_places=6, max_digits=14)),
                ('currency', models.CharField(default='USD', max_length=3)),
            ],
            options={
                'ordering': ['model', '-valid_from'],
                'constraints': [models.UniqueConstraint(fields=('model', 'valid_from'), name='price_once_per_date'), models.CheckConstraint(condition=models.Q(('input_per_mtok__gte', 0), ('output_per_mtok__gte', 0), ('cache_write_per_mtok__gte', 0), ('long_cache_write_per_mtok__gte', 0), ('cache_read_per_mtok__gte', 0)), name='price_not_negative'), models.CheckConstraint(condition=models.Q(('currency', 'USD')), name='price_in_the_ledgers_currency')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='price',
            trigger=pgtrigger.compiler.Trigger(name='price_no_change_once_used', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n                    IF EXISTS (SELECT FROM billing_reservation WHERE price_id = OLD.id)\n                        OR EXISTS (SELECT FROM billing_ledgerentry WHERE price_id = OLD.id)\n                    THEN RAISE EXCEPTION 'this price was used: add another one with a later date'; END IF;\n                    RETURN NEW;\n                ", hash='e96ecedca1bf0bf7ba77928b7185a9e7a4c5215f', operation='UPDATE', pgid='pgtrigger_price_no_change_once_used_c003e', table='billing_price', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='Budget',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('scope', models.CharField(choices=[('account', 'Account'), ('client', 'Client'), ('project', 'Project'), ('agent', 'Agent'), ('run', 'Run')], max_length=8)),
                ('scope_id', models.UUIDField()),
                ('project', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='budgets', to='projects.project')),
                ('limit', models.DecimalField(blank=True, decimal_places=6, help_text='Empty: none.', max_digits=14, null=True)),
                ('default_limit', models.DecimalField(blank=True, decimal_places=6, editable=False, max_digits=14, null=True)),
                ('reserved', models.DecimalField(decimal_places=6, default=Decimal('0'), max_digits=14)),
                ('settled', models.DecimalField(decimal_places=6, default=Decimal('0'), max_digits=14)),
                ('currency', models.CharField(default='USD', max_length=3)),
                ('warned_percent', models.PositiveSmallIntegerField(default=0, help_text='Highest threshold already announced.')),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('scope', 'scope_id'), name='budget_once_per_scope'), models.CheckConstraint(condition=models.Q(('limit__gte', 0), ('reserved__gte', 0), ('settled__gte', 0)), name='budget_not_negative'), models.CheckConstraint(condition=models.Q(('limit__gte', django.db.models.expressions.CombinedExpression(models.F('reserved'), '+', models.F('settled')))), name='budget_not_overspent'), models.CheckConstraint(condition=models.Q(models.Q(('project__isnull', True), ('scope__in', ['account', 'client'])), models.Q(models.Q(('scope__in', ['account', 'client']), _negated=True), ('project__isnull', False)), _connector='OR'), name='budget_project_of_scope'), models.CheckConstraint(condition=models.Q(('limit__isnull', False), models.Q(('scope__in', ['project', 'run']), _negated=True), _connector='OR'), name='budget_limit_of_scope'), models.CheckConstraint(condition=models.Q(('currency', 'USD')), name='budget_in_the_ledgers_currency')],
            },
        ),
        migrations.CreateModel(
            name='Reservation',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='reservations', to='projects.project')),
                ('run_id', models.UUIDField()),
                ('agent_id', models.UUIDField()),
                ('client_id', models.UUIDField(blank=True, null=True)),
                ('budget_ids', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), size=None)),
                ('model', models.CharField(max_length=100)),
                ('price', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to='billing.price')),
                ('amount', models.DecimalField(decimal_places=6, max_digits=14)),
                ('status', models.CharField(choices=[('open', 'Open'), ('settled', 'Settled'), ('released', 'Released'), ('expired', 'Expired')], default='open', max_length=8)),
                ('created_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField(help_text='From then on it is settled at its full amount and flagged.')),
                ('audited', models.BooleanField(db_default=False, default=False, help_text='Its audit row is written.')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('status', 'open')), fields=['expires_at'], name='reservation_open'), models.Index(condition=models.Q(('status', 'open')), fields=['run_id'], name='reservation_open_of_run'), models.Index(condition=models.Q(('audited', False), models.Q(('status', 'open'), _negated=True)), fields=['created_at'], name='reservation_unaudited')],
                'constraints': [models.CheckConstraint(condition=models.Q(('amount__gte', 0)), name='reservation_not_negative'), models.CheckConstraint(condition=models.Q(('expires_at__gt', models.F('created_at'))), name='reservation_expires_later')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='reservation',
            trigger=pgtrigger.compiler.Trigger(name='reservation_fsm', sql=pgtrigger.compiler.UpsertTriggerSql(declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{open:settled,open:released,open:expired,expired:settled,expired:released}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='7b3376ed20dbf61a53a55772c16c152c09ac4575', operation='UPDATE', pgid='pgtrigger_reservation_fsm_0944c', table='billing_reservation', when='BEFORE')),
        ),
        migrations.CreateModel(
            name='LedgerEntry',
            fields=[
                ('id', models.UUIDField(default=projects.ids.new_id, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('reserve', 'Reserve'), ('settle', 'Settle'), ('release', 'Release'), ('adjust', 'Adjust')], max_length=8)),
                ('project_id', models.UUIDField()),
                ('client_id', models.UUIDField(blank=True, null=True)),
                ('run_id', models.UUIDField(blank=True, null=True)),
                ('agent_id', models.UUIDField(blank=True, null=True)),
                ('request_id', models.UUIDField(help_text="The reservation's id.")),
                ('amount', models.DecimalField(decimal_places=6, max_digits=14)),
                ('currency', models.CharField(max_length=3)),
                ('model', models.CharField(blank=True, max_length=100)),
                ('price', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, to='billing.price')),
                ('input_tokens', models.PositiveBigIntegerField(default=0)),
                ('output_tokens', models.PositiveBigIntegerField(default=0)),
                ('cache_write_tokens', models.PositiveBigIntegerField(default=0, help_text='To the five-minute cache.')),
                ('long_cache_write_tokens', models.PositiveBigIntegerField(default=0, help_text='To the one-hour cache.')),
                ('cache_read_tokens', models.PositiveBigIntegerField(default=0)),
                ('note', models.CharField(blank=True, max_length=200)),
                ('created_at', models.DateTimeField()),
            ],
            options={
                'verbose_name_plural': 'ledger entries',
                'indexes': [models.Index(fields=['project_id', '-created_at', '-id'], name='ledger_of_project'), models.Index(fields=['run_id'], name='ledger_of_run'), models.Index(fields=['-created_at', '-id'], name='ledger_newest')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('kind', 'reserve')), fields=('request_id',), name='ledger_reserved_once'), models.UniqueConstraint(condition=models.Q(('kind__in', ['settle', 'release'])), fields=('request_id',), name='ledger_closed_once'), models.CheckConstraint(condition=models.Q(('kind', 'adjust'), ('amount__gte', 0), _connector='OR'), name='ledger_amount_not_negative'), models.CheckConstraint(condition=models.Q(('currency', 'USD')), name='ledger_in_the_ledgers_currency')],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='ledgerentry',
            trigger=pgtrigger.compiler.Trigger(name='ledger_no_change', sql=pgtrigger.compiler.UpsertTriggerSql(func="RAISE EXCEPTION 'append-only: % on % is refused', TG_OP, TG_TABLE_NAME;", hash='deb7d005d9d39aee41173958dd738931bcf41b78', operation='UPDATE OR DELETE', pgid='pgtrigger_ledger_no_change_f3656', table='billing_ledgerentry', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='ledgerentry',
            trigger=pgtrigger.compiler.Trigger(name='ledger_no_truncate', sql=pgtrigger.compiler.UpsertTriggerSql(func="RAISE EXCEPTION 'append-only: % on % is refused', TG_OP, TG_TABLE_NAME;", hash='fec0e4669d74d59c6bfa70578c816979b3528e97', level='STATEMENT', operation='TRUNCATE', pgid='pgtrigger_ledger_no_truncate_865f5', table='billing_ledgerentry', when='BEFORE')),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
