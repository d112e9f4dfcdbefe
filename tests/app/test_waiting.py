"""Waits as they are wired: batches, APIs that have only a list, and the path parameters of rows."""

import asyncio
import contextlib
import json
import sqlite3
import time
from datetime import UTC, datetime, timedelta

import pytest
from support.loopback import AnsweringHandler, LoopbackServer

from monitor.app import App, build_provider, open_database
from monitor.app.waiting import Waiting, client_for, entries_of, uploads_since, watched_items
from monitor.config import load_config
from monitor.errors import ConfigError
from monitor.model import ItemState
from monitor.runs.canary.requests import item_asker
from monitor.waits.rules import WaitResult

CONFIG = """
database = "sqlite:///monitor.db"
[[targets]]
name = "docs"
provider = "generic"
base_url = "{url}"
statuses = {{ completed = ["done"], failed = ["bad"], pending = ["busy"] }}
{more}
"""
BATCH = """[targets.item]
method = "POST"
path = "/many"
body = { ids = "{item_ids}" }
batch = 3
items = "docs"
status = "state"
id = "id"
"""
LIST = '[targets.list]\npath = "/all"\nitems = "docs"\nstatus = "state"'
ROWS = """[targets.item]
path = "/spaces/{space}/{item_id}"
status = "state"
[targets.sync_log]
url = "sqlite:///pipeline.db"
submitted_at_column = "at"
param_columns = { space = "room" }
"""


class Engine(LoopbackServer):
    """Answers each way of asking about the documents in `states`, busy ones twice; `broken`: with this status."""

    def __init__(self, **states):
        self.states, self.asked, self.broken, engine = states, [], 0, self

        def state(doc):
            found = engine.states[doc]
            if found == "busy" and sum(doc in ids for ids in engine.asked) > 2:
                return "done"
            return found

        class Handler(AnsweringHandler):
            def get(self):
                ids = list(engine.states) if self.path == "/all" else [self.path.rpartition("/")[2]]
                self.answer(ids, whole=self.path == "/all")

            def post(self):
                self.answer(json.loads(self.read_body())["ids"], whole=True)

            def answer(self, ids, *, whole):
                engine.asked.append(ids)
                if engine.broken:
                    self.reply(engine.broken, {}, {"code": "broken"})
                    return
                docs = [{"id": doc, "state": state(doc)} for doc in ids if doc in engine.states]
                if whole:
                    self.reply(200, {}, {"docs": docs})
                else:
                    self.reply(200 if docs else 404, {}, docs[0] if docs else {"code": "no_such_document"})

        super().__init__(Handler)


@pytest.fixture
def site(tmp_path):
    """Call it with an engine and further settings for a function that waits."""
    with contextlib.ExitStack() as stack:

        def configured(engine, more):
            (tmp_path / "monitor.toml").write_text(CONFIG.format(url=engine.url, more=more))
            config = load_config(tmp_path / "monitor.toml", environ={})
            database = open_database(config)
            stack.callback(database.dispose)
            return Site(App(config=config, engine=database))

        yield configured


class Site:
    def __init__(self, app):
        self.app, self.target = app, app.config.targets[0]
        self.provider = build_provider(self.target)

    def wait(self, entries, *, timeout_s=10):
        if entries and isinstance(entries[0], str):
            entries = entries_of(self.provider, entries)

        async def main():
            items = watched_items(self.app, self.target, self.provider, entries)
            async with client_for(self.app, self.target, self.provider) as client:
                waiting = Waiting(app=self.app, target=self.target, provider=self.provider, client=client)
                timeout = timedelta(seconds=timeout_s)
                return await waiting.run(waiting.wait(items, timeout=timeout, interrupt=asyncio.Event()))

        return asyncio.run(main())


def columns(report):
    return {item.item_id: item.column for item in report.items}


def test_many_ids_are_asked_about_together(site):
    with Engine(a="done", b="busy", c="bad", d="done") as engine:
        report = site(engine, BATCH).wait(["a", "b", "c", "d"])
        assert sorted(engine.asked[:2], key=len) == [["d"], ["a", "b", "c"]]
        assert all(ids == ["b"] for ids in engine.asked[2:])
    assert (report.result, report.requests) == (WaitResult.FAILED, len(engine.asked))
    assert columns(report) == {"a": "completed", "b": "completed", "c": "failed", "d": "completed"}


def test_a_list_answers_for_all_where_there_is_nothing_else(site):
    with Engine(a="done", b="busy") as engine:
        report = site(engine, LIST).wait(["a", "b", "c"], timeout_s=4)
    assert columns(report) == {"a": "completed", "b": "completed", "c": "pending"}
    assert (report.result, report.items[2].settled) == (WaitResult.TIMED_OUT, False)
    assert engine.asked[0] == ["a", "b"]
    assert report.requests == len(engine.asked) <= 7


@pytest.mark.parametrize(
    ("status", "result", "cause"),
    [(401, "stopped", "unauthorized"), (404, "stopped", "wrong_scope"), (500, "timed_out", "outage")],
)
def test_a_list_that_is_refused_settles_no_item(site, status, result, cause):
    with Engine(a="done") as engine:
        engine.broken = status
        report = site(engine, LIST).wait(["a", "b"], timeout_s=1)
    assert (report.result, report.cause) == (result, cause)
    assert set(columns(report).values()) == {"unknown"}


def test_a_list_that_can_not_be_read_is_no_answer(site):
    with Engine(a="done") as engine:
        report = site(engine, LIST.replace('items = "docs"', 'items = "documents"')).wait(["a"], timeout_s=1)
    assert (report.result, report.cause, columns(report)) == ("timed_out", "bad_response", {"a": "unknown"})


def test_the_sync_log_gives_the_parameters_of_its_rows(site, tmp_path):
    now = datetime.now(UTC)
    with contextlib.closing(sqlite3.connect(tmp_path / "pipeline.db")) as conn, conn:
        conn.execute("CREATE TABLE sync_log (item_id TEXT, room TEXT, at TEXT)")
        rows = [("a", "red", now), ("b", "blue", now), ("old", "red", now - timedelta(days=1)), ("a", "blue", now)]
        conn.executemany("INSERT INTO sync_log VALUES (?, ?, ?)", [(i, room, at.isoformat()) for i, room, at in rows])
    with Engine(a="done", b="done") as engine:
        world = site(engine, ROWS)
        found = uploads_since(world.app, world.target, now - timedelta(hours=1), ends_s=time.monotonic() + 60)
        assert [(each.item_id, dict(each.params)) for each in found.entries] == [
            ("a", {"space": "red"}),
            ("b", {"space": "blue"}),
        ]
        assert columns(world.wait(list(found.entries))) == {"a": "completed", "b": "completed"}
        with pytest.raises(ConfigError, match=r"id a: .*space.*use --since") as caught:
            world.wait(["a", "b", "c", "d", "e", "f", "g"])
        assert "(and 2 more ids)" in str(caught.value)
        given = entries_of(world.provider, ["a", " a ", ""], params={"space": "red"})
        assert columns(world.wait(given)) == {"a": "completed"}


@pytest.mark.parametrize("broken", [404, 410, 500])
def test_a_list_that_is_not_answered_says_nothing_about_the_document_of_a_canary(site, broken):
    with Engine(a="done") as engine:
        where = site(engine, LIST)
        engine.broken = broken

        async def main():
            async with client_for(where.app, where.target, where.provider) as client:
                ask = item_asker(where.provider, client, "a", utcnow=lambda: datetime.now(UTC))
                return await ask(time.monotonic() + 10)

        assert asyncio.run(main()).state is ItemState.UNKNOWN
