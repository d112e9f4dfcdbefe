"""/api/v1 over real HTTP: the JSON of the commands, its OpenAPI description, and errors as one sentence."""

import json
import threading
from datetime import UTC, datetime
from urllib.parse import quote

import jsonschema
import pytest
from sqlalchemy import update
from support.observed import until
from web.served import Served, ask

from monitor.config import load_config
from monitor.database.engine import writing
from monitor.database.tables import items
from monitor.web.api import routes

SLO = '[[slos]]\nname = "in time"\nobjective = 0.95\nwithin = "15m"\n'
HOOK = '[[channels]]\nname = "hook"\ntype = "webhook"\nurl = "http://127.0.0.1:9/"\nallow_http = true\n'
STRANGE = "folder/a b.pdf"
ODD = ("\x1b[31mred", "\u202eabc", "\ud7ff", "../../etc/passwd", "%", "a" * 3000, "<script>", "' OR 1=1 --")


@pytest.fixture
def world(small_world):
    """A target with two items that are done, one failed, one missing, and their incidents."""
    small_world.configure(more=SLO + HOOK)
    small_world.track(2)
    (failed,) = small_world.track(1, "FAILED")
    small_world.record("00000000-0000-4000-8000-000000000001", STRANGE)
    for _ in range(3):
        small_world.run()
    small_world.failed = failed
    return small_world


@pytest.fixture
def served(world):
    with Served(load_config(world.config_path, environ={"MONITOR_WEB__LISTEN": "127.0.0.1:0"})) as served:
        until(lambda: served.logged_events("web_listening"), "endpoints that listen")
        yield served


def get(served, path):
    answer = ask(served.address, f"/api/{path}")
    assert answer.headers["content-type"].startswith("application/json")
    return answer


def without_time(value):
    """JSON without what depends on the moment of asking."""
    moving = {"generated_at", "bounds", "samples", "age", "age_s", "values", "since", "now", "start", "end"}
    if isinstance(value, dict):
        return {key: without_time(each) for key, each in value.items() if key not in moving}
    return [without_time(each) for each in value] if isinstance(value, list) else value


def test_each_route_answers_what_its_command_prints(world, served, here):
    pairs = {
        "v1/report?since=7d": ("report", "--peek"),
        "v1/report?target=gloo": ("report", "--peek", "--target", "gloo"),
        "v1/gate/gloo": ("gate", "gloo"),
        "v1/history?limit=2": ("history", "--limit", "2"),
        "v1/incidents?state=open&state=acknowledged": ("incidents", "list"),
        "v1/incidents": ("incidents", "list", "--all"),
        "v1/incidents/1": ("incidents", "show", "1"),
        "v1/incidents/1/explain": ("incidents", "explain", "1"),
        "v1/items": ("items", "list"),
        "v1/items?state=failed&state=not_found&limit=1": (
            "items", "list", "--state", "failed", "--state", "not_found", "--limit", "1",
        ),
        f"v1/items/gloo/{world.failed}": ("items", "show", world.failed),
        f"v1/items/gloo/{quote(STRANGE)}": ("items", "show", STRANGE),
        f"v1/items/gloo/{quote(STRANGE, safe='')}": ("items", "show", STRANGE),
        "v1/silences": ("silences", "list"),
        "v1/silences?past=true": ("silences", "list", "--all"),
        "v1/slos": ("slo",),
        "v1/notifications": ("notifications", "list"),
        "v1/notifications?delivered=true&channel=hook": ("notifications", "list", "--all", "--channel", "hook"),
        "v1/rules?target=gloo": ("rules", "list", "--target", "gloo"),
    }  # fmt: skip
    assert here(world, "silences", "add", "--incident", "1", "--for", "4h").returncode == 0
    for path, command in pairs.items():
        answer, printed = get(served, path), here(world, *command, "--json")
        assert answer.status == 200, path
        assert without_time(answer.json) == without_time(json.loads(printed.stdout)), path


def test_targets_are_listed_with_their_gates(served):
    (target,) = get(served, "v1/targets").json["targets"]
    assert (target["name"], target["provider"]) == ("gloo", "gloo")
    assert target["gate"] == get(served, "v1/gate/gloo").json


def test_providers_are_described(served):
    listed = get(served, "v1/providers").json["providers"]
    assert "openai" in {each["name"] for each in listed}
    assert get(served, "v1/providers/openai").json["name"] == "openai"


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("v1/report?since=soon", 400, "since: 'soon' is no duration"),
        ("v1/report?since=5m", 400, "1h to 3653d"),
        ("v1/report?target=nowhere", 400, "there is no target 'nowhere'; choose from gloo"),
        ("v1/history?limit=0", 400, "limit: "),
        ("v1/history?limit=many", 400, "limit: "),
        ("v1/history?target=%00", 400, "there is no target '\\x00'"),
        ("v1/gate/nowhere", 404, "there is no target 'nowhere'"),
        ("v1/incidents?state=bad", 400, "state: "),
        ("v1/incidents/99", 404, "there is no incident 99"),
        ("v1/incidents/99/explain", 404, "there is no incident 99"),
        ("v1/incidents/1/explain?before=999999", 400, "before: gloo has no run 999999"),
        ("v1/incidents/nine", 404, "there is no incident 'nine'"),
        (f"v1/incidents/{2**63}", 404, "there is no incident"),
        ("v1/items?group=%00", 400, "group: "),
        ("v1/items?state=failed&state=gone", 400, "state: must be one of completed, pending"),
        ("v1/items/gloo/none", 404, "has no tracked item 'none'"),
        ("v1/items/gloo/%00", 404, "has no tracked item"),
        ("v1/slos?target=nowhere", 400, "there is no target 'nowhere'"),
        ("v1/notifications?channel=nowhere", 400, "there is no channel 'nowhere'"),
        ("v1/rules?target=nowhere", 400, "nowhere"),
        ("v1/providers/none", 404, "there is no description of 'none'"),
        ("v1/nothing", 404, ""),
    ],
)
def test_what_is_wrong_is_one_sentence(served, path, status, says):
    answer = get(served, path)
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert says in answer.json["error"]


def test_odd_text_in_a_path_or_parameter_is_no_error_of_the_server(served):
    for text in ODD:
        word = quote(text, safe="")
        for path in (f"v1/items/gloo/{word}", f"v1/history?target={word}", f"v1/items?group={word}", f"v1/gate/{word}"):
            assert get(served, path).status in {200, 400, 404}, path


def test_answers_have_the_form_that_openapi_describes(served):
    described = get(served, "openapi.json").json
    assert described["openapi"].startswith("3.")
    paths = described["paths"]
    assert all(list(operations) == ["get"] for operations in paths.values())
    filled = {"{number}": "1", "{target}": "gloo", "{target:path}": "gloo", "{name}": "openai", "{item_id:path}": "x"}
    for path, operations in paths.items():
        address = path
        for name, value in {**filled, "{item_id}": "x"}.items():
            address = address.replace(name, value)
        answer = get(served, address.removeprefix("/api/"))
        responses = operations["get"]["responses"]
        assert str(answer.status) in responses, path
        schema = responses[str(answer.status)]["content"]["application/json"]["schema"]
        jsonschema.validate(answer.json, schema)
    assert "422" not in json.dumps(described)


def test_no_answer_is_encoded_in_the_loop_of_the_daemon(served, monkeypatch):
    threads, render = [], routes._Json.render

    def recorded(self, content):
        threads.append(threading.current_thread())
        return render(self, content)

    monkeypatch.setattr(routes._Json, "render", recorded)
    for path in ("report", "targets", "incidents", "items?limit=1000", "slos", "rules"):
        assert get(served, f"v1/{path}").status == 200
    assert len(threads) == 6
    assert served.thread not in threads


def test_an_unknown_target_of_the_rules_is_no_option_of_a_command(served):
    answer = get(served, "v1/rules?target=nope")
    assert (answer.status, answer.json["error"].partition(";")[0]) == (400, "target: there is no target 'nope'")


def test_no_text_in_an_answer_reorders_what_follows(world, served):
    with writing(world.app.engine) as conn:
        conn.execute(update(items).values(stage="\u202egnp.exe"))
    answer = get(served, "v1/items?state=failed")
    assert (b"\\u202egnp.exe" in answer.body, "\u202e" in answer.body.decode()) == (True, False)
    assert answer.json["items"][0]["stage"] == "\u202egnp.exe"


@pytest.mark.parametrize(
    "item_id",
    [
        "Screenshot 9.41.00\u202fAM.png",
        "資料\u30002026.pdf",
        "\u200fملف\u200e",
        "👨\u200d👩\u200d👧.md",
        "x\u202egnp",
        "ÉCHEC",
    ],
)
def test_an_item_is_found_by_every_text_that_is_stored(world, served, item_id):
    with writing(world.app.engine) as conn:
        named = update(items).where(items.c.item_id == world.failed)
        conn.execute(named.values(item_id=item_id, group_name=item_id, stage=item_id))
    word = quote(item_id, safe="")
    assert get(served, f"v1/items/gloo/{word}").json["item_id"] == item_id
    for name in ("group", "stage"):
        assert [each["item_id"] for each in get(served, f"v1/items?{name}={word}").json["items"]] == [item_id]


def test_an_item_that_is_not_known_yet_costs_no_search_for_ids_like_it(served, monkeypatch):
    def search(*_, **__):
        pytest.fail("it reads all items")

    monkeypatch.setattr("monitor.reports.item_queries.similar_ids", search)
    assert get(served, "v1/items/gloo/not-there-yet").status == 404


def test_items_that_are_not_tracked_any_more_are_listed_by_their_state(world, served):
    now = datetime.now(UTC)
    with writing(world.app.engine) as conn:
        conn.execute(update(items).where(items.c.item_id == world.failed).values(removed_at=now))
        conn.execute(update(items).where(items.c.item_id == STRANGE).values(ignored_at=now))
    found = {state: get(served, f"v1/items?state={state}").json["items"] for state in ("removed", "ignored")}
    assert {state: [each["item_id"] for each in rows] for state, rows in found.items()} == {
        "removed": [world.failed],
        "ignored": [STRANGE],
    }
    assert get(served, "v1/items?state=removed&state=ignored").json["total"] == 2


@pytest.fixture
def fleet(tmp_path, store_url):
    """Many targets, of which none has run."""
    path, name = tmp_path / "monitor.toml", '[[targets]]\nname = "t{:03}"\nprovider = "gloo"\npublisher_id = "p"\n'
    auth = 'auth = {{ api_key = "k{}" }}\n'
    targets = "".join(name.format(n) + auth.format(n) for n in range(120))
    path.write_text(f'database = "{store_url}"\n[web]\nlisten = "127.0.0.1:0"\n{targets}', encoding="utf-8")
    with Served(load_config(path, environ={})) as served:
        until(lambda: served.logged_events("web_listening"), "endpoints that listen")
        yield served


def test_a_report_on_many_targets_is_read_part_by_part(fleet):
    refused = get(fleet, "v1/report")
    assert (refused.status, "120 targets are configured" in refused.json["error"]) == (400, True)
    assert "limit=100 and offset=" in refused.json["error"]
    parts = [get(fleet, f"v1/report?limit=50&offset={offset}").json for offset in (0, 50, 100, 150)]
    found = [each["target"] for part in parts for each in part["targets"]]
    assert (found, {part["targets_total"] for part in parts}) == ([f"t{n:03}" for n in range(120)], {120})
    assert [each["target"] for each in get(fleet, "v1/report?target=t007").json["targets"]] == ["t007"]


def test_a_name_that_is_unknown_among_many_gets_the_nearest_ones(fleet):
    for path in ("v1/report?target=t11", "v1/gate/t11"):
        sentence = get(fleet, path).json["error"]
        assert sentence.startswith("there is no target 't11'; choose from t11"), sentence
        assert (sentence.count(","), sentence.endswith(" or 115 others")) == (4, True)


def test_the_gates_of_all_targets_are_those_of_each(fleet):
    every = get(fleet, "v1/targets").json["targets"]
    assert (len(every), every[3]["gate"]) == (120, get(fleet, "v1/gate/t003").json)
