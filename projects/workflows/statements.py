"""The statements by which nodes move, in PostgreSQL's words: one round trip and one transaction each.

Who runs nodes is a `Runner`: a number whose advisory lock (LOCK_CLASS, number) its connection holds. All times are
PostgreSQL's own, so that clocks of machines need not agree.

Locks are taken in one order by everybody who changes several nodes: first the rows of the executions, by id, then
nodes. Only CLAIM takes nodes alone, and it never waits (SKIP LOCKED). A statement that waited for an execution sees the
nodes as they were when it began; so nodes are read FOR UPDATE, which gives their newest version.
"""

READY_CHANNEL = "eklavya_ready"
"""Told, without words, when there are nodes that nobody has claimed."""
DONE_CHANNEL = "eklavya_done"
"""Told the id of each execution that ended."""
LOCK_CLASS = 0x656B_6C77

# As a runner's connection needs it. Plans are made once, and without looking at how many rows there are: tables that
# were empty then are read from end to end for a long time else. A peer that vanished is noticed within half a minute.
SESSION = """
SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off;
SET enable_mergejoin = off; SET jit = off; SET lock_timeout = '10s'; SET statement_timeout = '60s';
SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3
"""

# -- Runners. The lock is taken before the row can be seen, so that nobody takes a new runner for a dead one.
SIGN_ON = """
WITH next AS MATERIALIZED (SELECT nextval(pg_get_serial_sequence('projects_runner', 'id'))::int AS id),
     locked AS MATERIALIZED (SELECT id, length(pg_advisory_lock(%(lock_class)s, id)::text) AS held FROM next)
INSERT INTO projects_runner (id, name, started_at) SELECT id, %(name)s, now() FROM locked WHERE held = 0 RETURNING id
"""

SIGN_OFF = "DELETE FROM projects_runner WHERE id = %(runner)s"

# A runner whose lock can be had is dead. The lock of this transaction keeps others from burying it at the same time.
# Rows of the living are only read: who locks a row writes, and an idle night must not.
BURY = """
DELETE FROM projects_runner
WHERE id IN (
  SELECT id FROM projects_runner
  WHERE id <> %(runner)s AND pg_try_advisory_xact_lock(%(lock_class)s, id) FOR UPDATE SKIP LOCKED
)
RETURNING id, name
"""

# Executions whose nodes are held by runners that are gone, or were held for too long; and the runners that are gone.
ABANDONED = """
SELECT array_agg(DISTINCT execution_id), array_agg(DISTINCT runner) FILTER (WHERE gone) FROM (
  SELECT execution_id, runner, lease_until,
         NOT EXISTS (SELECT FROM projects_runner r WHERE r.id = n.runner) AS gone
  FROM projects_executionnode n WHERE status = 'running' AND runner IS NOT NULL
) running WHERE gone OR lease_until < now()
"""

# What those left behind may be claimed again. The claim counts: whoever ends its worker each time is given up.
TAKE_BACK = """
WITH held AS MATERIALIZED (
  SELECT id, status FROM projects_execution WHERE id = ANY(%(executions)s::uuid[]) ORDER BY id FOR NO KEY UPDATE
), freed AS (
  UPDATE projects_executionnode n
  SET status = CASE WHEN h.status = 'paused' THEN 'held' ELSE 'ready' END, runner = NULL, lease_until = NULL
  FROM held h
  WHERE n.execution_id = h.id AND n.status = 'running'
    AND (n.runner = ANY(%(dead)s::int[]) OR n.lease_until < now())
  RETURNING n.execution_id, n.position
), logged AS (
  INSERT INTO projects_executionlog (execution_id, position, event, detail, at)
  SELECT execution_id, position, 'lost', 'Whoever ran it is gone or was silent for too long.', now() FROM freed
)
SELECT count(*), length(pg_notify('eklavya_ready', '')::text) FROM freed
"""

# -- Starting. Everything about an execution in one statement; one that is there already (by its key) is left alone.
START = """
WITH made AS (
  INSERT INTO projects_execution (id, workflow_id, project_id, key, status, detail, input, result, open_count,
                                  started_by, audited_status, created_at)
  SELECT new.id, %(workflow)s, %(project)s, new.key, 'running', '', new.input::jsonb, '{}', %(count)s,
         %(started_by)s, '', %(now)s
  FROM unnest(%(ids)s::uuid[], %(keys)s::text[], %(inputs)s::text[]) AS new(id, key, input)
  ON CONFLICT (key) DO NOTHING RETURNING id
), nodes AS (
  INSERT INTO projects_executionnode (execution_id, position, key, kind, status, priority, unmet_count, open_edges,
                                      attempts, timeout_s, not_before, rank_at, lane, error)
  SELECT made.id, node.position, node.key, node.kind, CASE WHEN node.open_edges = 0 THEN 'ready' ELSE 'pending' END,
         node.priority, node.unmet_count, node.open_edges, 0, node.timeout_s,
         now(), now() - node.priority * interval '1 minute',
         coalesce(%(project)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'), ''
  FROM made CROSS JOIN unnest(
    %(positions)s::int[], %(node_keys)s::text[], %(kinds)s::text[], %(priorities)s::int[], %(unmet)s::int[],
    %(open)s::int[], %(timeouts)s::int[]
  ) AS node(position, key, kind, priority, unmet_count, open_edges, timeout_s)
)
SELECT id, length(pg_notify('eklavya_ready', '')::text) FROM made
"""

# -- Claiming what is ready, in the order of the queue. The one commit that is not waited for until it is on disk: a
# claim that a power cut takes back has the same end as one whose runner died. What FINISH says is on disk, and with it
# every claim before.
CLAIM = """
WITH picked AS MATERIALIZED (
  SELECT id, set_config('synchronous_commit', 'off', true) FROM projects_executionnode
  WHERE status = 'ready' AND kind = 'function' AND not_before <= now()
  ORDER BY rank_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE projects_executionnode n
SET status = 'running', runner = %(runner)s, attempts = n.attempts + 1, started_at = coalesce(n.started_at, now()),
    lease_until = now() + n.timeout_s * interval '1 second'
FROM picked, projects_execution e
WHERE n.id = picked.id AND e.id = n.execution_id
RETURNING n.execution_id, n.position, n.attempts, e.workflow_id, n.attempts - n.attempts_before
"""

# Claiming from one lane after the other, of those behind `after`, the same number from each, and at least one, in the
# order of its queue, until there are enough. The next lane is looked up in the index, whatever stands in those between:
# a probe for each lane and none for a node. So it may be one in which nothing is due, as where all wait for their next
# try; those are looked at, and told, as well, however few are asked for: else they would take the turns of the others.
CLAIM_BY_LANE = """
WITH RECURSIVE lanes AS (
  (SELECT lane, 1 AS place FROM projects_executionnode
   WHERE status = 'ready' AND kind = 'function' AND lane > %(after)s::uuid ORDER BY lane LIMIT 1)
  UNION ALL
  SELECT next.lane, lanes.place + 1 FROM lanes CROSS JOIN LATERAL (
    SELECT n.lane FROM projects_executionnode n
    WHERE n.status = 'ready' AND n.kind = 'function' AND n.lane > lanes.lane ORDER BY n.lane LIMIT 1
  ) next WHERE lanes.place < %(lanes)s
), counted AS MATERIALIZED (
  SELECT count(*)::int AS n, set_config('synchronous_commit', 'off', true) FROM lanes
), picked AS MATERIALIZED (
  SELECT mine.id FROM lanes CROSS JOIN LATERAL (
    SELECT n.id FROM projects_executionnode n
    WHERE n.status = 'ready' AND n.kind = 'function' AND n.lane = lanes.lane AND n.not_before <= now()
    ORDER BY n.rank_at, n.id LIMIT (SELECT greatest(%(limit)s / n, 1) FROM counted) FOR UPDATE SKIP LOCKED
  ) mine
  LIMIT %(limit)s
), claimed AS (
  UPDATE projects_executionnode n
  SET status = 'running', runner = %(runner)s, attempts = n.attempts + 1, started_at = coalesce(n.started_at, now()),
      lease_until = now() + n.timeout_s * interval '1 second'
  FROM picked, projects_execution e
  WHERE n.id = picked.id AND e.id = n.execution_id
  RETURNING n.lane, n.execution_id, n.position, n.attempts, e.workflow_id, n.attempts - n.attempts_before AS tries
)
SELECT lanes.lane, c.execution_id, c.position, c.attempts, c.workflow_id, c.tries
FROM lanes LEFT JOIN claimed c ON c.lane = lanes.lane
"""

# Claimed, and not begun: others may have it, and hear of it.
RELEASE = """
WITH told AS MATERIALIZED (
  SELECT length(pg_notify('eklavya_ready', '')::text) AS nothing
), held AS MATERIALIZED (
  SELECT id, status FROM projects_execution WHERE id = ANY(%(executions)s::uuid[]) ORDER BY id FOR NO KEY UPDATE
)
UPDATE projects_executionnode n
SET status = CASE WHEN h.status = 'paused' THEN 'held' ELSE 'ready' END, runner = NULL, lease_until = NULL,
    attempts = n.attempts - 1 + told.nothing
FROM told, unnest(%(node_executions)s::uuid[], %(positions)s::int[], %(attempts)s::int[])
     AS d(execution_id, position, attempts)
JOIN held h ON h.id = d.execution_id
WHERE n.execution_id = d.execution_id AND n.position = d.position
  AND n.status = 'running' AND n.runner = %(runner)s AND n.attempts = d.attempts
"""

# Claimed by a worker that does not know their function, as an old one during an update: they wait a moment for one that
# does. The log says it once.
POSTPONE = """
WITH held AS MATERIALIZED (
  SELECT id, status FROM projects_execution WHERE id = ANY(%(executions)s::uuid[]) ORDER BY id FOR NO KEY UPDATE
), mine AS MATERIALIZED (
  SELECT n.id, h.status, d.error, n.error = d.error AS is_known
  FROM unnest(%(node_executions)s::uuid[], %(positions)s::int[], %(attempts)s::int[], %(errors)s::text[])
       AS d(execution_id, position, attempts, error)
  JOIN held h ON h.id = d.execution_id
  JOIN projects_executionnode n ON n.execution_id = d.execution_id AND n.position = d.position
  WHERE n.status = 'running' AND n.runner = %(runner)s AND n.attempts = d.attempts
  FOR NO KEY UPDATE OF n
), put_back AS (
  UPDATE projects_executionnode n
  SET status = CASE WHEN mine.status = 'paused' THEN 'held' ELSE 'ready' END, runner = NULL, lease_until = NULL,
      attempts = n.attempts - 1, not_before = now() + %(wait_s)s::float8 * interval '1 second', error = mine.error
  FROM mine WHERE n.id = mine.id
  RETURNING n.execution_id, n.position, n.error, mine.is_known
)
INSERT INTO projects_executionlog (execution_id, position, event, detail, at)
SELECT execution_id, position, 'waiting', error, clock_timestamp() FROM put_back WHERE NOT is_known
"""

# -- Waiting for executions in a statement of its own: the next one of the transaction sees all that was waited for.
HOLD = "SELECT id FROM projects_execution WHERE id = ANY(%(executions)s::uuid[]) ORDER BY id FOR NO KEY UPDATE"

# -- Finishing a batch of nodes. `ended` are the nodes that this very claim still holds: what is late changes nothing.
# `done` and the edges that lead on from it come as columns; conditions were decided before.
# Of an execution whose nodes were done anew while this statement waited for it nothing ends: the nodes that it sees are
# those from before. Whoever takes HOLD first, and keeps it, sees the present ones.
_FINISHED = """
WITH seen AS MATERIALIZED (
  SELECT id, redone FROM projects_execution WHERE id = ANY(%(executions)s::uuid[])
), held AS MATERIALIZED (
  SELECT id, status, redone FROM projects_execution WHERE id = ANY(%(executions)s::uuid[]) ORDER BY id FOR NO KEY UPDATE
), ended AS (
  UPDATE projects_executionnode n
  SET status = CASE WHEN d.status = 'ready' AND h.status = 'paused' THEN 'held' ELSE d.status END,
      result = d.result::jsonb, error = d.error, runner = NULL, lease_until = NULL,
      finished_at = CASE WHEN d.status = 'ready' THEN NULL ELSE clock_timestamp() END,
      not_before = now() + d.delay_s * interval '1 second'
  FROM unnest(%(node_executions)s::uuid[], %(positions)s::int[], %(attempts)s::int[], %(statuses)s::text[],
              %(results)s::text[], %(errors)s::text[], %(delays)s::float8[], %(sinks)s::bool[]) WITH ORDINALITY
       AS d(execution_id, position, attempts, status, result, error, delay_s, is_sink, place)
  JOIN held h ON h.id = d.execution_id
  JOIN seen ON seen.id = h.id AND seen.redone = h.redone
  WHERE n.execution_id = d.execution_id AND n.position = d.position
    AND n.status = 'running' AND n.runner IS NOT DISTINCT FROM %(runner)s::int AND n.attempts = d.attempts
  RETURNING n.execution_id, n.position, n.key, n.status, n.error, d.is_sink, n.result, d.place
)
"""

# Skipped nodes resolve what they lead to in the same way as finished ones.
_SKIPPED = """
WITH held AS MATERIALIZED (
  SELECT id, status FROM projects_execution WHERE id = ANY(%(executions)s::uuid[]) ORDER BY id FOR NO KEY UPDATE
), ended AS MATERIALIZED (
  SELECT d.execution_id, d.position, ''::text AS key, 'told'::text AS status, ''::text AS error, false AS is_sink,
         NULL::jsonb AS result, d.place
  FROM unnest(%(node_executions)s::uuid[], %(positions)s::int[]) WITH ORDINALITY AS d(execution_id, position, place)
)
"""

# Each edge says at which place of the batch its source is; `counts` says of each place whether it was in time.
# The counters of all that follows fall in one statement. What becomes ready by it is this runner's, up to `keep`; the
# rest is for whoever hears of it; nodes of a role and stages are begun by `actions.steps` and `actions.main_job`. Then
# the executions: their count of open nodes, and their end.
_APPLY = """
, counts AS MATERIALIZED (
  SELECT array_agg(ended.place IS NOT NULL ORDER BY batch.place) AS in_time
  FROM generate_series(1, cardinality(%(positions)s::int[])) AS batch(place)
  LEFT JOIN ended ON ended.place = batch.place
), met AS (
  SELECT e.execution_id, e.target, count(*) FILTER (WHERE e.is_met)::int AS met, count(*)::int AS resolved
  FROM counts, unnest(%(edge_executions)s::uuid[], %(sources)s::int[], %(targets)s::int[], %(met)s::bool[])
       AS e(execution_id, source, target, is_met)
  WHERE counts.in_time[e.source]
  GROUP BY e.execution_id, e.target
), locked AS MATERIALIZED (
  SELECT n.id, n.execution_id, n.kind, n.priority, n.unmet_count::int - met.met AS unmet,
         n.open_edges::int - met.resolved AS undecided
  FROM met JOIN projects_executionnode n
    ON n.execution_id = met.execution_id AND n.position = met.target AND n.status = 'pending'
  FOR NO KEY UPDATE OF n
), fates AS (
  SELECT l.*, CASE WHEN l.unmet > l.undecided THEN 'skipped' WHEN l.unmet > 0 THEN 'pending'
                   WHEN h.status <> 'running' THEN 'held'
                   WHEN l.kind = 'function' AND row_number() OVER (
                     PARTITION BY l.kind = 'function' AND l.unmet <= 0 ORDER BY l.priority DESC, l.id
                   ) <= %(keep)s THEN 'running'
                   ELSE 'ready' END AS fate
  FROM locked l JOIN held h ON h.id = l.execution_id
), moved AS (
  UPDATE projects_executionnode n
  SET unmet_count = greatest(f.unmet, 0), open_edges = f.undecided, status = f.fate,
      runner = CASE WHEN f.fate = 'running' THEN %(runner)s::int END,
      lease_until = CASE WHEN f.fate = 'running' THEN now() + n.timeout_s * interval '1 second' END,
      attempts = n.attempts + (f.fate = 'running')::int,
      started_at = CASE WHEN f.fate = 'running' THEN now() END,
      finished_at = CASE WHEN f.fate = 'skipped' THEN now() END,
      not_before = now(), rank_at = now() - f.priority * interval '1 minute'
  FROM fates f WHERE n.id = f.id
  RETURNING n.execution_id, n.position, n.status, n.attempts, n.attempts - n.attempts_before AS tries, n.kind
), closed AS (
  SELECT execution_id, count(*)::int AS n, jsonb_object_agg(key, result) FILTER (WHERE is_sink) AS results FROM (
    SELECT execution_id, key, result, is_sink FROM ended WHERE status IN ('completed', 'failed')
    UNION ALL SELECT execution_id, '', NULL, false FROM moved WHERE status = 'skipped'
  ) both_kinds GROUP BY execution_id
), counted AS (
  UPDATE projects_execution e
  SET open_count = e.open_count - c.n, result = e.result || coalesce(c.results, '{}'),
      status = CASE WHEN e.open_count > c.n THEN e.status WHEN %(fatal)s THEN 'failed' ELSE 'completed' END,
      detail = CASE WHEN e.open_count > c.n THEN e.detail ELSE %(detail)s END,
      finished_at = CASE WHEN e.open_count > c.n THEN NULL ELSE clock_timestamp() END
  FROM closed c WHERE e.id = c.execution_id
  RETURNING e.id, e.status
), logged AS (
  INSERT INTO projects_executionlog (execution_id, position, event, detail, at)
  SELECT execution_id, position, CASE WHEN status IN ('ready', 'held') THEN 'retried' ELSE status END, error,
         clock_timestamp() FROM ended WHERE status <> 'told'
  UNION ALL SELECT execution_id, position, 'skipped', '', clock_timestamp() FROM moved WHERE status = 'skipped'
)
SELECT status, execution_id, position, attempts, tries FROM moved WHERE status IN ('running', 'skipped')
UNION ALL SELECT 'ended', execution_id, position, 0, 0 FROM ended
UNION ALL SELECT 'done', id, length(pg_notify('eklavya_done', id::text)::text), 0, 0 FROM counted
  WHERE status IN ('completed', 'failed')
UNION ALL (SELECT 'left', execution_id, length(pg_notify('eklavya_ready', '')::text), 0, 0 FROM moved
  WHERE status = 'ready' AND kind = 'function' LIMIT 1)
UNION ALL (SELECT DISTINCT 'begin', execution_id, 0, 0, 0 FROM moved WHERE status = 'ready' AND kind <> 'function')
"""
FINISH = _FINISHED + _APPLY
SKIP = _SKIPPED + _APPLY

# -- A node that a person leaves out, under the execution's lock. SKIP says then what follows; where nothing is left,
# the execution is over.
LEAVE_OUT = """
WITH counted AS (UPDATE projects_execution SET open_count = open_count - 1 WHERE id = %(execution)s),
     logged AS (
  INSERT INTO projects_executionlog (execution_id, position, event, detail, at)
  SELECT execution_id, position, 'left out', '', clock_timestamp() FROM projects_executionnode WHERE id = %(node)s
)
UPDATE projects_executionnode SET status = 'skipped', result = %(result)s::jsonb, runner = NULL, lease_until = NULL,
    finished_at = clock_timestamp() WHERE id = %(node)s
"""

END_IF_OVER = """
UPDATE projects_execution SET status = 'completed', finished_at = clock_timestamp()
WHERE id = %(execution)s AND open_count = 0 AND status IN ('running', 'paused')
RETURNING id, length(pg_notify('eklavya_done', id::text)::text)
"""

# -- A stage of the main job begins; what it is, the platform does. Under the execution's lock.
BEGIN_STAGE = """
WITH logged AS (
  INSERT INTO projects_executionlog (execution_id, position, event, detail, at)
  SELECT execution_id, position, 'begun', '', clock_timestamp() FROM projects_executionnode WHERE id = %(node)s
)
UPDATE projects_executionnode
SET status = 'running', attempts = attempts + 1, started_at = clock_timestamp() WHERE id = %(node)s
"""

# An execution that begins in the middle, for a project that is there already: what comes before is left out.
BEGIN_AT = """
WITH logged AS (
  INSERT INTO projects_executionlog (execution_id, position, event, detail, at)
  VALUES (%(execution)s, %(position)s, 'taken up', 'The project was here before its main job was carried out.',
          clock_timestamp())
)
UPDATE projects_executionnode SET status = 'skipped', result = '{}', finished_at = clock_timestamp()
WHERE execution_id = %(execution)s AND position = ANY(%(left_out)s::int[])
"""

# -- Doing a node and what follows it anew, under the execution's lock: first all of it is as if it had never begun …
REWIND = """
WITH logged AS (
  INSERT INTO projects_executionlog (execution_id, position, event, detail, at)
  VALUES (%(execution)s, %(from_position)s, 'again', %(detail)s, clock_timestamp())
)
UPDATE projects_executionnode SET status = 'pending', error = '', runner = NULL, lease_until = NULL,
    task_id = NULL, finished_at = NULL,
    -- What ended a stage before it began counts when it begins; one that had begun when its execution failed goes on.
    result = CASE WHEN kind = 'stage' AND status IN ('pending', 'held', 'ready', 'cancelled') THEN result END,
    started_at = CASE WHEN kind = 'stage' AND status = 'cancelled' THEN started_at END,
    -- The number of a claim is never given out again, so what is out never fits; the tries are counted from here.
    attempts_before = attempts, repeats = CASE WHEN %(is_fresh)s THEN 0 ELSE repeats END
WHERE execution_id = %(execution)s AND position = ANY(%(positions)s::int[])
"""

# An edge leads back from a node that this very claim still holds, unless it did so too often.
LEAD_BACK = """
UPDATE projects_executionnode n SET repeats = n.repeats + 1
FROM unnest(%(node_executions)s::uuid[], %(positions)s::int[], %(attempts)s::int[])
     AS d(execution_id, position, attempts)
JOIN projects_execution e ON e.id = d.execution_id
WHERE n.execution_id = d.execution_id AND n.position = d.position AND n.status = 'running'
  AND n.runner IS NOT DISTINCT FROM %(runner)s::int AND n.attempts = d.attempts AND n.repeats < %(most)s::int
RETURNING n.repeats, e.status = 'paused'
"""

STANDS = "SELECT position, status, result::text FROM projects_executionnode WHERE execution_id = %(execution)s"

# … then each node is where what stays puts it.
PLACE = """
UPDATE projects_executionnode n
SET status = p.status, unmet_count = p.unmet, open_edges = p.undecided, not_before = now(),
    rank_at = now() - n.priority * interval '1 minute',
    finished_at = CASE WHEN p.status = 'skipped' THEN clock_timestamp() END
FROM unnest(%(positions)s::int[], %(statuses)s::text[], %(unmet)s::int[], %(undecided)s::int[])
     AS p(position, status, unmet, undecided)
WHERE n.execution_id = %(execution)s AND n.position = p.position
"""

REOPEN = """
UPDATE projects_execution e
SET status = CASE WHEN e.status = 'paused' THEN 'paused' ELSE 'running' END, detail = '', finished_at = NULL,
    result = e.result - %(keys)s::text[], redone = e.redone + 1,
    open_count = (SELECT count(*) FROM projects_executionnode n
                  WHERE n.execution_id = e.id AND n.status IN ('pending', 'held', 'ready', 'running'))
WHERE e.id = %(execution)s RETURNING e.id, length(pg_notify('eklavya_ready', '')::text)
"""

# -- Ending executions before their nodes have: cancelled by a person, or failed by one of their nodes. Whoever calls it
# holds the execution already: a statement that waited would miss nodes that were done anew meanwhile.
STOP = """
WITH held AS MATERIALIZED (
  SELECT id FROM projects_execution WHERE id = %(execution)s::uuid AND status IN ('running', 'paused') FOR NO KEY UPDATE
), stopped AS (
  UPDATE projects_executionnode n SET status = 'cancelled', runner = NULL, lease_until = NULL, finished_at = now()
  FROM held WHERE n.execution_id = held.id AND n.status IN ('pending', 'held', 'ready', 'running')
  RETURNING n.position
)
UPDATE projects_execution e
SET status = %(status)s, detail = %(detail)s, finished_at = now(),
    open_count = e.open_count - (SELECT count(*) FROM stopped)
FROM held WHERE e.id = held.id RETURNING e.id, length(pg_notify('eklavya_done', e.id::text)::text)
"""

LATE = """
INSERT INTO projects_executionlog (execution_id, position, event, detail, at)
SELECT d.execution_id, d.position, 'late', 'Reported by a claim that was over.', clock_timestamp()
FROM unnest(%(node_executions)s::uuid[], %(positions)s::int[]) AS d(execution_id, position)
"""
