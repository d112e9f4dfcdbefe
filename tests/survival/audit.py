"""Finds inconsistencies in a database after a kill, and lost or repeated messages."""

from collections import Counter
from dataclasses import fields

CLOSED = """
SELECT r.*, s.* FROM runs r JOIN snapshots s ON s.run_id = r.id ORDER BY r.id
"""
SUMS = """
SELECT run_id FROM snapshots WHERE total <> completed + pending + failed + not_found + invalid + unknown
"""
OPEN_TWICE = """
SELECT target, cause, group_name FROM incidents WHERE state <> 'resolved'
GROUP BY target, cause, group_name HAVING count(*) > 1
"""
CHANGES = """
SELECT incident_id, CASE kind WHEN 'reopened' THEN 'opened' ELSE kind END AS kind FROM incident_events
WHERE kind IN ('opened', 'reopened', 'resolved', 'updated', 'reminded')
"""
OF_NO_RUN = """
SELECT 'item_events' AS what FROM item_events WHERE run_id NOT IN (SELECT id FROM runs)
UNION ALL SELECT 'evidence' FROM evidence WHERE run_id NOT IN (SELECT run_id FROM snapshots)
"""

UPLOADS = """
SELECT (SELECT count(*) FROM items WHERE indexed_at IS NOT NULL) AS items,
       (SELECT coalesce(sum(CAST(pair.value AS integer)), 0) FROM time_to_indexed, {0} AS pair
        WHERE slot_s = 0 AND pair.key <> '-2') AS counted,
       (SELECT coalesce(sum(CAST(pair.value AS integer)), 0) FROM time_to_indexed, {0} AS pair
        WHERE slot_s = 604800 AND pair.key <> '-2') AS in_slots
"""
BUCKETS = {"sqlite": "json_each(buckets)", "postgresql": "json_each_text(CAST(buckets AS json))"}
ROLLED_UP = """
SELECT (SELECT count(*) FROM runs WHERE status <> 'running') AS closed,
       (SELECT sum(runs_complete + runs_partial + runs_aborted + runs_failed + runs_crashed) FROM {0}) AS rolled_up,
       (SELECT sum(total) FROM snapshots) AS items, (SELECT sum(total_sum) FROM {0}) AS rolled_up_items
"""


def stored(world):
    """The runs that were closed with a snapshot, with all columns."""
    return [repr(sorted(row.items())) for row in world.rows(CLOSED)]


def killed_runs(world):
    """Descriptions of the runs that could not close themselves."""
    return world.rows(
        "SELECT status, abort_reason FROM runs WHERE id NOT IN (SELECT run_id FROM snapshots) AND status <> 'running'"
    )


def find_violations(world, *, kept, expected, outcome, kills):
    """Returns what is wrong with a database after a kill, the next run and the next delivery.

    Args:
        world: whose database it is.
        kept: what `stored` returned before the last kill.
        expected: the result of the scenario without kills.
        outcome: the result here.
        kills: how many processes were killed.
    """
    wrong = [f"a snapshot is lost or changed: {row}" for row in kept if row not in stored(world)]
    wrong += [f"run {row['id']} is open" for row in world.rows("SELECT id FROM runs WHERE status = 'running'")]
    dead = killed_runs(world)
    wrong += [f"a killed run is {row}" for row in dead if list(row.values()) != ["crashed", None]]
    wrong += [f"{len(dead)} runs without a snapshot for {kills} kills"] if len(dead) > kills else []
    wrong += [f"run {row['run_id']} does not add up" for row in world.rows(SUMS)]
    wrong += [f"open twice: {row}" for row in world.rows(OPEN_TWICE)]
    wrong += [f"half a run is stored in {row['what']}" for row in world.rows(OF_NO_RUN)]
    wrong += _missing_notifications(world) + _left_behind(world) + _wrong_rollups(world)
    wrong += [
        f"{each.name}: {getattr(outcome, each.name)} and not {getattr(expected, each.name)}"
        for each in fields(expected)
        if getattr(outcome, each.name) != getattr(expected, each.name)
    ]
    return wrong


def _missing_notifications(world):
    """Compares changes of incidents with messages."""
    changes = Counter((row["incident_id"], row["kind"]) for row in world.rows(CHANGES))
    notes = Counter(
        (row["incident_id"], row["kind"]) for row in world.rows("SELECT incident_id, kind FROM notifications")
    )
    return [f"{changes} changes and {notes} messages"] if changes != notes else []


def _wrong_rollups(world):
    """Each first completion is counted once, and so is each closed run, in every table of rollups."""
    (uploads,) = world.rows(UPLOADS.format(BUCKETS[world.app.engine.dialect.name]))
    wrong = [f"first completions: {uploads}"] if len(set(uploads.values())) > 1 else []
    for table in ("history_hourly", "history_daily"):
        (found,) = world.rows(ROLLED_UP.format(table))
        added_up = found["closed"] == found["rolled_up"] and found["items"] == found["rolled_up_items"]
        wrong += [] if added_up else [f"{table} does not add up: {found}"]
    return wrong


def _left_behind(world):
    held = world.rows("SELECT holder FROM leases WHERE holder IS NOT NULL")
    claimed = world.rows("SELECT id, claimed_by FROM notifications WHERE claimed_by IS NOT NULL")
    unsent = world.rows("SELECT id, status FROM notifications WHERE status <> 'sent'")
    return [f"left behind: {row}" for row in (*held, *claimed, *unsent)]


def duplicates(calls):
    """Returns how many messages arrived more than once, and whether the copies had one key and the same content."""
    counted = Counter(key for key, _ in calls)
    bodies = {key: [body for each, body in calls if each == key] for key, times in counted.items() if times > 1}
    same = all(body == first for first, *others in bodies.values() for body in others)
    return sum(times - 1 for times in counted.values()), same
