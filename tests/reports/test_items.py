from datetime import timedelta

import pytest
from support.samples import NOW

from monitor.model import ItemState
from monitor.reports.item_queries import ItemEvent, ItemRow
from monitor.reports.items import item_json, item_text, items_json, items_text

MINUTE = timedelta(minutes=1)
UUID = "6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11"


def row(item_id=UUID, state=ItemState.PENDING, **fields):
    values = dict.fromkeys(ItemRow.__dataclass_fields__) | {
        "target": "gloo-prod", "first_seen_at": NOW - 90 * MINUTE, "state_since": NOW - 90 * MINUTE, "recognised": True,
        "stuck": False,
    }  # fmt: skip
    return ItemRow(**{**values, "item_id": item_id, "state": state, **fields})


def text(*rows, total=None, **options):
    return items_text(rows, total=total or len(rows), now=NOW, **options).splitlines()


def test_a_list_reads_well_on_a_terminal():
    lines = text(
        row(state=ItemState.FAILED, stage="FAILED", state_since=NOW - 2 * MINUTE, group="books"),
        row(stage="CHUNKING", stuck=True),
        row(state=ItemState.UNKNOWN, reason="outage", known_state="completed"),
        total=157,
        width=86,
    )
    assert lines == [
        "ITEM                                  STATE    LAST KNOWN  DETAIL    AGE         GROUP",
        "6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11  failed   -           FAILED    2 min       books",
        "6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11  stuck    -           CHUNKING  1 h 30 min  -",
        "6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11  unknown  completed   outage    1 h 30 min  -",
        "3 of 157 shown; --limit 157 shows all",
    ]


@pytest.mark.parametrize(
    ("item", "state", "detail"),
    [
        (row(stage="QUEUED"), "pending", "QUEUED"),
        (row(stage="QUEUED", stuck=True), "stuck", "QUEUED"),
        (row(state=ItemState.FAILED), "failed", "-"),
        (row(state=ItemState.UNKNOWN, reason="forbidden"), "unknown", "- forbidden, never answered"),
        (row(state=ItemState.UNKNOWN, reason="outage", known_state="failed"), "unknown", "failed outage"),
        (row(state=ItemState.NOT_FOUND, stage="QUEUED", http_status=404, code="gone"), "not_found", "404 gone"),
        (row(state=ItemState.NOT_FOUND, http_status=200), "not_found", "200 (by its body)"),
        (row(state=ItemState.NOT_FOUND, http_status=200, code="102"), "not_found", "200 102"),
        (row(state=ItemState.NOT_FOUND, stage="NOT_FOUND"), "not_found", "NOT_FOUND"),
        (row(state=ItemState.NOT_FOUND), "not_found", "not in the answer"),
        (row(state=ItemState.INVALID, http_status=422), "invalid", "422"),
        (row(state=ItemState.INVALID), "invalid", "malformed, never sent"),
        (row(removed_at=NOW, known_state="completed"), "removed", "completed -"),
        (row(removed_at=NOW), "removed", "- -"),
        (row(ignored_at=NOW, ignore_reason="known bad"), "ignored", "- known bad"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_detail_explains_the_state(item, state, detail):
    cells = text(item)[1].removeprefix(UUID).removesuffix("1 h 30 min").split()
    assert " ".join(cells) == f"{state} {detail}"


def test_an_id_is_never_shortened_whatever_the_terminal_s_width():
    rows = [row("x" * 500, group="g" * 200, stage="s" * 200), row("short", target="t" * 200, state=ItemState.NOT_FOUND)]
    for width in (None, 40, 80, 600):
        assert text(*rows, width=width)[1].split()[0] == "x" * 500
    assert "s" * 200 in text(*rows)[1]
    assert "Left out for this width: DETAIL, GROUP" in text(*rows, width=80)


def test_items_that_are_unknown_now_are_hinted_at():
    (hint,) = text(unknown=25, known_states={"invalid", "failed"})
    assert hint.startswith("25 items unknown now, but last known as failed or invalid: ")
    assert hint.endswith("--known-state failed --known-state invalid")
    assert "1 item unknown now" in text(row(), unknown=1, known_states={"failed"})[-1]


def test_groups_and_targets_have_a_column_only_if_needed():
    assert text(row())[0].split() == ["ITEM", "STATE", "DETAIL", "AGE"]
    assert text(row(group="books"), row(target="other"))[0].split()[-2:] == ["GROUP", "TARGET"]


def test_the_last_line_has_the_count():
    assert text(row())[-1] == "1 shown"
    assert text(row(), row("b"), total=9)[-1] == "2 of 9 shown; --limit 9 shows all"
    assert "--state removed --state ignored" in text()[0]


def test_json_values_are_never_shortened():
    long = row("x" * 500, since=NOW, ignored_at=NOW, ignore_reason="known bad")
    listed = items_json([long], total=3)
    value = item_json(long)
    without_text = {name: shown for name, shown in value.items() if name != "failure_message"}
    assert (listed["total"], listed["shown"], listed["items"]) == (3, 1, [without_text])
    assert (value["item_id"], value["state"], value["since"]) == ("x" * 500, "ignored", NOW.isoformat())
    assert value["submitted_at"] is None


def event(minutes, kind, old=None, new=None, run_id=1):
    return ItemEvent(at=NOW + minutes * MINUTE, kind=kind, old=old, new=new, run_id=run_id)


def test_the_history_shows_each_event_and_the_time_between():
    life = [
        event(0, "state", None, "pending"),
        event(2, "stage", "QUEUED", "CHUNKING", 2),
        event(5, "state", "pending", "completed", 3),
        event(6, "removed", run_id=4),
        event(7, "returned", run_id=5),
        event(8, "ignored", None, "known bad", 0),
        event(9, "unignored", run_id=0),
    ]
    item = row(
        state=ItemState.COMPLETED, stage="COMPLETED", group="books", first_seen_at=NOW, state_since=NOW + 5 * MINUTE,
        submitted_at=NOW - MINUTE, seen_at=NOW + 5 * MINUTE, checked_at=NOW + 5 * MINUTE, known_state="completed",
    )  # fmt: skip
    shown = item_text(item, life, earlier=0, now=NOW + 10 * MINUTE).splitlines()
    assert shown == [
        f"Item {UUID} of gloo-prod",
        "  state         completed",
        "  since         2026-03-01 12:05:00 UTC, for 5 min",
        "  stage         COMPLETED",
        "  group         books",
        "  uploaded      2026-03-01 11:59:00 UTC",
        "  first seen    2026-03-01 12:00:00 UTC",
        "  last seen     2026-03-01 12:05:00 UTC",
        "  last checked  2026-03-01 12:05:00 UTC",
        "What happened (UTC):",
        "  2026-03-01 12:00:00  first seen in the sync log",
        "      0 s before the first answer",
        "  2026-03-01 12:00:00  state new → pending (run 1)",
        "      2 min in pending",
        "  2026-03-01 12:02:00  stage QUEUED → CHUNKING (run 2)",
        "      3 min in CHUNKING",
        "  2026-03-01 12:05:00  state pending → completed (run 3)",
        "      1 min in completed",
        "  2026-03-01 12:06:00  left the sync log (run 4)",
        "      1 min out of the sync log",
        "  2026-03-01 12:07:00  returned to the sync log (run 5)",
        "      1 min since then",
        "  2026-03-01 12:08:00  ignored: known bad",
        "      1 min ignored",
        "  2026-03-01 12:09:00  no longer ignored",
        "      1 min since then, until now",
    ]
    assert max(map(len, shown)) <= 80


def test_an_item_shows_what_is_wrong_and_its_last_answer():
    item = row(
        state=ItemState.UNKNOWN, reason="forbidden", known_state="failed", stage="ODD", recognised=False,
        http_status=403, code="no_access", request_id="req-1", incident_id=7, removed_at=NOW, ignored_at=NOW,
        ignore_reason="known bad",
    )  # fmt: skip
    shown = item_text(item, [], earlier=3, now=NOW)
    for line in (
        "  state         removed (forbidden)",
        "  last known    failed",
        "  stage         ODD (unrecognised: add it to `statuses`)",
        "  uploaded      unknown: no usable upload time in the sync log",
        "  last seen     never: the API has not returned it yet",
        "  last checked  never answered",
        "  last error    HTTP 403 no_access, request req-1",
        "  incident      7 (`ingestion-monitor incidents show 7`)",
        f"  removed       {NOW:%Y-%m-%d %H:%M:%S} UTC: it left the sync log",
        f"  ignored       {NOW:%Y-%m-%d %H:%M:%S} UTC: known bad",
        "    … 3 earlier events are not shown",
    ):
        assert f"{line}\n" in f"{shown}\n"


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"state": ItemState.UNKNOWN, "reason": "outage"}, "  last known    nothing yet\n"),
        ({"stuck": True}, "  state         pending, stuck\n"),
        ({"request_id": "req-1"}, "  last error    request req-1\n"),
        ({"state": ItemState.UNKNOWN, "reason": "outage"}, "  state         unknown (outage)\n"),
    ],
)
def test_only_known_facts_are_shown(fields, line):
    shown = item_text(row(**fields), [], earlier=0, now=NOW)
    assert line in shown
    assert "group" not in shown
    assert shown.endswith("      1 h 30 min before the first answer, until now")


def test_a_history_without_its_beginning_has_no_first_interval():
    shown = item_text(
        row(), [event(0, "stage", "A", "B"), event(1, "stage", "B", "C")], earlier=3, now=NOW + 3 * MINUTE
    )
    assert shown.splitlines()[-4:] == [
        "  2026-03-01 12:00:00  stage A → B (run 1)",
        "      1 min in B",
        "  2026-03-01 12:01:00  stage B → C (run 1)",
        "      2 min in C, until now",
    ]


def test_an_event_of_an_unknown_kind_is_shown_by_name():
    shown = item_text(row(), [event(0, "merged")], earlier=0, now=NOW + MINUTE)
    assert "  merged (run 1)\n      1 min before the first answer, until now" in shown
