"""`incidents explain`: delivery of messages, folded runs, unusual runs. tests/cli has a whole incident."""

from dataclasses import replace
from datetime import timedelta

import pytest
from database.troubles import TroubleBuilder
from support.samples import NOW, incident

from monitor.database.engine import reading
from monitor.errors import ConfigError
from monitor.incidents import explain
from monitor.incidents.decide import EvidencePoint
from monitor.incidents.explain import IncidentHistory, ObservedRun, RunPart, SentMessage, TimelineEvent
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.model import Cause, Evidence, RunStatus
from monitor.reports.explain import ExplainData, describe_rule, explain_json, explain_text, explain_view

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def run(number, seen=None, *, cause=Cause.UNAUTHORIZED, confirms_recovery=True, counts=True, every=MINUTE, **fields):
    at = NOW + number * every
    evidence = None if seen is None else Evidence(cause=cause, count=seen, **fields)
    inhibited = evidence is not None and evidence.inhibited_by is not None
    point = EvidencePoint(
        run_id=number,
        at=at,
        evidence=evidence is not None and not inhibited,
        inhibited=inhibited,
        confirms_recovery=confirms_recovery,
    )
    status = RunStatus.COMPLETE if counts else RunStatus.FAILED
    return ObservedRun(run_id=number, at=at, status=status, point=point if counts else None, evidence=evidence)


def explain_data(runs, *events, sent_messages=(), **fields):
    about = incident(first_evidence_at=NOW, opened_at=NOW, **fields)
    rule = DEFAULT_RULES[about.cause]
    history = IncidentHistory(incident=about, previous=None, runs=runs, events=events, rule=rule, rule_at_opening=rule)
    return ExplainData(history=history, sent_messages=sent_messages, silences=(), now=NOW + DAY)


def text(*arguments, **fields):
    return " ".join(explain_text(explain_data(*arguments, **fields)).split())


FATES = [
    ("sent soon", {"status": "sent", "sent_at": NOW + MINUTE}, "opened, sent 12:01:00"),
    ("sent the day after", {"status": "sent", "sent_at": NOW + DAY}, "opened, sent 2026-03-02 12:00:00"),
    ("due", {"status": "due"}, "opened, waiting"),
    ("tried", {"status": "due", "attempts": 2, "error": "HTTP 503"}, "opened, waiting after 2 attempts: HTTP 503"),
    ("dead", {"status": "dead", "attempts": 1, "error": "HTTP 400"}, "opened, given up after 1 attempt: HTTP 400"),
    ("superseded", {"status": "superseded"}, "opened, superseded by a later message"),
    ("a status of a newer program", {"status": "resting"}, "opened, resting"),
]


@pytest.mark.parametrize(("fields", "said"), [each[1:] for each in FATES], ids=[each[0] for each in FATES])
def test_the_delivery_of_a_message_is_shown(fields, said):
    defaults = {"kind": "opened", "channel": "oncall", "created_at": NOW, "sent_at": None, "attempts": 0, "error": None}
    others = [SentMessage(**{**defaults, **fields}), SentMessage(**{**defaults, "kind": "resolved", "status": "due"})]
    opened = TimelineEvent(at=NOW, kind="opened", reason="as it was", run_id=0, data={"channels": ["oncall"]})
    shown = explain_text(explain_data([run(0, 3)], opened, sent_messages=others))
    assert shown.endswith(f"→ oncall: {said}")
    assert shown.count("→") == 1


SEEN = [
    (run(0), "no evidence"),
    (run(0, confirms_recovery=False), "no evidence, but too few answers to confirm recovery"),
    (run(0, 4, breakdown={"502": 3, "timeout": 1}), "3 × 502, 1 × timeout; 4 items unknown"),
    (run(0, 2), "evidence; 2 items unknown"),
    (run(0, 0, breakdown={"429": 9}), "9 × 429"),
    (run(0, 4, inhibited_by=Cause.OUTAGE, breakdown={"401": 4}), "inhibited by outage (4 × 401; 4 items unknown)"),
    (run(0, 2, cause=Cause.ITEMS_STUCK, breakdown={"CHUNKING": 2}), "2 items (2 × CHUNKING)"),
    (run(0, 9, cause=Cause.RUN_MISSED, breakdown={"missed": 9}), "9 × missed"),
    (run(0, 1, cause=Cause.SYNC_LOG_UNREADABLE), "evidence"),
    (run(0, counts=False), "this run does not count for this cause"),
]


@pytest.mark.parametrize(("seen", "said"), SEEN, ids=[each[1] for each in SEEN])
def test_the_evidence_of_a_run_is_one_phrase(seen, said):
    assert f": {said}" in text([seen])


def test_folded_runs_show_how_many_had_evidence_and_on_which_day_they_end():
    opened = TimelineEvent(at=NOW, kind="opened", reason="as it was", run_id=0)
    taken = TimelineEvent(
        at=NOW + MINUTE, kind="acknowledged", reason="acknowledged by ana", data={"channels": ["oncall"]}
    )
    hours = 60 * MINUTE
    runs = [run(0, 3), *(run(n, 3, every=hours, inhibited_by=Cause.OUTAGE if n % 2 else None) for n in range(1, 14))]
    shown = explain_text(explain_data(runs, opened, taken)).splitlines()
    assert shown[-3:-1] == [
        "13:00:00  runs 1–13 (13 runs, until 2026-03-02 01:00:00): evidence in 6 of them,",
        "          inhibited by a higher cause in 7",
    ]
    assert text([*runs, run(30, every=hours)], opened, taken).count("(UTC)") == 2


PARTS = [
    ("all of them", RunPart(shown=3, total=3), ""),
    ("the newest", RunPart(shown=2, total=9, first=8), "Only 2 of the 9 runs of this incident are shown. Those before"),
    ("with a remedy", RunPart(shown=2, total=9, first=8), "them: --before 8; --limit N shows N."),
    ("of very many", RunPart(shown=2, total=10_000, first=8), "Only 2 of the 10000 or more runs of this incident are"),
    ("the oldest", RunPart(shown=2, total=9), "Only 2 of the 9 runs of this incident are shown. 2026-"),
]


@pytest.mark.parametrize(("part", "words"), [each[1:] for each in PARTS], ids=[each[0] for each in PARTS])
def test_a_part_of_the_runs_says_so_and_how_to_see_those_before_it(part, words):
    data = explain_data([run(number) for number in range(9)], group="sermons")
    shown = " ".join(explain_text(replace(data, history=replace(data.history, part=part))).split())
    assert "group sermons" in shown
    assert words in shown
    assert ("are shown" in shown) == bool(words)


def failing(troubles):
    """An incident about items: some join and leave, and somebody acts between two runs; returns its id."""
    start = NOW - 23 * MINUTE
    ids = [
        troubles.run_with(start + n * MINUTE, Evidence(cause=Cause.ITEMS_FAILED, count=3), status=RunStatus.COMPLETE)[0]
        for n in range(23)
    ]
    ends = [start + (n + 1) * MINUTE for n in range(23)]
    number = troubles.opened(cause=Cause.ITEMS_FAILED, first_evidence_at=ends[0], opened_at=ends[0])
    troubles.happened(number, ends[0], "joined", run_id=ids[0], count=3)
    troubles.happened(number, ends[0], "opened", run_id=ids[0], channels=["oncall"])
    troubles.happened(number, ends[7] + MINUTE / 2, "acknowledged", "by ana")
    troubles.happened(number, ends[9], "left", run_id=ids[9], count=1)
    return number


@pytest.mark.parametrize("about_items", [False, True], ids=["of requests", "of items"])
def test_the_parts_of_an_incident_are_together_the_whole(engine, monkeypatch, about_items):
    monkeypatch.setattr(explain, "_LEAD", 0)
    troubles = TroubleBuilder(engine)
    number = failing(troubles) if about_items else troubles.rejected(runs=23)

    def read(**part):
        with reading(engine) as conn:
            return explain_json(explain_view(conn, (), number, now=NOW, **part))

    whole, parts, before = read(), [], None
    while before is not None or not parts:
        parts.insert(0, read(limit=5, before=before))
        before = parts[0]["older"]
    during = whole["runs_total"]
    assert (whole["runs_shown"], whole["older"], during) == (during, None, sum(each["runs_shown"] for each in parts))
    assert {each["runs_total"] for each in parts} == {during}
    assert [sum(entry["run_id"] is not None for entry in part["timeline"]) for part in parts[1:]] == [5] * 4
    assert [entry for part in parts for entry in part["timeline"]] == whole["timeline"]
    with pytest.raises(ConfigError, match="has no run 9999"):
        read(before=9999)


RULES = [
    (Cause.TOO_MANY_UNKNOWN, "opens with evidence in 2 of the last 2 runs (if fewer than 2 are within 1h, in all of "),
    (Cause.OUTAGE, "opens with evidence in 2 of the last 2 runs, the first and last at least 3m apart (if fewer "),
    (Cause.SPENDING_LIMIT, "opens at once; resolves after 2 runs without evidence; reminders every 4h"),
    (Cause.ITEMS_FAILED, "opens at once; resolves when every item has recovered or is removed or ignored; "),
    (Cause.CHANNEL_FAILING, "opens when messages can't be delivered; resolves when one is; reminders every 4h"),
]  # fmt: skip


@pytest.mark.parametrize(("cause", "words"), RULES, ids=[each[0].value for each in RULES])
def test_a_rule_is_one_sentence(cause, words):
    assert describe_rule(DEFAULT_RULES[cause]).startswith(words)


def test_as_json_every_run_is_an_entry():
    value = explain_json(explain_data([run(n, 3, inhibited_by=Cause.OUTAGE) for n in range(5)]))
    assert [entry["action"] for entry in value["timeline"]] == ["inhibit"] * 5
    assert value["timeline"][0]["evidence"]["inhibited_by"] == "outage"
    assert value["timeline"][0]["messages"] == []


def test_a_run_that_left_more_items_unknown_than_were_refused_says_how_many_in_all():
    refused = replace(run(0, 5, breakdown={"403": 5}), unknown=207)
    assert ": 5 × 403; 207 items unknown, 5 of them asked" in text([refused])
    assert explain_json(explain_data([refused]))["timeline"][0]["unknown"] == 207
