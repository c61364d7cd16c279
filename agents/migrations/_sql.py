"""What agents has in the database that no model says: one upward foreign key, transcripts by week, upkeep of hot tables.

In its final form; the files that the squash replaces say how it came to be (docs/adr/0003, docs/adr/0009).
"""

# `projects.Task.agent_id`: projects is the lower app and cannot name the table itself.
TASK_AGENT = """
ALTER TABLE projects_task
    ADD CONSTRAINT projects_task_agent_fk FOREIGN KEY (agent_id)
    REFERENCES agents_agent (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED;
CREATE INDEX projects_task_agent ON projects_task (agent_id) WHERE agent_id IS NOT NULL;
"""

# The model's columns. Its key is `id` for Django; a unique index of a partitioned table must contain the partitions' key.
RUN_EVENTS = """
CREATE TABLE agents_runevent (
    id uuid NOT NULL,
    seq bigint NOT NULL CONSTRAINT agents_runevent_seq_check CHECK (seq >= 0),
    kind varchar(12) NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    run_id uuid NOT NULL,
    PRIMARY KEY (id, run_id),
    CONSTRAINT run_event_seq_once UNIQUE (run_id, seq),
    CONSTRAINT run_event_of_run FOREIGN KEY (run_id) REFERENCES agents_run (id) DEFERRABLE INITIALLY DEFERRED
) PARTITION BY RANGE (run_id);
"""

# A run's id is a UUIDv7: its first 48 bits are milliseconds, so that a week of runs is a range of ids.
BOUND = """
CREATE FUNCTION run_events_bound(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog
AS $$ SELECT rpad(lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0'), 32, '0')::uuid $$;
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

# The first partition has this week and all before it.
PARTITIONS = """
DO $$
DECLARE
    week timestamptz := date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    first text := 'agents_runevent_' || to_char(week AT TIME ZONE 'UTC', 'YYYYMMDD');
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE agents_runevent INCLUDING CONSTRAINTS)', first);
    EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I UNIQUE (run_id, seq)', first, first || '_seq_once');
    EXECUTE format('ALTER TABLE agents_runevent ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)',
        first, run_events_bound(week + interval '7 days'));
    PERFORM run_events_guard(first);
    CREATE TABLE agents_runevent_default PARTITION OF agents_runevent DEFAULT;
    PERFORM run_events_guard('agents_runevent_default');
    PERFORM run_events_make_partitions(now(), 8);
END $$;
"""

# How often autovacuum looks after the tables that change most, and after those that only grow (docs/operations.md).
# PostgreSQL's own answer is a fifth of the table. Of a million rows that is too late; of the few rows that are written
# every second it is never late enough to notice, but each reader walks over what died meanwhile.

# A few rows, each written many times a second: room on their pages, so that new versions need no index entries.
HOT = ("projects_auditchain", "billing_budget", "agents_worker", "django_celery_beat_periodictask")
# Rows that live for a while and change their status some times.
BUSY = (
    "agents_run", "agents_agent", "projects_task", "projects_executionnode", "billing_reservation",
    "projects_webhookdelivery",
)
# Rows that only come: the map of visible pages and the statistics follow sooner.
GROWING = ("projects_auditlog", "billing_ledgerentry", "projects_executionlog")

UPKEEP = "\n".join(
    f"ALTER TABLE {table} SET ({settings});"
    for tables, settings in (
        (HOT, "fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 500"),
        (BUSY, "autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02"),
        (GROWING, "autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02"),
    )
    for table in tables
)
