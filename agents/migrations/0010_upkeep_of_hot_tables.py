"""How often autovacuum looks after the tables that change most, and after those that only grow (docs/operations.md).

PostgreSQL's own answer is a fifth of the table. Of a million rows that is too late; of the few rows that are written every
second it is never late enough to notice, but each reader walks over what died meanwhile.
"""

from django.db import migrations

# A few rows, each written many times a second: room on their pages, so that new versions need no index entries.
HOT = ("projects_auditchain", "billing_budget", "agents_worker", "django_celery_beat_periodictask")
# Rows that live for a while and change their status some times.
BUSY = ("agents_run", "agents_agent", "projects_task", "projects_executionnode", "billing_reservation", "projects_webhookdelivery")
# Rows that only come: the map of visible pages and the statistics follow sooner.
GROWING = ("projects_auditlog", "billing_ledgerentry", "projects_executionlog")

SETTINGS = (
    (HOT, {"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0.0, "autovacuum_vacuum_threshold": 500}),
    (BUSY, {"autovacuum_vacuum_scale_factor": 0.02, "autovacuum_analyze_scale_factor": 0.02}),
    (GROWING, {"autovacuum_vacuum_insert_scale_factor": 0.02, "autovacuum_analyze_scale_factor": 0.02}),
)


def _sql(table, settings, verb):
    values = ", ".join(f"{key} = {value}" if verb == "SET" else key for key, value in settings.items())
    return f'ALTER TABLE "{table}" {verb} ({values})'


class Migration(migrations.Migration):
    dependencies = [
        ("agents", "0009_run_events_by_week"),
        ("projects", "0006_workflows"),
        ("billing", "0006_audited_requests"),
        ("django_celery_beat", "0001_initial"),
    ]

    operations = [
        migrations.RunSQL(_sql(table, settings, "SET"), _sql(table, settings, "RESET"))
        for tables, settings in SETTINGS
        for table in tables
    ]
