"""`silences …`, `incidents ack|resolve|explain`, and their effect in the output of other commands."""

import getpass
import json
from datetime import UTC, datetime, timedelta

import pytest
from support.receiver import Receiver

from monitor.cli.session import os_user
from monitor.database.engine import writing
from monitor.incidents import silence_store as silences

CHANNEL = '[[channels]]\nname = "oncall"\ntype = "webhook"\nurl = "{}"\n'
ME = getpass.getuser()


def ok(done):
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_silence_of_an_incident_says_what_it_matches_and_when_it_ends(here, troubled):
    said = ok(here(troubled, "silences", "add", "--incident", "1", "--for", "4h", "--comment", "we\nknow"))
    assert said.splitlines()[:2] == ["Silence 1: cause=items_failed target=gloo", "  from       now"]
    assert f"(4 h), by {ME}\n  matches    #1 gloo: 1 document failed to ingest\n" in said
    (row,) = json.loads(ok(here(troubled, "silences", "list", "--json")))["silences"]
    assert (row["state"], row["matches"], row["comment"], row["author"]) == ("active", [1], "we know", ME)
    assert row["matchers"] == {"cause": ["items_failed"], "target": ["gloo"]}
    listed = ok(here(troubled, "silences", "list")).splitlines()
    assert listed[1].split()[:2] == ["1", "active"]
    assert listed[1].endswith("cause=items_failed target=gloo  (we know)")


def test_a_future_silence_matches_but_has_no_effect_yet(here, troubled):
    said = ok(
        here(
            troubled, "silences", "add", "--match", "cause=items_*", "--match", "cause=unauth*", "--from",
            "2999-01-01T06:00+01:00", "--until", "2999-01-02", "--author", "bo", "--json",
        )
    )  # fmt: skip
    row = json.loads(said)
    assert (row["state"], row["matches"], row["author"]) == ("pending", [2, 1], "bo")
    assert (row["starts_at"], row["ends_at"]) == ("2999-01-01T05:00:00+00:00", "2999-01-02T00:00:00+00:00")
    assert "pending" in ok(here(troubled, "silences", "list"))
    assert "silence" not in ok(here(troubled, "incidents", "list"))
    assert "before it began" in ok(here(troubled, "silences", "expire", "1"))


def test_a_new_silence_is_printed_with_remarks(here, troubled):
    said = ok(here(troubled, "silences", "add", "--match", "target=*", "--until", "2999-01-01T06:00"))
    assert "Times without an offset were taken as UTC." in said
    assert "It matches everything" in said
    said = ok(here(troubled, "silences", "add", "-m", "target=glo", "--from", "2020-01-01", "--for", "1h"))
    assert "from       now" in said
    assert "matches    no open incident" in said
    assert "No configured target matches glo; choose from gloo." in said
    ok(here(troubled, "incidents", "resolve", "1"))
    assert "Incident 1 is resolved" in ok(here(troubled, "silences", "add", "-i", "1", "--for", "1h"))


REFUSED = [
    ([], "say what to silence: --incident 7, or --match cause=outage"),
    (["-i", "1"], "say how long with --for 4h, or until when with --until 2026-03-01T06:00, but not both"),
    (["-i", "1", "--for", "1h", "--until", "2999-01-01"], "but not both"),
    (["-i", "1", "--for", "soon"], "--for: 'soon' is no duration from 1s to 3660d"),
    (["-i", "1", "--until", "06:00"], "--until: '06:00' is no time; write it as in 2026-03-01T06:00"),
    (["-i", "1", "--until", "0001-01-01T00:00+14:00"], "is no time"),
    (["-i", "1", "--until", "2020-01-01"], "--until: 2020-01-01 00:00:00 UTC is not after now; give a later time"),
    (["-i", "1", "--from", "2999-01-02", "--until", "2999-01-01"], "is not after its start, 2999-01-02 00:00:00 UTC"),
    (["-m", "cause=outtage", "--for", "1h"], "--match: there is no cause like outtage; choose from spending_limit,"),
    (["-m", "outage", "--for", "1h"], "--match: there is no attribute 'outage'"),
    (["-i", "1", "-m", "cause=outage", "--for", "1h"], "--match: --incident sets cause already"),
    (["-i", "9", "--for", "1h"], "there is no incident 9; `ingestion-monitor incidents list --all` has all"),
    (["-i", "1", "--for", "1h", "--author", " "], "--author: give a name, or leave the option out"),
]


@pytest.mark.parametrize(("options", "sentence"), REFUSED, ids=[" ".join(each[0]) or "nothing" for each in REFUSED])
def test_an_invalid_silence_is_one_sentence_and_stores_nothing(here, small_world, options, sentence):
    refused = here(small_world, "silences", "add", *options)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert sentence in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert ok(here(small_world, "silences", "list", "--all")) == "No silences.\n"


def test_expiring_a_silence_prints_what_will_be_sent(here, small_world):
    assert ok(here(small_world, "silences", "list")) == "No silence is in force or to come.\n"
    ok(here(small_world, "silences", "add", "--match", "target=gloo", "--for", "4h"))
    small_world.track(1, "FAILED")
    here(small_world, "check")
    said = ok(here(small_world, "silences", "expire", "1", "--by", "bo"))
    assert said == "Silence 1 is ended. Sent with the next delivery, unless another silence matches: #1.\n"
    again = ok(here(small_world, "silences", "expire", "1"))
    assert again.startswith("Silence 1 ended already, at ")
    assert again.endswith("UTC, expired by bo.\n")
    assert "expired" in ok(here(small_world, "silences", "list", "--all"))
    ok(here(small_world, "silences", "add", "--match", "target=other", "--for", "4h"))
    assert ok(here(small_world, "silences", "expire", "2")) == "Silence 2 is ended. It suppressed no opening.\n"
    refused = here(small_world, "silences", "expire", "9")
    assert (refused.returncode, "there is no silence 9" in refused.stderr) == (2, True)


def test_a_silence_that_expired_names_no_user(here, small_world):
    now = datetime.now(UTC)
    with writing(small_world.app.engine) as conn:
        silences.add(
            conn, matchers={"target": ("x",)}, starts_at=now - timedelta(hours=2), ends_at=now - timedelta(hours=1),
            comment="", author="ana", now=now,
        )  # fmt: skip
    assert "  expired  " in ok(here(small_world, "silences", "list", "--all"))
    assert ok(here(small_world, "silences", "expire", "1")).endswith("UTC.\n")


def test_every_view_of_an_incident_shows_silence_and_acknowledgement(here, troubled):
    ok(here(troubled, "silences", "add", "-m", "cause=unauthorized", "--for", "4h", "--comment", "rotating"))
    ok(here(troubled, "incidents", "ack", "1", "--by", "ana"))
    heading, revoked, failed = ok(here(troubled, "incidents", "list")).splitlines()
    assert heading.split()[-1] in {"SILENCED", "ACK", "NOTE"}
    assert "by 1 until " in revoked
    assert failed.split()[1] == "acknowledged"
    assert "ana" in failed
    assert "acknowledged by ana" in ok(here(troubled, "incidents", "show", "1"))
    assert "silence 1 until " in ok(here(troubled, "incidents", "show", "2"))
    two, one = json.loads(ok(here(troubled, "incidents", "list", "--json")))["incidents"]
    assert (one["acknowledged_by"], one["silenced_by"], one["notified"]) == ("ana", None, True)
    assert (two["acknowledged_by"], two["silenced_by"], two["notified"]) == (None, 1, True)
    assert two["silenced_until"] > two["opened_at"]
    checked = here(troubled, "check").stdout
    assert "acknowledged by ana" in checked
    assert "silence 1 until " in checked
    assert "(rotating)" in checked
    report = ok(here(troubled, "report"))
    assert "acknowledged by ana" in report
    assert "silence 1 until " in report
    assert max(len(line) for line in report.splitlines()) <= 80
    (other, *_) = json.loads(ok(here(troubled, "report", "--format", "json")))["open_incidents"]
    assert other["silenced_by"] == 1


def test_an_incident_that_was_always_silenced_shows_the_silence(here, troubled):
    ok(here(troubled, "silences", "add", "-m", "target=gloo", "--for", "4h"))
    troubled.track(1, "MARINATING")
    troubled.sandbox.restore_client()
    here(troubled, "check")
    shown = json.loads(ok(here(troubled, "incidents", "show", "3", "--json")))
    assert (shown["channels"], shown["silenced_by"], shown["notified"]) == ([], 1, False)
    assert "no channel received its opening" in ok(here(troubled, "incidents", "resolve", "3"))
    assert "silence 1" in ok(here(troubled, "incidents", "show", "3"))


def test_ack_prints_who_acknowledged_and_what_follows(here, troubled):
    said = ok(here(troubled, "incidents", "ack", "2", "--comment", "on\tit"))
    assert said.startswith(f"Incident 2 is acknowledged by {ME}: log will be notified with the next")
    assert "No more reminders are sent" in said
    again = ok(here(troubled, "incidents", "ack", "2", "--by", "bo"))
    assert again.startswith(f"Incident 2 was acknowledged by {ME}, ")
    assert "Nothing was" in again
    assert f"acknowledged: acknowledged by {ME}: on it\n" in ok(here(troubled, "incidents", "show", "2"))


def test_resolve_prints_what_happens_next(here, troubled):
    said = ok(here(troubled, "incidents", "resolve", "1", "--by", "ana", "--comment", "deleted on purpose"))
    assert said.startswith("Incident 1 is resolved by ana: log will be notified with the next")
    assert "reopens it within 15 minutes" in said
    assert "items ignore" in said
    assert "items ignore" not in ok(here(troubled, "incidents", "resolve", "2"))
    for command in ("ack", "resolve"):
        refused = here(troubled, "incidents", command, "1")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "error: incident 1 is resolved, since " in refused.stderr
        assert here(troubled, "incidents", command, "9").returncode == 2


def test_a_user_without_a_name_is_shown_by_number(monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert os_user().startswith("uid ")


def test_doctor_warns_of_a_silence_that_matches_everything(here, small_world):
    ok(here(small_world, "silences", "add", "-m", "target=*", "--for", "8d"))
    said = " ".join(here(small_world, "doctor").stdout.split())
    assert f"silence 1 (target=*, by {ME}) matches everything and lasts 8 d" in said
    assert "silences expire 1" in said


# --- incidents explain -----------------------------------------------------------------------------------------------


def test_a_night_is_explained_run_by_run(here, small_world):
    """A key is revoked and restored, the incident is acknowledged in between, and one message is pending."""
    with Receiver() as receiver:
        small_world.configure(more=CHANNEL.format(receiver.url))
        small_world.track(4)
        for _ in range(5):
            small_world.run()
        small_world.sandbox.revoke_client()
        for _ in range(9):
            small_world.run()
        ok(here(small_world, "notify"))
        ok(here(small_world, "incidents", "ack", "1", "--by", "ana", "--comment", "rotating"))
        small_world.sandbox.restore_client()
        small_world.run()
        small_world.run()
        said = ok(here(small_world, "incidents", "explain", "1"))
    lines = said.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert lines[0] == "Incident 1: gloo: the API rejects the credentials"
    text = " ".join(said.split())
    for part in (
        "rule opens with evidence in 2 of the last 2 runs (if fewer than 2 are",
        "2026-03-01 (UTC)",
        "03:02:00 runs 3–5 (3 runs, until 03:04:00): no evidence",
        "03:05:00 run 6, aborted: ",
        " × 401 from the token endpoint; ",
        " unknown",
        "wait: evidence in too few of the last runs [in 1 of the last 2 runs, 2",
        "OPENED: evidence in enough of the last runs [in 2 of the last 2 runs,",
        "→ oncall: opened, sent ",
        "03:07:00 runs 8–14 (7 runs, until 03:13:00): evidence in 7 of them continue: still open",
        "continue: still open [1 run without evidence in a row, 2 needed]",
        "RESOLVED: enough runs without evidence [2 runs without evidence in a row, 2",
        "acknowledged: acknowledged by ana: rotating → oncall: acknowledged, waiting",
    ):
        assert part in text
    as_json = json.loads(ok(here(small_world, "incidents", "explain", "1", "--json")))
    assert as_json["rule"] == as_json["rule_at_opening"]
    assert [entry["run_id"] for entry in as_json["timeline"]] == [*range(3, 17), None]
    opened = next(entry for entry in as_json["timeline"] if entry["action"] == "open")
    assert (opened["run_id"], opened["runs_with_evidence"], opened["of_the_last"], opened["needed"]) == (7, 2, 2, 2)
    assert list(opened["evidence"]["breakdown"]) == ["401 from the token endpoint"]
    assert [(each["kind"], each["channel"], each["status"]) for each in opened["messages"]] == [
        ("opened", "oncall", "sent")
    ]


def test_a_silenced_night_explains_why_no_notification_was_sent(here, small_world):
    with writing(small_world.app.engine) as conn:
        silences.add(
            conn, matchers={"target": ("gloo",)}, starts_at=small_world.clock(), comment="reindexing", author="ana",
            ends_at=small_world.clock() + timedelta(hours=1), now=small_world.clock(),
        )  # fmt: skip
    small_world.configure(more='[[rules]]\ncause = "items_failed"\nrepeat_interval = "10m"\n')
    small_world.track(2, "FAILED")
    for _ in range(15):
        small_world.run()
    small_world.clock.advance(hours=1)
    with writing(small_world.app.engine) as conn:
        assert small_world.app.silence_expiry().notify_expired(conn, now=small_world.clock()) == 1
    small_world.configure()
    said = " ".join(ok(here(small_world, "incidents", "explain", "1")).split())
    for part in (
        "rule opens at once; resolves when every item has recovered or is removed or",
        "rule then a different rule applied at the opening: opens at once; resolves when",
        "03:00:00 run 1, complete: 2 items 2 items joined OPENED: one run with evidence is enough",
        "silence 1 until 2026-03-01 04:00 UTC (reindexing)",
        "silence 1 ended → log: opened, waiting",
        "2026-03-02 04:15:00 UTC",
    ):
        assert part in said


def test_an_incident_without_runs_is_explained_by_its_events(here, small_world):
    with Receiver((401, {}, b"")) as receiver:
        small_world.configure(more=CHANNEL.format(receiver.url))
        small_world.track(1, "FAILED")
        here(small_world, "check", "--quiet")
    said = ok(here(small_world, "incidents", "explain", "2"))
    assert "  rule       opens when messages can't be delivered; resolves when one is;" in said
    assert "opened: messages can't be delivered: HTTP 401\n          → log: opened, sent " in said


def test_explaining_an_unknown_incident_is_an_error(here, small_world):
    refused = here(small_world, "incidents", "explain", "9")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "there is no incident 9" in refused.stderr


def test_several_incidents_can_be_acknowledged_and_failures_are_reported(here, troubled):
    done = here(troubled, "incidents", "ack", "1", "2", "99", "--by", "ana")
    assert done.returncode == 2
    assert done.stdout.count("is acknowledged by ana") == 2
    assert done.stderr == "error: there is no incident 99; `ingestion-monitor incidents list --all` has all\n"
    assert ok(here(troubled, "incidents", "list")).count("ana") == 2


def test_a_simulation_applies_active_silences(here, troubled):
    before = ok(here(troubled, "rules", "test", "--status", "401"))
    ok(here(troubled, "silences", "add", "--match", "cause=unauthorized", "--for", "4h", "--comment", "rotation"))
    after = ok(here(troubled, "rules", "test", "--status", "401"))
    assert "silence 1" not in before
    assert "silence 1" in after
