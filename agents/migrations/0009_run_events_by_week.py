"""Transcripts in one table for each week (docs/adr/0009-transcripts-by-week.md).

Nothing is copied: the table that was is the first partition, with every run up to the end of this week. Of its rows
one index is made anew, while nobody writes. There is no way back but a backup: that would copy the largest table.
"""

import django.db.models.deletion
from django.db import migrations, models

# A run's id is a UUIDv7: its first 48 bits are milliseconds, so that a week of runs is a range of ids.
BOUND = """
CREATE FUNCTION run_events_bound(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog
AS $$ SELECT rpad(lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0'), 32, '0')::uuid $$;
"""

# The owner's rights, for one thing: a role that may make no tables has the next weeks' made, a year ahead at most.
# Rows of such a week that came when there was no partition yet lie in the default one, and are moved.
MAKE = """
CREATE FUNCTION run_events_make_partitions(at timestamptz, weeks integer) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '3s' SET timezone = 'UTC'
AS $$
DECLARE
    week timestamptz := date_trunc('week', at);
    last timestamptz := date_trunc('week', least(at + weeks * interval '7 days', now() + interval '1 year'));
    made text;
    low uuid;
    high uuid;
    strays boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('run_events_partitions'));
    WHILE week <= last LOOP
        made := 'agents_runevent_' || to_char(week, 'YYYYMMDD');
        low := public.run_events_bound(week);
        high := public.run_events_bound(week + interval '7 days');
        -- What is before the first partition is in the first one.
        IF to_regclass('public.' || made) IS NULL AND made > coalesce(
            (SELECT min(relname::text) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
             WHERE inhparent = 'public.agents_runevent'::regclass AND relname ~ '_[0-9]{8}$'), '')
        THEN
            LOCK TABLE public.agents_runevent IN ACCESS EXCLUSIVE MODE;
            SELECT EXISTS (SELECT FROM public.agents_runevent_default WHERE run_id >= low AND run_id < high) INTO strays;
            IF strays THEN
                ALTER TABLE public.agents_runevent DETACH PARTITION public.agents_runevent_default;
            END IF;
            EXECUTE format('CREATE TABLE public.%I PARTITION OF public.agents_runevent FOR VALUES FROM (%L) TO (%L)',
                made, low, high);
            PERFORM public.run_events_guard(made);
            IF strays THEN
                INSERT INTO public.agents_runevent
                    SELECT * FROM public.agents_runevent_default WHERE run_id >= low AND run_id < high;
                DELETE FROM public.agents_runevent_default WHERE run_id >= low AND run_id < high;
                ALTER TABLE public.agents_runevent ATTACH PARTITION public.agents_runevent_default DEFAULT;
            END IF;
            RETURN NEXT made;
        END IF;
        week := week + interval '7 days';
    END LOOP;
END $$;
"""

# A statement's trigger is not handed down to partitions, as those of rows are.
GUARD = """
CREATE FUNCTION run_events_guard(partition text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER pgtrigger_run_event_no_truncate_5dad4 BEFORE TRUNCATE ON public.%I '
        'FOR EACH STATEMENT EXECUTE FUNCTION public.pgtrigger_run_event_no_truncate_5dad4()', partition);
    -- Rows only come: the map of visible pages is kept up by inserts, and the planner hears of a new week early.
    EXECUTE format('ALTER TABLE public.%I SET (autovacuum_vacuum_insert_scale_factor = 0.05, '
        'autovacuum_analyze_scale_factor = 0.05)', partition);
END $$;
REVOKE ALL ON FUNCTION run_events_guard(text) FROM PUBLIC;
"""

SPLIT = """
DO $$
DECLARE
    first text := 'agents_runevent_' || to_char(date_trunc('week', now() AT TIME ZONE 'UTC'), 'YYYYMMDD');
    until timestamptz := (date_trunc('week', now() AT TIME ZONE 'UTC') + interval '7 days') AT TIME ZONE 'UTC';
    newest uuid;
    found record;
BEGIN
    LOCK TABLE agents_runevent IN ACCESS EXCLUSIVE MODE;
    -- A clock that was ahead once: the first partition then ends after the newest run there is.
    SELECT run_id INTO newest FROM agents_runevent ORDER BY run_id DESC LIMIT 1;
    WHILE newest >= run_events_bound(until) AND until < now() + interval '1 year' LOOP
        until := until + interval '7 days';
        first := 'agents_runevent_' || to_char((until - interval '7 days') AT TIME ZONE 'UTC', 'YYYYMMDD');
    END LOOP;

    FOR found IN SELECT conname FROM pg_constraint
        WHERE conrelid = 'agents_runevent'::regclass AND contype IN ('p', 'f') LOOP
        EXECUTE format('ALTER TABLE agents_runevent DROP CONSTRAINT %I', found.conname);
    END LOOP;
    FOR found IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'agents_runevent'::regclass AND NOT tgisinternal LOOP
        EXECUTE format('DROP TRIGGER %I ON agents_runevent', found.tgname);
    END LOOP;
    -- Of the run alone: the one of run and number serves for it.
    FOR found IN SELECT indexrelid::regclass AS name FROM pg_index
        WHERE indrelid = 'agents_runevent'::regclass AND NOT indisunique LOOP
        EXECUTE format('DROP INDEX %s', found.name);
    END LOOP;
    EXECUTE format('ALTER TABLE agents_runevent RENAME TO %I', first);
    EXECUTE format('ALTER TABLE %I RENAME CONSTRAINT run_event_seq_once TO %I', first, first || '_seq_once');

    EXECUTE format('CREATE TABLE agents_runevent (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE) '
        'PARTITION BY RANGE (run_id)', first);
    ALTER TABLE agents_runevent ADD PRIMARY KEY (id, run_id);
    ALTER TABLE agents_runevent ADD CONSTRAINT run_event_seq_once UNIQUE (run_id, seq);
    ALTER TABLE agents_runevent ADD CONSTRAINT run_event_of_run FOREIGN KEY (run_id) REFERENCES agents_run (id)
        DEFERRABLE INITIALLY DEFERRED;
    CREATE TRIGGER pgtrigger_run_event_no_change_802cb BEFORE UPDATE OR DELETE ON agents_runevent
        FOR EACH ROW EXECUTE FUNCTION pgtrigger_run_event_no_change_802cb();
    COMMENT ON TRIGGER pgtrigger_run_event_no_change_802cb ON agents_runevent
        IS '66441b529a3c43a3cd99999efeda3210ade5d498';
    CREATE TRIGGER pgtrigger_run_event_no_truncate_5dad4 BEFORE TRUNCATE ON agents_runevent
        FOR EACH STATEMENT EXECUTE FUNCTION pgtrigger_run_event_no_truncate_5dad4();
    COMMENT ON TRIGGER pgtrigger_run_event_no_truncate_5dad4 ON agents_runevent
        IS '4f14bd449313518df9d39f0e7c75b46c927358b4';

    EXECUTE format('ALTER TABLE agents_runevent ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)',
        first, run_events_bound(until));
    PERFORM run_events_guard(first);
    CREATE TABLE agents_runevent_default PARTITION OF agents_runevent DEFAULT;
    PERFORM run_events_guard('agents_runevent_default');
    PERFORM run_events_make_partitions(now(), 8);
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("agents", "0008_leases_of_held_runs"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name="runevent",
                    name="run",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="events",
                        to="agents.run",
                    ),
                ),
            ],
            database_operations=[
                migrations.RunSQL(BOUND),
                migrations.RunSQL(GUARD),
                migrations.RunSQL(MAKE),
                migrations.RunSQL(SPLIT),
            ],
        ),
    ]
