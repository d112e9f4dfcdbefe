"""`wait` and `status`: which items, how they end, what a CI log shows, and what is stored."""

import io
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from support.thinned import smoke_first
from support.world import environment

from monitor.cli import wait as wait_command
from monitor.database.engine import writing
from monitor.errors import StoreError
from monitor.runs.canary import store as canary_store
from monitor.runs.canary.model import Document
from monitor.runs.looks import ItemLooks
from monitor.waits import store

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def site(small_world):
    small_world.clock.now = datetime.now(UTC)
    return small_world


def ids_file(site, *ids, name="ids.txt"):
    path = site.folder / name
    path.write_text("".join(f"{each}\n" for each in ids))
    return str(path)


def stored(site):
    return site.rows("SELECT * FROM waits ORDER BY id")


def test_all_completed_is_exit_code_0(here, site):
    ids = site.sandbox.create_items(3, status="COMPLETED")
    done = here(site, "wait", "gloo", *ids)
    assert (done.returncode, done.stderr) == (0, "")
    assert "all 3 items are completed" in done.stdout
    (row,) = stored(site)
    assert (row["result"], row["asked"], row["completed"], row["timeout_s"]) == ("completed", 3, 3, 600.0)
    assert site.rows("SELECT * FROM items") == []
    assert site.rows("SELECT * FROM runs") == []


def test_what_failed_or_is_invalid_is_exit_code_1_and_named_with_its_reason(here, site):
    (good,), (failed,) = site.sandbox.create_items(1, status="COMPLETED"), site.sandbox.create_items(1, status="FAILED")
    done = here(site, "wait", "gloo", "--ids-from", ids_file(site, good, failed, "nonsense"))
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert "1 of 3 completed; 1 failed, 1 invalid" in lines[0]
    assert [line.split()[:2] for line in lines[2:4]] == [["failed", failed], ["invalid", "nonsense"]]
    assert good not in done.stdout
    assert stored(site)[0]["result"] == "failed"


def test_a_missing_item_is_settled_if_the_log_says_that_it_is_old(here, site):
    site.record(UNKNOWN_ID, uploaded_at=site.clock() - timedelta(minutes=20))
    done = here(site, "wait", "gloo", "--since", "1h")
    assert (done.returncode, stored(site)[0]["missing"]) == (1, 1)
    assert f"missing  {UNKNOWN_ID}  not found (HTTP 404)" in done.stdout


def test_a_missing_item_is_settled_if_a_run_has_seen_it(here, site):
    (item_id,) = site.track(1)
    site.run()
    site.sandbox.remove(item_id)
    assert here(site, "wait", "gloo", item_id, "--timeout", "20s").returncode == 1


def test_running_out_of_time_is_exit_code_4_and_names_what_is_left(here, site):
    (good,), (stuck,) = (
        site.sandbox.create_items(1, status="COMPLETED"),
        site.sandbox.create_items(1, status="RERANKING"),
    )
    done = here(site, "wait", "gloo", good, stuck, UNKNOWN_ID, "--timeout", "1s")
    assert done.returncode == 4
    assert "time ran out (1s): 1 of 3 completed; 2 pending" in done.stdout
    assert f"pending  {stuck}  RERANKING (a status nobody has described" in done.stdout
    assert f"pending  {UNKNOWN_ID}  not found yet (HTTP 404)" in done.stdout
    assert "async job volume" in done.stdout
    assert stored(site)[0]["result"] == "timed_out"


def test_a_rejected_key_ends_it_early_and_says_what_to_check(here, site):
    ids = site.sandbox.create_items(2, status="COMPLETED")
    site.sandbox.revoke_client()
    started_s = time.monotonic()
    done = here(site, "wait", "gloo", *ids)
    assert (done.returncode, time.monotonic() - started_s < 60) == (4, True)
    assert "waiting does not help: the API rejects the credentials" in done.stdout
    assert "key rotation" in done.stdout
    assert (stored(site)[0]["result"], stored(site)[0]["cause"]) == ("stopped", "unauthorized")


def test_an_outage_until_the_end_is_named(here, site):
    ids = site.sandbox.create_items(2, status="COMPLETED")
    site.sandbox.stop()
    done = here(site, "wait", "gloo", *ids, "--timeout", "1s")
    assert (done.returncode, done.stdout.count("refused")) == (4, 2)
    assert "The last error: the API is failing or can't be reached" in done.stdout


def test_a_hint_beyond_the_end_ends_it_early(here, site):
    ids = site.sandbox.create_items(1, status="COMPLETED")
    site.sandbox.add_fault(path="/engine", status=503, headers={"Retry-After": "900"})
    done = here(site, "wait", "gloo", *ids, "--timeout", "30s")
    assert done.returncode == 4
    assert "waiting does not help: the API asks for a retry in 15m, after the timeout" in done.stdout
    site.sandbox.clear_faults()
    again = here(site, "wait", "gloo", *ids, "--timeout", "30s")
    assert again.returncode == 4
    assert "nothing was sent, as an earlier answer of the API asks for a retry in" in again.stdout


def test_json_is_one_object_with_every_item(here, site):
    (good,), (failed,) = site.sandbox.create_items(1, status="COMPLETED"), site.sandbox.create_items(1, status="FAILED")
    done = here(site, "wait", "gloo", good, failed, "--json")
    value = json.loads(done.stdout)
    assert (value["result"], value["exit_code"], done.returncode) == ("failed", 1, 1)
    assert (value["asked"], value["completed"], value["failed"]) == (2, 1, 1)
    assert (value["total"], value["shown"]) == (2, 2)
    assert [(each["item_id"], each["state"], each["settled"]) for each in value["items"]] == [
        (good, "completed", True),
        (failed, "failed", True),
    ]
    assert value["wait_id"] == stored(site)[0]["id"]


def test_ids_come_from_standard_input_in_any_spelling_and_count_once(here, site, monkeypatch):
    (item_id,) = site.sandbox.create_items(1, status="COMPLETED")
    text = f"item_id,name\n{item_id.upper()},a\n{item_id},b\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert here(site, "wait", "gloo", "--ids-from", "-").returncode == 0
    assert stored(site)[0]["asked"] == 1


def test_since_takes_the_uploads_of_the_period_with_their_parameters(here, site):
    site.track(2, uploaded_at=site.clock() - timedelta(hours=2))
    site.track(3, uploaded_at=site.clock() - timedelta(minutes=5))
    site.track(1)
    done = here(site, "wait", "gloo", "--since", "1h")
    assert (done.returncode, stored(site)[0]["asked"]) == (0, 3)
    assert "note: gloo: 1 row of the sync log without a readable upload time; it is left out" in done.stderr


def test_since_is_refused_if_no_row_has_an_upload_time(here, site):
    site.track(2)
    done = here(site, "wait", "gloo", "--since", "1h")
    assert (done.returncode, done.stdout, stored(site)) == (2, "", [])
    assert "--since needs the upload times, and no row has one; name their column in submitted_at_column" in done.stderr


def test_since_leaves_out_the_documents_of_canaries(here, site):
    site.configure(more='[targets.canary]\nevery = "1h"\n')
    site.track(1, uploaded_at=site.clock() - timedelta(minutes=5))
    with writing(site.app.engine) as conn:
        document = Document(name="canary", marker="marker", item_id=UNKNOWN_ID)
        canary_id = canary_store.start(
            conn, target="gloo", environment="test", run_key=None, epoch=1, document=document, slow_after_s=1.0,
            started_at=site.clock(),
        )  # fmt: skip
        canary_store.record_upload(conn, canary_id=canary_id, document=document)
    site.record(UNKNOWN_ID, uploaded_at=site.clock() - timedelta(minutes=20))
    done = here(site, "wait", "gloo", "--since", "1h")
    assert (done.returncode, stored(site)[0]["asked"]) == (0, 1)


@pytest.mark.parametrize("arguments", [["--since", "1h"], ["--ids-from", "empty.txt"]], ids=["log", "file"])
def test_nothing_to_wait_for_is_said_and_no_failure(here, site, arguments, monkeypatch):
    monkeypatch.chdir(site.folder)
    ids_file(site, name="empty.txt")
    done = here(site, "wait", "gloo", *arguments)
    assert (done.returncode, done.stdout, "nothing was asked" in done.stderr) == (0, "", True)
    assert json.loads(here(site, "wait", "gloo", *arguments, "--json").stdout)["asked"] == 0
    assert stored(site) == []


USAGE = {
    "no items": (["wait", "gloo"], "which items?"),
    "two sources": (["wait", "gloo", "x", "--since", "1h"], "from one place"),
    "an unknown target": (["wait", "nowhere", "x"], "there is no target 'nowhere'; choose from gloo"),
    "a bad timeout": (["wait", "gloo", "x", "--timeout", "soon"], "--timeout: 'soon' is no duration"),
    "a timeout of nothing": (["wait", "gloo", "x", "--timeout", "0s"], "--timeout: '0s' is no duration"),
    "a bad period": (["wait", "gloo", "--since", "yesterday"], "--since: 'yesterday' is no duration"),
    "a missing file": (["wait", "gloo", "--ids-from", "nowhere.txt"], "nowhere.txt"),
    "status of nothing": (["status", "gloo"], "status: which items?"),
}


@pytest.mark.parametrize(("arguments", "said"), USAGE.values(), ids=USAGE)
def test_wrong_usage_is_one_sentence(here, site, arguments, said):
    done = here(site, *arguments)
    assert (done.returncode, done.stdout, said in done.stderr) == (2, "", True)
    assert len(done.stderr.splitlines()) == 1


def test_a_file_with_a_line_that_is_no_id_asks_nothing(here, site):
    path = ids_file(site, "a" * 600, "b")
    done = here(site, "wait", "gloo", "--ids-from", path)
    assert (done.returncode, "line 1: the id is longer than 512 characters" in done.stderr) == (2, True)
    assert stored(site) == []


def test_since_needs_upload_times(here, site):
    path = site.config_path
    path.write_text(path.read_text().replace('submitted_at_column = "uploaded_at"', ""))
    done = here(site, "wait", "gloo", "--since", "1h")
    assert (done.returncode, "submitted_at_column" in done.stderr) == (2, True)


def test_it_works_without_a_sync_log_and_beside_a_run(here, site):
    site.configure(built_in_log=True)
    ids = site.sandbox.create_items(2, status="COMPLETED")
    with site.app.engine.begin() as conn:
        conn.exec_driver_sql(
            "INSERT INTO leases (target, holder, epoch, acquired_at, expires_at) "
            "VALUES ('gloo', 'other:1', 7, '2999-01-01 00:00:00.000000', '2999-01-01 01:00:00.000000')"
        )
    assert here(site, "wait", "gloo", *ids).returncode == 0
    assert site.rows("SELECT holder, epoch FROM leases WHERE target = 'gloo'") == [{"holder": "other:1", "epoch": 7}]


def test_an_end_that_cannot_be_stored_does_not_change_the_result(here, site, monkeypatch):
    def refuse(conn, *, wait_id, report):
        raise StoreError("the database is read-only")

    monkeypatch.setattr(store, "finish", refuse)
    done = here(site, "wait", "gloo", *site.sandbox.create_items(1, status="COMPLETED"))
    assert (done.returncode, "not in the history: the database is read-only" in done.stderr) == (0, True)


def test_an_unforeseen_error_is_exit_code_3(here, site, monkeypatch):
    async def defect(self, items):
        raise ZeroDivisionError

    monkeypatch.setattr(ItemLooks, "ask", defect)
    done = here(site, "wait", "gloo", *site.sandbox.create_items(1, status="COMPLETED"))
    assert (done.returncode, "ZeroDivisionError in " in done.stderr) == (3, True)
    assert stored(site)[0]["result"] == "crashed"


def test_progress_is_a_line_now_and_then_where_nobody_watches(here, site, monkeypatch):
    monkeypatch.setattr(wait_command, "_FIRST_LINE_S", 0.2)
    done = here(site, "wait", "gloo", *site.sandbox.create_items(2, status="EMBEDDING"), "--timeout", "1s")
    lines = done.stderr.splitlines()
    assert 2 <= len(lines) <= 4
    assert all(line.startswith("waiting for gloo (") and "0 of 2 completed; 2 pending" in line for line in lines)


def test_status_says_what_the_api_knows_now(here, site):
    (good,), (pending,) = (
        site.sandbox.create_items(1, status="COMPLETED"),
        site.sandbox.create_items(1, status="EMBEDDING"),
    )
    done = here(site, "status", "gloo", good, pending, UNKNOWN_ID, "nonsense")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert [line.split(maxsplit=1)[0] for line in lines[1:5]] == [good, pending, UNKNOWN_ID, "nonsense"]
    assert lines[5] == "4 items: 1 completed, 1 pending, 1 not found, 1 invalid"
    value = json.loads(here(site, "status", "gloo", good, "--json").stdout)
    assert (value["completed"], value["items"][0]["stage"], value["exit_code"]) == (1, "COMPLETED", 0)
    assert stored(site) == []
    assert site.rows("SELECT * FROM items") == []


def test_status_without_an_answer_is_exit_code_4(here, site):
    ids = site.sandbox.create_items(1, status="COMPLETED")
    site.sandbox.revoke_client()
    done = here(site, "status", "gloo", *ids)
    assert (done.returncode, "unknown" in done.stdout, "HTTP 401" in done.stdout) == (4, True, True)
    assert here(site, "status", "gloo", "--ids-from", ids_file(site)).returncode == 0


def started(site, *arguments):
    """A wait in its own process, once it has asked."""
    asked = site.sandbox.requests("GET /engine/v2/items/{item_id}")
    process = site.start("wait", "gloo", *arguments, "--timeout", "60s")
    deadline_s = time.monotonic() + 60
    while site.sandbox.requests("GET /engine/v2/items/{item_id}") == asked:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return process


@pytest.mark.process
@pytest.mark.parametrize(("signum", "code"), smoke_first([(signal.SIGTERM, 143), (signal.SIGINT, 130)]))
def test_a_signal_stores_what_is_known(site, signum, code):
    ids = site.sandbox.create_items(1, status="EMBEDDING")
    process = started(site, *ids)
    process.send_signal(signum)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, "interrupted after" in out) == (code, True)
    assert [(row["result"], row["pending"]) for row in stored(site)] == [("interrupted", 1)]


@pytest.mark.process
def test_what_a_killed_wait_left_is_closed_by_the_next(here, site):
    ids = site.sandbox.create_items(1, status="EMBEDDING")
    process = started(site, *ids)
    process.kill()
    process.communicate(timeout=30)
    assert stored(site)[0]["result"] is None
    site.close()
    with sqlite3.connect(site.folder / "monitor.db") as conn:  # as if a minute had passed
        conn.execute("UPDATE waits SET alive_until = started_at")
    conn.close()
    here(site, "wait", "gloo", *site.sandbox.create_items(1, status="COMPLETED"))
    assert [row["result"] for row in stored(site)] == ["killed", "completed"]


@pytest.mark.process
def test_a_bar_is_shown_on_a_terminal(site):
    ids = site.sandbox.create_items(2, status="EMBEDDING")
    controller, terminal = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "monitor",
        "wait",
        "gloo",
        *ids,
        "--timeout",
        "2s",
        "--config",
        str(site.config_path),
    ]
    process = subprocess.Popen(
        command, stderr=terminal, stdout=subprocess.PIPE, env=environment({"TERM": "xterm"}), cwd=site.folder
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            piece = os.read(controller, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(controller)
    process.communicate(timeout=30)
    assert (process.returncode, b"0/2" in shown) == (4, True)
