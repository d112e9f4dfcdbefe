"""`monitor.api` against the sandbox: as a program that uses it sees it."""

import asyncio
import logging
import subprocess
import sys
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from support.world import environment

from monitor.api import ApiError, Cause, ConfigError, File, Item, ItemState, Operation, WaitResult, connect
from monitor.api.errors import ApiError as RaisedError
from monitor.config import load_config
from monitor.model.http import ApiError as Failure
from monitor.model.http import NetworkFault
from monitor.sandbox import Sandbox, SandboxSettings

ROOT = Path(__file__).parents[2]
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
ITEM = "/engine/v2/items/{item_id}"


@pytest.fixture
def site(small_world):
    small_world.close()
    return small_world


def use(site, work, *, target="gloo", config=None):
    """Runs `work(engine)` with a connected engine."""

    async def main():
        async with connect(config or site.config_path, target) as engine:
            return await work(engine)

    return asyncio.run(main())


def raised(site, work, kind=ApiError):
    with pytest.raises(kind) as caught:
        use(site, work)
    return caught.value


def test_it_waits_and_leaves_a_row(site):
    (good,), (failed,) = site.sandbox.create_items(1, status="COMPLETED"), site.sandbox.create_items(1, status="FAILED")
    outcome = use(site, lambda engine: engine.wait([good, failed, good], timeout=30))
    assert (outcome.result, outcome.completed) == (WaitResult.FAILED, False)
    assert [(item.id, item.state, item.settled) for item in outcome.items] == [
        (good, ItemState.COMPLETED, True),
        (failed, ItemState.FAILED, True),
    ]
    assert [item.id for item in outcome.unfinished] == [failed]
    (row,) = site.rows("SELECT id, result, asked, requests FROM waits")
    assert row == {"id": outcome.wait_id, "result": "failed", "asked": 2, "requests": outcome.requests}


def test_a_wait_that_is_given_up_is_stored(site):
    ids = site.sandbox.create_items(1, status="EMBEDDING")

    async def give_up(engine):
        async with asyncio.timeout(0.5):
            await engine.wait(ids)

    raised(site, give_up, TimeoutError)
    assert site.rows("SELECT result FROM waits") == [{"result": "interrupted"}]


def test_get_asks_about_many_and_raises_for_none(site):
    (good,) = site.sandbox.create_items(1, status="COMPLETED")
    found = use(site, lambda engine: engine.get(iter([good.upper(), UNKNOWN_ID, "nonsense", " "])))
    assert [(item.id, item.state) for item in found] == [
        (good, ItemState.COMPLETED),
        (UNKNOWN_ID, ItemState.NOT_FOUND),
        ("nonsense", ItemState.INVALID),
    ]
    assert (found[1].error.status, found[1].error.cause) == (404, Cause.WRONG_SCOPE)
    assert site.rows("SELECT * FROM waits") == []


def test_status_is_about_one_item_and_raises_if_there_is_no_answer(site):
    (item_id,) = site.sandbox.create_items(1, status="EMBEDDING")
    item = use(site, lambda engine: engine.status(item_id, timeout="20s"))
    assert isinstance(item, Item)
    assert (item.state, item.stage) == (ItemState.PENDING, "EMBEDDING")
    site.sandbox.revoke_client()
    error = raised(site, lambda engine: engine.status(item_id))
    assert (error.status, error.cause, error.code) == (401, Cause.UNAUTHORIZED, "invalid_client")
    assert "blank" in str(raised(site, lambda engine: engine.status(" "), ConfigError))


def test_it_uploads_retrieves_and_deletes(site):
    async def work(engine):
        answer = await engine.request(
            "post",
            "/ingestion/v2/files",
            form={"publisher_id": engine.params["publisher_id"]},
            files={"files": File(name='a "letter"\n.txt', content=b"on \r\n patience", content_type="text/plain")},
        )
        (item_id,) = answer.json()["ingesting"]
        site.sandbox.set_status(item_id, "COMPLETED")
        waited = await engine.wait(item_id)
        snippets = await engine.request(
            "GET", "/engine/v1/files/{item_id}/snippets", params={"item_id": item_id}, query={"limit": 5}
        )
        deleted = await engine.request(
            "DELETE", "/engine/v2/items", json={"item_ids": [item_id]}, operation=Operation.CLOSE
        )
        return waited, snippets.json(), deleted.json()

    waited, snippets, deleted = use(site, work)
    assert waited.completed
    assert snippets["data"][0]["snippet"] == "on    patience"
    assert deleted["total_deleted"] == 1


def test_an_error_has_all_fields_and_a_text_without_the_apis_words(site):
    error = raised(site, lambda engine: engine.request("GET", ITEM, params={"item_id": UNKNOWN_ID}))
    assert (error.status, error.code, error.network, error.retry_after) == (404, "Item not found", None, None)
    assert "does not exist" in error.message
    assert str(error) == "GET /engine/v2/items/{item_id}: HTTP 404 Item not found"
    own = {"cached", "gateway", "page", "meaning", "from_backoff", "from_token_endpoint"}
    assert {each.name for each in fields(Failure)} - own <= vars(error).keys()


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (Failure(status=503, request_id="r-1"), "GET /x: HTTP 503 (request id r-1)"),
        (Failure(status=None, network=NetworkFault.TIMEOUT), "GET /x: no usable response (timeout)"),
        (Failure(status=None, code="deadline_exceeded"), "GET /x: deadline exceeded"),
        (Failure(status=None), "GET /x: no answer"),
    ],
)
def test_the_text_of_an_error(failure, text):
    assert str(RaisedError(failure, method="GET", template="/x")) == text


OPERATIONS = {
    "a read is repeated": ("GET", None, 503, 2, None),
    "a write is repeated after a 503": ("POST", None, 503, 2, None),
    "a write is not repeated after a reset": ("POST", None, "drop", 1, 1),
    "a deletion may be repeated after a reset": ("POST", "close", "drop", 2, None),
    "a write is repeated twice at most": ("POST", None, 503, 9, 3),
}


@pytest.mark.parametrize(("method", "operation", "fault", "count", "fails_after"), OPERATIONS.values(), ids=OPERATIONS)
def test_the_operation_says_what_may_be_repeated(site, method, operation, fault, count, fails_after, monkeypatch):
    monkeypatch.setattr("monitor.client.retry._INITIAL_BACKOFF_S", 0.01)
    path = "/engine/v2/publisher/{publisher_id}/items" + ("/by-producer" if method == "POST" else "")
    site.sandbox.add_fault(f"{fault}:path=/engine,count={count}")
    body = {"producer_ids": ["x"]} if method == "POST" else None

    async def ask(engine):
        return await engine.request(method, path, json=body, operation=operation)

    if fails_after is None and method == "GET":
        assert use(site, ask).attempts == count + 1
        return
    error = raised(site, ask)
    sent = site.sandbox.requests(f"{method} ")
    expected = fails_after if fails_after is not None else count + 1
    assert sent - site.sandbox.requests("POST /oauth2/token") == expected
    assert (error.status == 404) == (fails_after is None)  # it came through: no such producer


def test_a_service_that_was_down_is_tried_again_by_the_next_call(site, monkeypatch):
    monkeypatch.setattr("monitor.client.retry._INITIAL_BACKOFF_S", 0.01)
    (item_id,) = site.sandbox.create_items(1, status="COMPLETED")

    async def work(engine):
        site.sandbox.add_fault("503:path=/engine")
        errors = []
        for _ in range(3):
            try:
                await engine.request("GET", ITEM, params={"item_id": item_id})
            except ApiError as error:
                errors.append(error.status)
        site.sandbox.clear_faults()
        return errors, await engine.request("GET", ITEM, params={"item_id": item_id})

    errors, response = use(site, work)
    assert (errors[0], response.status) == (503, 200)


def deep():
    """A list that holds itself hundreds of thousands of times."""
    value = []
    for _ in range(200_000):
        value = [value]
    return value


WRONG = {
    "a target that is not there": (lambda engine: engine, "nowhere", "there is no target 'nowhere'; choose from gloo"),
    "an absolute URL": (lambda engine: engine.request("GET", "https://elsewhere.example/"), None, "begin with a slash"),
    "a parameter that is not given": (lambda engine: engine.request("GET", ITEM), None, "needs item_id"),
    "a dot segment": (lambda engine: engine.request("GET", ITEM, params={"item_id": ".."}), None, "can't be sent"),
    "a method that is none": (lambda engine: engine.request("FETCH", "/x"), None, "the method 'FETCH' is none of"),
    "an operation that is none": (
        lambda engine: engine.request("GET", "/x", operation="token"),
        None,
        "'token' is none",
    ),
    "two bodies": (lambda engine: engine.request("POST", "/x", json={}, content=b"x"), None, "one body"),
    "a body that is no JSON": (lambda engine: engine.request("POST", "/x", json={1, 2}), None, "no JSON value"),
    "a body without end": (lambda engine: engine.request("POST", "/x", json=deep()), None, "no JSON value"),
    "a form that is no text": (
        lambda engine: engine.request("POST", "/x", form={"a": "\ud800"}),
        None,
        "no Unicode text",
    ),
    "an odd content type": (
        lambda engine: engine.request("POST", "/x", files={"f": File(name="a", content=b"", content_type="ä")}),
        None,
        "content type",
    ),
    "no header's name": (lambda engine: engine.request("GET", "/x", headers={"a b": "c"}), None, "no name of a header"),
    "a header of the client": (
        lambda engine: engine.request("POST", "/x", json={}, headers={"Content-Length": "1"}),
        None,
        "set by the client",
    ),
    "no Unicode in the path": (
        lambda engine: engine.request("GET", "/x/{id}", params={"id": "\ud800"}),
        None,
        "no Unicode text",
    ),
    "an odd header": (lambda engine: engine.request("GET", "/x", headers={"X": "a\nb"}), None, "one line"),
    "a timeout of nothing": (lambda engine: engine.get("x", timeout=0), None, "above zero"),
    "a timeout that is none": (lambda engine: engine.get("x", timeout="soon"), None, "above zero"),
}


@pytest.mark.parametrize(("work", "target", "said"), WRONG.values(), ids=WRONG)
def test_what_can_not_be_sent_is_one_sentence(site, work, target, said):
    with pytest.raises(ConfigError, match=r"\w") as caught:
        use(site, work, target=target or "gloo")
    assert said in str(caught.value)


@pytest.mark.parametrize("item_id", ["a\ud800", "a\0b"], ids=["no Unicode", "a NUL"])
def test_an_id_that_no_database_takes_is_invalid(site, item_id):
    (item,) = use(site, lambda engine: engine.get(item_id))
    assert item.state is ItemState.INVALID


def test_an_id_can_not_change_the_path(site):
    error = raised(site, lambda engine: engine.request("GET", ITEM, params={"item_id": "../x?y#z/ü"}))
    assert error.status in {400, 404}
    assert site.sandbox.requests("GET /engine/v2/items/{item_id}") + site.sandbox.requests(" 404") >= 1


def test_a_configuration_may_be_given_as_it_was_loaded(site):
    config = load_config(site.config_path, environ={})
    assert use(site, lambda engine: engine.get([]), config=config) == ()


def test_logs_go_to_the_logger_of_the_program(site, caplog, capsys):
    structlog.reset_defaults()
    site.sandbox.add_fault("500:path=/engine")
    with caplog.at_level(logging.DEBUG):
        raised(site, lambda engine: engine.request("POST", "/engine/v2/publisher/{publisher_id}/items/by-producer"))
    ours = [record for record in caplog.records if record.name == "ingestion_monitor"]
    assert [record.levelname for record in ours] == ["WARNING"]
    assert '"event":"requests_failed"' in ours[0].getMessage()
    assert site.sandbox.settings.client_secret not in caplog.text
    assert capsys.readouterr().err == ""


def test_a_timeout_may_be_a_timedelta(site):
    (item_id,) = site.sandbox.create_items(1, status="EMBEDDING")
    outcome = use(site, lambda engine: engine.wait(item_id, timeout=timedelta(seconds=1)))
    assert (outcome.result, outcome.duration < timedelta(seconds=3)) == (WaitResult.TIMED_OUT, True)


@pytest.mark.process
def test_the_example_plays_the_tutorial(tmp_path):
    """Over 2 s: a process, real retries, and documents that take a second."""
    text = (ROOT / "examples/monitor.toml").read_text()
    with Sandbox(SandboxSettings(item_seconds=1)) as sandbox:
        (tmp_path / "monitor.toml").write_text(text.replace("http://127.0.0.1:8080", sandbox.url))
        done = subprocess.run(
            [sys.executable, ROOT / "examples/upload_and_wait.py", tmp_path / "monitor.toml"],
            capture_output=True, text=True, check=False, cwd=tmp_path, env=environment(), timeout=120,
        )  # fmt: skip
        left = sandbox.stats()["items"]
    assert (done.returncode, done.stderr, left) == (0, "", 0)
    steps = [line.partition(": ")[::2] for line in done.stdout.splitlines()]
    assert [step for step, _ in steps] == [f"Step {n}" for n in (1, 2, 2, 3, 4, 5, 6)]
    said = done.stdout
    for fact in ("status=404", "status=400", "after 3 attempts", "2 uploaded, completed", "2 completed, 1 not found",
                 "cleaned up 2 items"):  # fmt: skip
        assert fact in said


def test_the_example_is_short_and_names_the_sandbox():
    code = (ROOT / "examples/upload_and_wait.py").read_text().split('"""')[2]
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 30
    config = load_config(ROOT / "examples/monitor.toml", environ={})
    assert [each.name for each in config.targets] == ["sandbox"]
