from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import NOW

from monitor.config import Config
from monitor.config.schema import RetentionConfig
from monitor.database.retention_policy import (
    KEPT_RUNS,
    Ages,
    Cutoffs,
    KeepReason,
    OldRun,
    ProtectedRuns,
    Prunable,
    Refusal,
    RefusalReason,
    cutoffs,
    expired,
    keep_reason,
    settled_before,
)
from monitor.incidents.rulebook import DEFAULT_RULES

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
AGES = Ages(snapshots=400 * DAY, item_events=90 * DAY, notifications=30 * DAY)


def test_nothing_is_pruned_by_default():
    assert Config.model_fields["retention"].default.ages() == Ages()
    assert cutoffs(Ages(), now=NOW, newest=NOW, settled=NOW - DAY) == Refusal(reason=RefusalReason.DISABLED)


def test_rows_before_the_cutoff_are_old():
    found = cutoffs(Ages(item_events=90 * DAY), now=NOW, newest=NOW, settled=NOW - DAY)
    assert found == Cutoffs(now=NOW, before={Prunable.ITEM_EVENTS: NOW - 90 * DAY})
    assert cutoffs(AGES, now=NOW, newest=NOW, settled=NOW - DAY).before == {
        Prunable.SNAPSHOTS: NOW - 400 * DAY,
        Prunable.ITEM_EVENTS: NOW - 90 * DAY,
        Prunable.NOTIFICATIONS: NOW - 30 * DAY,
    }


@pytest.mark.parametrize(
    ("newest", "settled", "reason"),
    [
        (None, None, RefusalReason.NO_RUNS),
        (NOW, None, RefusalReason.NO_RECENT_RUNS),
        (NOW, NOW - 9 * DAY, RefusalReason.NO_RECENT_RUNS),
        (NOW - 9 * DAY, NOW - 9 * DAY, RefusalReason.NO_RECENT_RUNS),
        (NOW + 30 * DAY, None, RefusalReason.CLOCK_BEHIND),
        (NOW + 30 * DAY, NOW - 9 * DAY, RefusalReason.CLOCK_BEHIND),
    ],
    ids=["no runs", "first day", "back after a week", "off for a week", "clock set back", "ahead, then behind"],
)  # fmt: skip
def test_an_implausible_clock_is_refused_with_its_reason(newest, settled, reason):
    assert cutoffs(AGES, now=NOW, newest=newest, settled=settled) == Refusal(reason=reason, newest=newest)


def test_one_run_from_a_clock_ahead_does_not_stop_pruning_forever():
    assert isinstance(cutoffs(AGES, now=NOW, newest=NOW + 365 * DAY, settled=NOW - DAY), Cutoffs)


@pytest.mark.parametrize(
    ("age", "every"), [(1, 1), (1, 0.1), (2, 1), (90, 7)], ids=["1d daily", "1d often", "2d", "weekly"]
)
def test_scheduled_runs_make_a_clock_plausible(age, every):
    past = [NOW - timedelta(hours=2) - n * every * DAY for n in range(20)]
    settled = max(at for at in past if at <= settled_before(NOW))
    assert isinstance(cutoffs(Ages(item_events=age * DAY), now=NOW, newest=past[0], settled=settled), Cutoffs)


@given(leap=st.integers(9, 4000), every_h=st.integers(1, 24))
def test_a_clock_that_jumps_ahead_prunes_nothing_in_its_first_hours(leap, every_h):
    """A machine whose clock is a year ahead stores runs of that year, and its daily pruning starts too."""
    true = [NOW - n * every_h * HOUR for n in range(100)]
    ahead = NOW + leap * DAY
    stamped = [*true, *(ahead + n * HOUR for n in range(20))]
    now = max(stamped)
    settled = max((at for at in stamped if at <= settled_before(now)), default=None)
    found = cutoffs(AGES, now=now, newest=max(stamped), settled=settled)
    assert isinstance(found, Refusal)


def test_rows_are_old_up_to_the_first_recent_one():
    rows = [(1, NOW - 3 * DAY), (2, None), (4, NOW - 2 * DAY), (7, NOW), (8, NOW - 5 * DAY)]
    found = expired(rows, before=NOW - DAY, now=NOW)
    assert (found.ids, found.last_id, found.reached_recent) == ((1, 4), 4, True)
    assert expired(rows[:3], before=NOW - DAY, now=NOW).reached_recent is False
    assert expired([], before=NOW, now=NOW, after=9).last_id == 9


def test_a_row_from_a_clock_ahead_is_skipped():
    rows = [(1, NOW - 3 * DAY), (2, NOW + 300 * DAY), (3, NOW - 3 * DAY)]
    assert expired(rows, before=NOW - DAY, now=NOW).ids == (1, 3)


_TIMES = st.lists(st.tuples(st.integers(-500, 0), st.integers(-500, 500)), max_size=30)


@given(times=_TIMES)
def test_recent_rows_are_kept_even_if_the_clock_was_set_back(times):
    """Rows are written in the order of true time, and each timestamp comes from a clock that may be wrong."""
    written = sorted(times, key=lambda each: each[0])
    rows = [(n, NOW + stamp * DAY) for n, (_, stamp) in enumerate(written, 1)]
    gone = expired(rows, before=NOW - 90 * DAY, now=NOW).ids
    right = [n for n, (true, stamp) in enumerate(written, 1) if true == stamp and true >= -90]
    assert not any(n > right[0] for n in gone) if right else True
    assert all(written[n - 1][1] < -90 for n in gone)


def run(run_id=1, **fields):
    values = {"target": "gloo", "status": "complete", "abort_reason": "", "finished_at": NOW - 500 * DAY, **fields}
    return OldRun(id=run_id, **values)


SPARED = ProtectedRuns(
    newest={("gloo", "complete", ""): 300},
    ends={2},
    incidents={3},
    openings={"gloo": [(NOW - 451 * DAY, NOW - 450 * DAY)]},
    reports={4},
)


@pytest.mark.parametrize(
    ("old", "keep"),
    [
        (run(1), KeepReason.PRUNED),
        (run(2), KeepReason.FIRST),
        (run(3), KeepReason.INCIDENT),
        (run(4), KeepReason.REPORT),
        (run(5, finished_at=NOW - 450 * DAY), KeepReason.INCIDENT),
        (run(5, finished_at=NOW - 449 * DAY), KeepReason.PRUNED),
        (run(300), KeepReason.NEWEST),
        (run(299), KeepReason.PRUNED),
        (run(1, status="failed"), KeepReason.NEWEST),
        (run(1, target="other"), KeepReason.NEWEST),
    ],
    ids=["old", "first", "named by an incident", "in a report", "led to an open incident", "after its opening",
         "among the newest", "just not", "few ended so", "few of its target"],
)  # fmt: skip
def test_an_old_run_is_kept_for_a_reason(old, keep):
    assert keep_reason(old, SPARED) is keep


def test_no_rule_counts_pruned_runs():
    """The longest configurable rule looks back no further than the runs that are always kept."""
    schema = Config.model_json_schema()["$defs"]
    properties = schema["RuleConfig"]["properties"]
    most = max(properties[name]["anyOf"][0]["maximum"] for name in ("runs", "of", "resolve_after"))
    assert 2 * most <= KEPT_RUNS
    assert properties["window"]["anyOf"][0]["$comment"] == "1s to 30d"
    assert RetentionConfig.model_json_schema()["properties"]["snapshots"]["anyOf"][0]["$comment"].startswith("31d ")
    assert max(rule.window for rule in DEFAULT_RULES.values()) < 30 * DAY
