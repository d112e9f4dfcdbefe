"""A key that the API repeats: a long one is in nothing that is printed, stored or sent, a short one changes nothing.

A test makes six runs and calls thirty commands, so it takes two seconds or more.
"""

import base64
import json
from urllib.parse import quote

import pytest
from support.receiver import Receiver

LONG = "canary/key+7c1f"
SHORT = "index"
ITEMS = 8
STATES = ("status", "code", "message", "request_id", "page", "text", "header", "refusal")


def answers(key, item_id):
    """What the API says of one item each, the key in a different place."""
    envelope = {"code": f"no_{key}", "message": f"bad {key}", "request_id": f"r-{key}", "trace_id": key}
    return {
        "status": {"status": 200, "body": {"item_id": item_id, "status": f"{key}ed"}},
        "code": {"status": 400, "body": envelope},
        "message": {"status": 500, "body": {"error": f"{key} failed", "detail": [{"loc": [key], "msg": key}]}},
        "request_id": {"status": 404, "body": {}, "headers": {"x-request-id": f"q-{key}"}},
        "page": {"status": 404, "body": f"<html><title>no {key} here</title></html>", "headers": {"server": key}},
        "text": {"status": 403, "body": f"denied: {key}", "headers": {"via": f"1.1 {key}"}},
        "header": {"status": 503, "body": None, "headers": {"x-request-id": key}},
        "refusal": {"status": 200, "body": {"code": f"code_{key}", "message": f"key {key} unknown"}},
    }


def played(world, here, key, receiver):
    """All that two runs, the commands and the channel show or keep, as one text; and the items."""
    world.configure(
        auth=f'{{ api_key = "{key}" }}',
        check="max_attempts = 1",
        more=f'[[channels]]\nname = "hook"\ntype = "webhook"\nurl = "{receiver.url}"\n',
    )
    made = world.track(ITEMS)
    for item_id, fault in zip(made, zip(STATES, [answers(key, each) for each in made], strict=True), strict=True):
        name, by_name = fault
        world.sandbox.add_fault(path=f"/engine/v2/items/{item_id}", **by_name[name])
    said = []
    for _ in range(3):
        said += [here(world, "check", "--log-level", "debug"), here(world, "check", "--json")]
    listed = json.loads(here(world, "items", "list", "--json").stdout)["items"]
    said += [here(world, "items", "list", "--wide"), here(world, "items", "list", "--json"), here(world, "doctor")]
    said += [here(world, "items", "show", each) for each in made]
    said += [here(world, "wait", "gloo", *made, "--timeout", "1s", "--log-level", "debug")]
    said += [here(world, "wait", "gloo", *made, "--timeout", "1s", "--json"), here(world, "status", "gloo", *made)]
    said += [here(world, "incidents", kind, str(n)) for n in range(1, 6) for kind in ("show", "explain")]
    said += [here(world, "incidents", "show", str(n), "--json") for n in range(1, 6)]
    with world.app.engine.connect() as conn:
        stored = [
            repr(conn.exec_driver_sql(f"SELECT * FROM {table}").all())
            for table in (
                "items",
                "item_events",
                "evidence",
                "incidents",
                "incident_events",
                "notifications",
                "runs",
                "waits",
            )
        ]
    sent = [repr(each) for each in receiver.got]
    return "\n".join([*(each.stdout + each.stderr for each in said), *stored, *sent]), listed


@pytest.fixture
def receiver():
    with Receiver() as running:
        yield running


def spellings(secret):
    raw = secret.encode()
    inner = [base64.b64encode(b"x" * n + raw).decode()[4:-4] for n in range(3)]
    return {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], *inner}


def test_a_long_key_is_shown_stored_and_sent_nowhere(world, here, receiver):
    everything, listed = played(world, here, LONG, receiver)
    assert [each for each in spellings(LONG) if each in everything] == []
    assert len(listed) == ITEMS
    assert "**********" in everything


@pytest.mark.process
def test_a_short_key_changes_nothing_that_the_api_says(world, here, receiver):
    everything, listed = played(world, here, SHORT, receiver)
    assert "indexed" in {each["stage"] for each in listed}
    assert {"no_index", "code_index"} <= {each["code"] for each in listed}
    assert {"r-index", "q-index", "index"} <= {each["request_id"] for each in listed}
    assert "no index here" in {each["page"] for each in listed}
    assert "indexed" in everything
