"""`rules backtest`: what other rules would have done, beside what happened."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, make_url

from monitor.database.engine import writing
from monitor.database.tables import evidence, runs

STRICTER = '[[rules]]\ncause = "unauthorized"\nruns = 1\nresolve_after = 1\n'
LAXER = (
    '[[rules]]\ncause = "unauthorized"\nruns = 5\n[[rules]]\ncause = "items_failed"\nruns = 3\nseverity = "critical"\n'
)


@pytest.fixture
def past(small_world, played):
    """An hour of runs: an item fails in the third, the key is rejected for two runs, and later for one."""
    database = Path(make_url(small_world.database).database)
    if played:
        small_world.close()
        database.write_bytes(played[0])
    else:
        play(small_world)
        played.append(database.read_bytes())
    return small_world


@pytest.fixture(scope="module")
def played():
    """The database after that hour, which is played once."""
    return []


def play(small_world):
    small_world.clock.now = datetime.now(UTC) - timedelta(hours=2)
    item_id, *_ = small_world.track(4)
    for number, refused in enumerate((*3 * (False,), True, True, *5 * (False,), True, False, False), 1):
        if number == 3:
            small_world.sandbox.set_status(item_id, "FAILED")
        if refused:
            small_world.sandbox.revoke_client()
        else:
            small_world.sandbox.restore_client()
        small_world.run()
        small_world.clock.advance(minutes=4)
    small_world.close()


def replayed(here, world, *arguments, code=0):
    done = here(world, "rules", "backtest", "--since", "1d", *arguments)
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout


def with_rules(world, text):
    path = world.config_path.parent / "new.toml"
    path.write_text(text, encoding="utf-8")
    return "--rules", str(path)


def test_the_present_rules_give_what_happened(here, past):
    said = replayed(here, past)
    assert "13 runs of 1 target" in said
    assert "Rules: as configured\nIncidents: 2 the same\n" in said
    assert "would have opened" not in said.lower()
    value = json.loads(replayed(here, past, "--json"))
    assert value["differences"] == {"added": 0, "removed": 0, "moved": 0, "messages": 0, "same": 2}
    for each in value["incidents"]:
        assert {**each["replayed"], "id": each["actual"]["id"]} == each["actual"]
    assert (value["total"], value["shown"], value["inexact"]) == (2, 2, [])


def test_a_stricter_rule_opens_earlier_and_once_more(here, past):
    rules = with_rules(past, STRICTER)
    value = json.loads(replayed(here, past, *rules, "--json"))
    assert value["differences"] == {"added": 1, "removed": 0, "moved": 1, "messages": 0, "same": 1}
    added, moved, _ = value["incidents"]
    assert (added["cause"], added["actual"], added["opened_later_s"]) == ("unauthorized", None, None)
    assert (moved["opened_later_s"], moved["resolved_later_s"]) == (-300, -300)
    (counts,) = (each for each in value["counts"] if each["cause"] == "unauthorized")
    assert (counts["actual"]["opened"], counts["replayed"]["opened"]) == (1, 2)
    assert value["channels"] == [{"channel": "log", "actual": 3, "replayed": 5}]
    said = replayed(here, past, *rules)
    assert "1 [[rules]] of new.toml; [[routes]] as configured" in " ".join(said.split())
    assert "Would have opened, did not (1):" in said
    assert "opens 5 min earlier; resolves 5 min earlier" in " ".join(said.split())


def test_a_laxer_rule_opens_later_or_never(here, past):
    said = " ".join(replayed(here, past, *with_rules(past, LAXER)).split())
    assert "Opened, would not have (1):" in said
    assert "items_failed: opens" in said
    assert "later; severity warning → critical;" in said
    assert "items_failed: while its incident was open, the history has the number of its items" in said


def test_the_list_is_cut_and_says_so(here, past):
    rules = with_rules(past, STRICTER)
    value = json.loads(replayed(here, past, *rules, "--json", "--limit", "1"))
    assert (value["total"], value["shown"], [each["difference"] for each in value["incidents"]]) == (3, 1, ["added"])
    assert "and 2 more: --limit 3 shows all" in replayed(here, past, *rules, "--limit", "1")


def test_routes_can_be_tried(here, past):
    past.configure(more='[[channels]]\nname = "pager"\ntype = "log"\n[[channels]]\nname = "mail"\ntype = "log"\n')
    rules = with_rules(
        past, '[[routes]]\nmatch = { group = "x" }\nchannels = ["mail"]\n[[routes]]\nchannels = ["pager"]\n'
    )
    value = json.loads(replayed(here, past, *rules, "--json"))
    assert value["channels"] == [
        {"channel": "log", "actual": 3, "replayed": 0}, {"channel": "pager", "actual": 0, "replayed": 3},
    ]  # fmt: skip
    assert value["differences"]["messages"] == 2
    assert "groups that items have now" in value["inexact"][0]


def test_a_time_without_incidents_is_said(here, past):
    said = replayed(here, past, "--until", "2020-01-01")
    assert "0 runs of 1 target, 0 rows of evidence" in said
    assert "No run is stored of this time: there is nothing to replay." in said


def test_a_history_that_was_pruned_or_people_acted_in_says_so(here, past):
    assert here(past, "incidents", "resolve", "1").returncode == 0
    with writing(past.app.engine) as conn:
        conn.execute(delete(evidence).where(evidence.c.run_id < 4))
        conn.execute(delete(runs).where(runs.c.id < 4))
    said = " ".join(replayed(here, past, "--since", "90d").split())
    assert "the history begins at" in said
    assert "1 acknowledgement or resolution by people took place" in said
    assert "1 of 1 acknowledgements and resolutions by people met no open incident in the replay" in said


def test_runs_that_were_pruned_after_the_first_are_counted(here, past):
    assert "pruned" not in replayed(here, past)
    with writing(past.app.engine) as conn:
        conn.execute(delete(evidence).where(evidence.c.run_id.between(2, 6)))
        conn.execute(delete(runs).where(runs.c.id.between(2, 6)))
    said = " ".join(replayed(here, past).split())
    assert "5 runs of gloo in this time were pruned: what opened or resolved then can't be replayed" in said


WRONG = {
    "no such target": (["--target", "nope"], "nope"),
    "no duration": (["--since", "soon"], "--since"),
    "the future": (["--until", "2999-01-01"], "--until: this time is still to come"),
    "no such file": (["--rules", "nope.toml"], "nope.toml can't be read"),
}


@pytest.mark.parametrize(("arguments", "sentence"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_an_error(here, small_world, arguments, sentence):
    done = here(small_world, "rules", "backtest", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr


def test_candidates_with_problems_are_an_error(here, small_world):
    done = here(small_world, "rules", "backtest", *with_rules(small_world, '[[rules]]\ncause = "outrage"\nruns = 0\n'))
    assert (done.returncode, done.stdout) == (2, "")
    assert "new.toml, line 2: rules[0].cause" in done.stderr
    assert "new.toml, line 3: rules[0].runs" in done.stderr


UNKNOWABLE = """
[[rules]]
cause = "canary_failed"
runs = 5
[[rules]]
cause = "items_failed"
by = "group"
[[rules]]
cause = "items_unverified"
runs = 5
"""


def test_what_the_history_cannot_say_is_said_for_each_rule_that_asks_it(here, past):
    value = json.loads(replayed(here, past, *with_rules(past, UNKNOWABLE), "--json"))
    said = {sentence.partition(":")[0]: sentence for sentence in value["inexact"]}
    assert sorted(said) == ["canary_failed", "items_failed", "items_unverified"]
    assert "`by` changes nothing here" in said["items_failed"]
    assert "`runs` changes nothing here" in said["items_unverified"]
    assert "its incidents open and resolve as they did" in said["canary_failed"]
    assert value["differences"]["same"] == 2
