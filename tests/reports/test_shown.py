from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports.samples import INCIDENT, NOW, OPENED, OUTAGE, a_report

from monitor.incidents.decide import Action, Decision, DecisionReason
from monitor.incidents.evaluate import AppliedDecision, EvaluationResult
from monitor.incidents.members import Member
from monitor.incidents.store import IncidentEvent
from monitor.model import Cause, IncidentState, ItemState, RunLimits, RunStatus, Silence, Snapshot, SyncReport
from monitor.reports.formatting import align, format_time
from monitor.reports.history import HistoryView, history_json, history_text
from monitor.reports.incidents import incident_json, incident_text, incidents_text
from monitor.reports.runs import incomplete_reason, run_json, run_text
from monitor.runs.store import HISTORY_COLUMNS, HistoryRow, ItemChangeGroup


def change(action, reason=DecisionReason.THRESHOLD_MET, incident=INCIDENT):
    return AppliedDecision(decision=Decision(cause=incident.cause, action=action, reason=reason), incident=incident)


def lines(report):
    return run_text(report, now=NOW).splitlines()


def test_columns_are_as_wide_as_their_widest_cell_and_numbers_are_right_aligned():
    assert align(("ID", "NAME", "COUNT"), [(1, "a", 5), (22, None, 1000), (3, "longer", None)]).splitlines() == [
        "ID  NAME    COUNT",
        " 1  a           5",
        "22  -        1000",
        " 3  longer      -",
    ]


def test_a_table_without_rows_is_its_heading():
    assert align(("ID", "NAME"), []) == "ID  NAME"


@given(
    st.lists(
        st.tuples(st.integers(), st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)), min_size=1
    )
)
def test_every_cell_of_a_column_is_aligned(rows):
    width = max(len("NUMBER"), *(len(str(number)) for number, _ in rows))
    shown = align(("NUMBER", "TEXT"), rows).splitlines()
    assert [line[:width].strip() for line in shown[1:]] == [str(number) for number, _ in rows]
    assert [line[width + 2 :] for line in shown[1:]] == [text for _, text in rows]


def test_a_time_is_shown_to_the_second():
    assert format_time(OPENED) == "2026-03-01 03:10:00"
    assert format_time(None) == "-"


def test_the_health_line_is_below_the_target():
    assert lines(a_report()) == ["gloo: run 41, complete", "Health: 2 completed, 0 pending, 0 failed, 0 not found"]


def test_a_run_shows_what_changed_what_failed_and_what_is_open():
    report = a_report(
        status=RunStatus.ABORTED,
        abort_reason="outage",
        snapshot=Snapshot(completed=1, pending=3, unknown=1, stuck=2, checked=4),
        last_known={None: 1},
        sync=SyncReport(read=9, tracked=5, new=1, removed=2, returned=1, duplicate=1, duplicate_ids=("b",), null=1),
        item_changes=(
            ItemChangeGroup(kind="state", old=None, new="completed", count=1, sample_ids=("a",)),
            ItemChangeGroup(kind="state", old="pending", new="failed", count=5, sample_ids=("b", "c")),
            ItemChangeGroup(kind="stage", old="QUEUED", new="CHUNKING", count=4, sample_ids=("d",)),
        ),
        evaluation=EvaluationResult(
            evidence=(OUTAGE, replace(OUTAGE, cause=Cause.RATE_LIMITED, inhibited_by=Cause.OUTAGE)),
            changes=(change(Action.OPEN), change(Action.CONTINUE, DecisionReason.STILL_OPEN)),
        ),
        open_incidents=(INCIDENT,),
    )
    shown = lines(report)
    checks = next(n for n, line in enumerate(shown) if line.startswith("    check: "))
    assert shown[:checks] == [
        "gloo: run 41, aborted (outage)",
        "Health: 1 completed, 3 pending (2 stuck), 0 failed, 0 not found, 1 unknown",
        "Last known of the unknown: 1 never answered.",
        "This run got an answer for 4 of 5 items.",
        "Changed:",
        "  1 item new in the sync log",
        "  2 items left the sync log",
        "  1 item returned to it",
        "  1 item new → completed: a",
        "  5 items pending → failed: b, c and 3 more",
        "Sync log:",
        "  1 row without an id",
        "  1 row with a duplicate id: b",
        "Failed requests:",
        "  outage: the API is failing or can't be reached (2 × 503, 1 × timeout)",
        "Incidents:",
        "  #7 items_failed opened: evidence in enough of the last runs",
        "Open incidents:",
        "  #7 items_failed (warning): 2 documents failed to ingest, for 2 h 30 min",
        "    such as: doc-1, doc-2",
    ]


SLOW = RunLimits(rate_per_s=2.5, rate_source="learned", next_rate_per_s=3.125, rate_wait_s=55.2)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (SLOW, ["learned rate of 2.5 requests/s", "over clean runs; the next run begins with 3.12/s: 55 of 57 s"]),
        (
            replace(SLOW, rate_source="stated"),
            ["2.5 requests/s, our share (check.rate_share) of the limit that the API"],
        ),
        (replace(SLOW, rate_source="configured"), ["the configured rate of 2.5 requests/s (check.rate)"]),
    ],
    ids=["learned", "stated", "configured"],
)
def test_a_run_says_which_rate_made_it_slow(limits, words):
    text = " ".join(run_text(a_report(limits=limits, duration_s=57.0), now=NOW).split())
    assert [word for word in words if word not in text] == []
    assert run_json(a_report(limits=limits, duration_s=57.0))["rate"] == {
        "per_s": 2.5, "source": limits.rate_source, "waited_s": 55.2, "next_per_s": 3.125, "slowed": True,
    }  # fmt: skip


def test_a_rate_that_did_not_make_a_run_slow_is_not_mentioned():
    report = a_report(limits=replace(SLOW, rate_wait_s=3.0), duration_s=57.0)
    assert "rate" not in " ".join(lines(report))
    assert run_json(report)["rate"]["slowed"] is False


def test_unanswered_items_beyond_those_named_are_counted():
    poison = replace(OUTAGE, count=7, breakdown={"503": 7}, sample_ids=("d1", "d2", "d3", "d4"))
    shown = " ".join(run_text(a_report(single_items=(poison,)), now=NOW).split())
    assert "Items without an answer, while others got one: outage: 7 items (7 × 503): d1, d2, d3 and 4 more" in shown


def test_a_run_says_that_the_retry_budget_was_used_up():
    report = a_report(
        limits=RunLimits(unretried=32), retries=10, snapshot=Snapshot(completed=112, unknown=32, requests=144)
    )
    text = " ".join(run_text(report, now=NOW).split())
    assert "(10% of its requests, at least 3) was used up: 32 failed requests were not repeated" in text
    assert "max_attempts" in text
    assert run_json(report)["retry_budget"] == {"retries": 10, "exhausted": True, "not_repeated": 32}
    assert "retry budget" not in " ".join(lines(a_report()))


def test_unknown_items_are_shown_with_what_was_last_known_of_them():
    report = a_report(snapshot=Snapshot(completed=1, unknown=9), last_known={"failed": 7, "not_found": 1, None: 1})
    assert lines(report)[2] == "Last known of the unknown: 7 failed, 1 not found, 1 never answered."
    assert run_json(report)["last_known"] == {"failed": 7, "not_found": 1, "never_answered": 1}


@pytest.mark.parametrize(
    ("sync", "sentence"),
    [
        (SyncReport(), "  it is empty"),
        (SyncReport(read=3, null=3), "  it holds no usable id"),
        (SyncReport(read=2, tracked=1, blank=1), "  1 row with a blank id"),
        (SyncReport(read=3, tracked=1, unusable=2, unusable_ids=("x…",)), "  2 rows with an id that can't be used: x…"),
        (
            SyncReport(read=9, tracked=1, duplicate=12, duplicate_ids=tuple("abcde")),
            "  12 rows with a duplicate id, such as a, b, c, d, e",
        ),
        (SyncReport(read=1, tracked=1, future=1), "  1 row with an upload time in the future (not used)"),
    ],
    ids=["empty", "no-usable-id", "blank", "unusable", "sampled", "future"],
)
def test_problems_of_the_sync_log_are_shown(sync, sentence):
    assert sentence in lines(a_report(sync=sync))


def test_a_run_that_could_not_read_the_log_says_so_instead_of_zero():
    report = a_report(status=RunStatus.FAILED, snapshot=None, error="sync log x has no table y", open_incidents=())
    assert lines(report) == ["gloo: run 41, failed", "Health: unknown: sync log x has no table y"]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"status": RunStatus.FAILED, "snapshot": None, "error": "it is gone"}, ["target gloo: it is gone"]),
        (
            {"status": RunStatus.PARTIAL, "abort_reason": "deadline", "snapshot": Snapshot(unknown=1)},
            ["the deadline cut the run short, 1 item left unknown", "raise the deadline"],
        ),
        (
            {"status": RunStatus.PARTIAL, "abort_reason": "interrupted", "snapshot": Snapshot(unknown=9)},
            ["a signal cut the run short, 9 items left unknown", "run again for the rest"],
        ),
        (
            {"status": RunStatus.ABORTED, "abort_reason": "unauthorized", "snapshot": Snapshot(unknown=3)},
            ["the run stopped early, 3 items left unknown: the API rejects the credentials", "check key rotation"],
        ),
        (
            {"status": RunStatus.ABORTED, "abort_reason": "outage", "snapshot": Snapshot(unknown=3)},
            ["the API is failing or can't be reached", "check recovery of the service"],
        ),
    ],
    ids=["failed", "deadline", "interrupted", "unauthorized", "outage"],
)
def test_an_incomplete_run_gives_the_reason_in_one_sentence(changes, parts):
    sentence = incomplete_reason(a_report(**changes))
    assert [part for part in ["target gloo: ", *parts] if part not in sentence] == []
    assert "\n" not in sentence


def test_a_complete_run_has_no_reason():
    assert incomplete_reason(a_report(open_incidents=(INCIDENT,))) is None


def test_a_run_as_json_has_numbers_and_incidents_without_api_messages():
    quoted = replace(OUTAGE, api_message="sermon.pdf is too large")
    found = replace(INCIDENT, evidence=quoted)
    value = run_json(
        a_report(
            evaluation=EvaluationResult(
                evidence=(quoted,), changes=(change(Action.OPEN, incident=found), change(Action.CONTINUE))
            ),
            open_incidents=(found,),
            item_changes=(ItemChangeGroup(kind="state", old=None, new="failed", count=1, sample_ids=("a",)),),
        )
    )
    assert (value["target"], value["run_id"], value["status"], value["abort_reason"]) == ("gloo", 41, "complete", None)
    assert (value["health"]["total"], value["health"]["completed"]) == (2, 2)
    assert value["changes"] == [{"kind": "state", "from": None, "to": "failed", "count": 1, "sample_ids": ["a"]}]
    assert value["incident_changes"] == [{"id": 7, "cause": "items_failed", "group": "", "action": "open"}]
    assert [incident["id"] for incident in value["open_incidents"]] == [7]
    assert value["evidence"][0]["breakdown"] == {"503": 2, "timeout": 1}
    assert "sermon" not in str(value)


def test_a_failed_run_as_json_has_no_health():
    value = run_json(a_report(snapshot=None, status=RunStatus.FAILED, error="it is gone"))
    assert (value["health"], value["error"], value["status"]) == (None, "it is gone", "failed")


ROW = HistoryRow(
    run_id=3, target="gloo", environment="production", run_key=None, started_at=OPENED,
    finished_at=OPENED + timedelta(seconds=2), status=RunStatus.ABORTED, abort_reason="outage",
    snapshot=Snapshot(checked=1, completed=1, unknown=2, requests=5, retries=4, latency_p50_ms=1.5, duration_s=2.04),
)  # fmt: skip


def test_the_history_is_one_line_per_snapshot():
    heading, line = history_text([ROW]).splitlines()
    assert heading.split()[:3] == ["RUN", "STARTED", "(UTC)"]
    assert line.split() == [
        "3", "2026-03-01", "03:10:00", "gloo", "aborted", "(outage)",
        "3", "1", "0", "0", "0", "0", "2", "0", "5", "2.0",
    ]  # fmt: skip


def test_a_history_that_is_cut_says_how_much_is_left():
    assert history_text([ROW], total=9).splitlines()[-1] == "and 8 more: --limit 9 shows all"


def test_a_long_history_is_not_counted_to_its_end():
    assert history_text([ROW], total=1_000).splitlines()[-1] == "and 999 or more: --limit N shows N"
    counts = [(1, 9), (1, 1_000), (1_000, 1_000), (2_000, 2_001)]
    assert [
        history_json(HistoryView(rows=[ROW] * shown, total=total))["total_is_minimum"] for shown, total in counts
    ] == [
        False, True, False, True,
    ]  # fmt: skip


def test_on_a_narrow_terminal_the_history_leaves_out_columns_and_says_which():
    heading, _, *left_out = history_text([ROW], width=80).splitlines()
    assert max(map(len, history_text([ROW], width=80).splitlines())) <= 80
    assert "PENDING" in " ".join(left_out)
    assert [name in heading for name in ("RUN", "STATUS", "COMPLETED", "UNKNOWN")] == [True] * 4
    assert history_text([ROW], width=300) == history_text([ROW])


def test_an_empty_history_says_how_to_get_one():
    assert history_text([]) == "No history yet: run `ingestion-monitor check` first."


def test_the_history_as_json_has_every_column_of_the_view():
    listed = history_json(HistoryView(rows=[ROW], total=9))
    (value,) = listed["runs"]
    assert (listed["total"], listed["shown"]) == (9, 1)
    assert tuple(value) == HISTORY_COLUMNS
    assert (value["total"], value["unknown"]) == (3, 2)
    assert (value["started_at"], value["status"]) == ("2026-03-01T03:10:00+00:00", "aborted")
    assert value["finished_at"] == "2026-03-01T03:10:02+00:00"


def test_incidents_are_one_line_each():
    resolved = replace(INCIDENT, id=5, state=IncidentState.RESOLVED, resolved_at=OPENED + timedelta(minutes=1))
    text = incidents_text([INCIDENT, resolved], now=NOW).splitlines()
    assert [line.split()[:2] for line in text[1:]] == [["7", "open"], ["5", "resolved"]]
    assert text[1].endswith("2 h 30 min")
    assert text[2].endswith("1 min")
    assert incidents_text([], now=NOW) == "No incidents."


def test_an_incident_is_shown_with_evidence_items_and_events():
    seen = replace(
        OUTAGE, code="GATEWAY_TIMEOUT", api_message="upstream is slow", sample_ids=("doc-1",), request_ids=("req_1",)
    )
    resolved = replace(INCIDENT, state=IncidentState.RESOLVED, resolved_at=NOW, evidence=seen, channels=())
    events = [IncidentEvent(at=OPENED, kind="opened", reason="evidence", run_id=1, data={}),
              IncidentEvent(at=NOW, kind="resolved", reason="by hand", run_id=None, data={})]  # fmt: skip
    members = [
        Member(
            item_id="doc-1", group=None, state=ItemState.UNKNOWN, known_state="failed", stage="FAILED", since=OPENED
        ),
        Member(item_id="doc-2", group=None, state=ItemState.UNKNOWN, known_state=None, stage=None, since=None),
    ]
    text = incident_text(resolved, events=events, members=members, now=NOW)
    for line in (
        "Incident 7: gloo: 2 documents failed to ingest",
        "  state      resolved",
        "  cause      items_failed (severity: warning, team: pipeline)",
        "  opened     2026-03-01 03:10:00 UTC",
        "  notified   no channel",
        "  resolved   2026-03-01 05:40:00 UTC",
        "  answers    2 × 503, 1 × timeout",
        "  code       GATEWAY_TIMEOUT",
        "  API says   upstream is slow",
        "  sample ids doc-1 and 2 more",
        "  requests   req_1",
        "Items (2):",
        "  ITEM   STATE    LAST KNOWN  STAGE   SINCE (UTC)          FOR",
        "  doc-1  unknown  failed      FAILED  2026-03-01 03:10:00  2 h 30 min",
        "  doc-2  unknown  -           -       -                    -",
        "  2026-03-01 03:10:00  opened: evidence (run 1)",
        "  2026-03-01 05:40:00  resolved: by hand",
    ):
        assert line in text.splitlines()


def test_an_incident_whose_items_are_cut_says_how_many_are_left():
    (first,) = [
        Member(item_id="doc-1", group=None, state=ItemState.FAILED, known_state="failed", stage=None, since=NOW)
    ]
    text = incident_text(replace(INCIDENT, member_count=90), events=[], members=[first], now=NOW)
    assert "  and 89 more: --limit 90 shows all" in text.splitlines()


def test_an_item_incident_has_no_answers():
    text = incident_text(INCIDENT, events=[], members=[], now=NOW)
    assert "  sample ids doc-1, doc-2" in text.splitlines()
    assert "answers" not in text


def test_an_incident_without_evidence_or_members_is_shown():
    bare = replace(INCIDENT, evidence=None, member_count=0, channels=("a", "b"))
    text = incident_text(bare, events=[], members=[], now=NOW)
    assert "  notified   a, b\n" in text
    assert "Items" not in text
    assert incident_json(bare)["sample_ids"] == []
    assert incident_json(bare)["resolved_at"] is None


OF_A_GROUP = replace(INCIDENT, group="sermons", by_group={"sermons": 2})


def test_the_list_has_a_group_column_if_any_incident_has_a_group():
    heading, mine, other = incidents_text([OF_A_GROUP, INCIDENT], now=NOW).splitlines()
    at = heading.index("GROUP")
    assert (mine[at:].split()[0], other[at:].split()[0]) == ("sermons", "-")
    assert "GROUP" not in incidents_text([INCIDENT], now=NOW)


def test_an_incident_of_a_group_is_named_with_it():
    shown = incident_text(OF_A_GROUP, events=(), members=(), now=NOW)
    assert shown.startswith("Incident 7: gloo (sermons): 2 documents failed to ingest\n")
    assert "  groups " not in shown
    report = a_report(
        evaluation=EvaluationResult(changes=(change(Action.OPEN, incident=OF_A_GROUP),)), open_incidents=(OF_A_GROUP,)
    )
    quoted = lines(report)
    assert "  #7 items_failed in sermons opened: evidence in enough of the last runs" in quoted
    assert "  #7 items_failed in sermons (warning): 2 documents failed to ingest, for 2 h 30" in quoted
    assert incident_json(OF_A_GROUP)["group"] == "sermons"


def test_an_incident_of_a_target_breaks_its_items_down_by_group():
    whole = replace(INCIDENT, by_group={"faq": 1, "": 1})
    assert "  groups     1 × faq, 1 × without a group\n" in incident_text(whole, events=(), members=(), now=NOW)
    as_json = incident_json(whole)
    assert (as_json["group"], as_json["groups"]) == ("", [{"group": "faq", "items": 1}, {"group": None, "items": 1}])


def test_the_list_names_who_acknowledged_an_incident_and_the_silence_that_matches():
    taken = replace(INCIDENT, id=8, state=IncidentState.ACKNOWLEDGED, acknowledged_at=NOW, acknowledged_by="root")
    silence = Silence(id=3, matchers={"target": ("gloo",)}, starts_at=OPENED, ends_at=NOW + timedelta(hours=1))
    heading, open_row, taken_row = incidents_text([INCIDENT, taken], now=NOW, silences=[silence]).splitlines()
    ack, silenced = heading.index("ACK"), heading.index("SILENCED")
    assert (open_row[ack:silenced].strip(), taken_row[ack:silenced].strip()) == ("-", "root")
    assert open_row[silenced:] == "by 3 until 2026-03-01 06:40:00"
    assert "ACK" not in incidents_text([INCIDENT], now=NOW)
