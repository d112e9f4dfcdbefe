"""Presets beside real engines: the product gives the verdicts that `make engines` saw, on the answers that it kept."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from providers.servers.recorded import RecordedServer
from support.world import Clock, World

RECORDED = Path(__file__).parent / "recorded"
SESSIONS = [
    pytest.param(session, id=f"{file.stem}-{name}")
    for file in sorted(RECORDED.glob("*.json"))
    for name, session in json.loads(file.read_text(encoding="utf-8")).items()
]


class EngineWorld(World):
    """A World whose API is a recorded engine, with the target of the session."""

    def __init__(self, folder, server, target, strategy):
        self.folder, self.server, self.clock = folder, server, Clock()
        self.config_path = folder / "monitor.toml"
        self.sync_log = f"sqlite:///{folder / 'pipeline.db'}"
        self._apps, self._app = contextlib.ExitStack(), None
        self.config_path.write_text(
            f'[[targets]]\nname = "engine"\n{target.replace("{url}", server.url)}\n'
            f'[targets.sync_log]\nurl = "{self.sync_log}"\nsubmitted_at_column = "uploaded_at"\n'
            f'[targets.check]\nstrategy = "{strategy}"\n',
            encoding="utf-8",
        )
        self.config_path.chmod(0o600)
        self.log("CREATE TABLE sync_log (item_id TEXT, uploaded_at TEXT)")

    def record(self, item_ids):
        rows = [{"i": item_id, "at": "2026-01-01T00:00:00Z"} for item_id in item_ids]
        self.log("INSERT INTO sync_log VALUES (:i, :at)", rows)

    def verdicts(self):
        """The states, with the reasons of failures, by id."""
        rows = self.rows("SELECT item_id, state, failure_reason FROM items")
        reasons = {row["item_id"]: row["failure_reason"] if row["state"] == "failed" else None for row in rows}
        return {row["item_id"]: _words(row["state"], reasons[row["item_id"]]) for row in rows}

    def messages(self):
        return {
            row["item_id"]: row["failure_message"] for row in self.rows("SELECT item_id, failure_message FROM items")
        }

    def causes(self):
        return [row["cause"] for row in self.rows("SELECT cause FROM incidents WHERE resolved_at IS NULL ORDER BY id")]


def _words(state, reason):
    return f"{state} ({reason})" if reason else state


@pytest.fixture
def engine_world(tmp_path, _sqlite_template):
    """Makes the world of a session: `(target, exchanges, strategy)`."""
    shutil.copyfile(_sqlite_template, tmp_path / "monitor.db")
    with contextlib.ExitStack() as opened:

        def make(target, exchanges, strategy="items", *, otherwise=None):
            server = opened.enter_context(RecordedServer(exchanges, otherwise=otherwise))
            return opened.enter_context(contextlib.closing(EngineWorld(tmp_path, server, target, strategy)))

        yield make


@pytest.mark.parametrize("session", SESSIONS)
def test_a_preset_reads_a_real_engine_as_it_did_beside_it(engine_world, session):
    causes = session.get("causes")
    # a run that is refused stops early, so which items it asked about is a matter of time
    otherwise = session["exchanges"][0] if causes else None
    world = engine_world(session["target"], session["exchanges"], session["strategy"], otherwise=otherwise)
    world.record(session["states"])

    for _ in range(1 if causes is None else 2):
        world.run()

    assert world.verdicts() == session["states"]
    assert causes is None or world.causes() == causes


LIGHTRAG = 'provider = "lightrag"\nbase_url = "{url}"'
FAILED = {"status": "failed", "error_msg": "This text is refused.", "metadata": {}}
DUPLICATE = {"status": "failed", "error_msg": "Content already exists.", "metadata": {"is_duplicate": True}}
PROCESSED = {"status": "processed", "error_msg": None, "metadata": {}}


def asked(path, body, status=200):
    return {"ask": f"GET {path}", "status": status, "body": body}


@pytest.mark.parametrize(("documents", "state", "message"), [
    ([PROCESSED, FAILED, PROCESSED], "failed", "This text is refused."),
    ([DUPLICATE, FAILED], "failed", "This text is refused."),
    ([DUPLICATE, PROCESSED], "completed", None),
    ([DUPLICATE], "completed", None),
    ([PROCESSED, {**PROCESSED, "status": "analyzing"}], "pending", None),
    ([{**PROCESSED, "status": "parsing"}, FAILED], "failed", "This text is refused."),
    ([], "not_found", None),
], ids=["one-failed", "copy-and-failed", "copy-and-processed", "copy", "busy", "busy-and-failed", "none"])  # fmt: skip
def test_an_upload_to_lightrag_is_as_its_worst_document_and_a_duplicate_has_not_failed(
    engine_world, documents, state, message
):
    world = engine_world(LIGHTRAG, [asked("/documents/track_status/up_1", {"documents": documents})])
    world.record(["up_1"])
    world.run()

    assert world.verdicts() == {"up_1": state}
    assert world.messages() == {"up_1": message}


DOCLING = 'provider = "docling_serve"\nbase_url = "{url}"\nauth = { api_key = "k" }'
NO_TASK = {"detail": "Task not found."}


def task(task_id, status, **more):
    meta = {"task_position": None, "task_meta": None, "error_message": None}
    body = {"task_id": task_id, "task_type": "convert", "task_status": status, **meta, **more}
    return asked(f"/v1/status/poll/{task_id}", body)


def test_a_conversion_that_docling_serve_forgot_stays_completed(engine_world):
    tasks = {"t1": "success", "t2": "failure", "t3": "started", "t4": "pending"}
    exchanges = [task(name, status) for name, status in tasks.items()]
    world = engine_world(DOCLING, [*exchanges, asked("/v1/status/poll/t5", NO_TASK, 404)])
    world.record([*tasks, "t5"])
    world.run()
    assert world.verdicts() == {"t1": "completed", "t2": "failed", "t3": "pending", "t4": "pending", "t5": "not_found"}

    world.server.answers.clear()
    world.server.otherwise = {"status": 404, "body": NO_TASK}
    world.run()

    assert world.verdicts()["t1"] == "completed"
    assert world.verdicts()["t3"] == "not_found"
    assert world.server.asked.count("GET /v1/status/poll/t1") == 1
    assert not [each for each in world.server.asked if "/result/" in each]


RESULT = """
[targets.item.result]
when = ["success"]
path = "/v1/result/{item_id}"
message = "errors.0.error_message"
"""


def test_the_result_says_what_failed_where_docling_serve_keeps_results(engine_world):
    body = {
        "document": {"filename": "a.docx"},
        "status": "failure",
        "errors": [{"error_message": "It is not a zip file."}],
    }
    world = engine_world(DOCLING + RESULT, [task("t1", "success"), asked("/v1/result/t1", body)])
    world.record(["t1"])
    world.run()

    assert world.verdicts() == {"t1": "failed"}
    assert world.messages() == {"t1": "It is not a zip file."}


def test_the_web_page_that_open_webui_gives_for_unknown_paths_is_nobodys_status(engine_world):
    page = {"status": 200, "type": "text/html; charset=utf-8", "text": "<!doctype html><title>Open WebUI</title>"}
    target = 'provider = "open_webui"\nbase_url = "{url}/wrong"\nauth = { api_key = "k" }'
    world = engine_world(target, [], otherwise=page)
    world.record(["f1", "f2"])

    for _ in range(2):
        world.run()

    assert world.verdicts() == {"f1": "unknown", "f2": "unknown"}
    assert world.causes() == ["bad_response"]
