"""`check` in its own process, as people and cron call it."""

import contextlib
import itertools
import json
import os
import pty
import signal
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from support.observed import events, until, until_asked
from support.receiver import Receiver
from support.world import environment

from monitor import logs
from monitor.database import leases
from monitor.database.engine import writing

SECRET = "sandbox-secret"
SLOW = {"path": "/engine", "delay_s": 0.3, "passes": True}
OTHER_TARGET = """
[[targets]]
name = "{name}"
provider = "gloo"
base_url = "{url}"
publisher_id = "{publisher}"
auth = {{ client_id = "sandbox-client", client_secret = "{secret}" }}
sync_log = {{ url = "{log}", table = "{table}" }}
check = {{ max_attempts = 1 }}
"""


@pytest.fixture
def receiver():
    with Receiver() as listening:
        yield listening


def another(world, name, *, table="sync_log", secret=SECRET):
    return OTHER_TARGET.format(
        name=name,
        url=world.sandbox.url,
        publisher=world.sandbox.settings.publisher_id,
        secret=secret,
        log=world.sync_log,
        table=table,
    )


def health(done):
    return next(line for line in done.stdout.splitlines() if line.startswith("Health:"))


def hold(world, holder="elsewhere:4711"):
    now = datetime.now(UTC)
    with writing(world.app.engine) as conn:
        leases.acquire(conn, target="gloo", holder=holder, now=now, ttl=timedelta(minutes=1))


def webhook(receiver):
    return f'[[channels]]\nname = "oncall"\ntype = "webhook"\nurl = "{receiver.url}"\n'


def test_it_prints_the_health_line_and_stores_the_snapshot(world):
    world.track(2)
    world.record(str(uuid.uuid4()))
    done = world.cli("check")
    assert done.returncode == 0, done.stderr
    assert health(done) == "Health: 2 completed, 0 pending, 0 failed, 1 not found"
    (row,) = world.rows("SELECT total, completed, not_found, status FROM history")
    assert row == {"total": 3, "completed": 2, "not_found": 1, "status": "complete"}
    (finished,) = events(done.stderr, "run_finished")
    assert (finished["integration"], finished["environment"], finished["completed"]) == ("gloo", "test", 2)


def test_json_is_one_object_on_stdout_and_logs_are_json_lines_on_stderr(small_world):
    small_world.track(1)
    done = small_world.cli("check", "--json")
    value = json.loads(done.stdout)
    assert (value["exit_code"], value["messages"]) == (0, {"sent": 0, "deferred": 0, "dead": 0, "log_only": 0})
    assert value["targets"][0]["health"]["completed"] == 1
    assert [line[0] for line in done.stderr.splitlines()] == ["{"] * len(done.stderr.splitlines())
    assert events(done.stderr, "run_finished")


def test_quiet_is_silent_on_both_streams_when_all_is_well(small_world):
    small_world.track(2)
    done = small_world.cli("check", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


WELL = {"retried": "503:path=/engine,count=1", "uploaded just now": None}


@pytest.mark.parametrize("fault", WELL.values(), ids=WELL)
def test_quiet_omits_failed_requests_of_a_successful_run(small_world, fault):
    small_world.track(2)
    if fault is None:
        small_world.record(str(uuid.uuid4()), uploaded_at=datetime.now(UTC))
    else:
        small_world.sandbox.add_fault(fault)
    done = small_world.cli("check", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [row["status"] for row in small_world.rows("SELECT status FROM history")] == ["complete"]


def test_quiet_logs_failed_requests_at_the_requested_level(small_world):
    small_world.track(2)
    small_world.sandbox.add_fault("503:path=/engine,count=1")
    done = small_world.cli("check", "--quiet", "--log-level", "warning")
    assert (done.returncode, done.stdout) == (0, "")
    assert [event["http_status"] for event in events(done.stderr, "requests_failed")] == [503]


def test_quiet_prints_a_new_incident(here, small_world):
    (item_id,) = small_world.track(1)
    small_world.sandbox.set_status(item_id, "FAILED")
    done = here(small_world, "check", "--quiet")
    assert done.returncode == 0
    assert "#1 items_failed" in done.stdout
    assert "Messages: 1 written to the log only" in done.stdout


def test_a_dry_run_asks_and_prints_but_creates_not_even_the_database(here, small_world, receiver):
    item_id, *_ = small_world.track(2)
    small_world.sandbox.set_status(item_id, "FAILED")
    small_world.configure(database=f"sqlite:///{small_world.folder / 'new.db'}", more=webhook(receiver))
    before = sorted(path.name for path in small_world.folder.iterdir())
    done = here(small_world, "check", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert health(done) == "Health: 1 completed, 0 pending, 1 failed, 0 not found"
    assert done.stdout.splitlines()[-1].startswith("Dry run: nothing was stored or sent")
    assert small_world.sandbox.requests("items") == 2
    assert sorted(path.name for path in small_world.folder.iterdir()) == before
    assert receiver.got == []


def test_a_deadline_makes_a_partial_run_with_code_4(here, small_world):
    small_world.configure(check="concurrency = 1")
    small_world.track(8)
    small_world.sandbox.add_fault(**SLOW)
    done = here(small_world, "check", "--deadline", "1s")
    assert done.returncode == 4
    assert "run 1, partial (deadline)" in done.stdout
    assert "error: target gloo: the deadline cut the run short" in done.stderr
    (row,) = small_world.rows("SELECT status, abort_reason, completed, unknown FROM history")
    assert (row["status"], row["abort_reason"], row["completed"] + row["unknown"]) == ("partial", "deadline", 8)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--deadline", "soon"], "--deadline: 'soon' is no duration from 1s to 1d"),
        (["--deadline", "0s"], "--deadline: '0s' is no duration"),
        (["--deadline", "2d"], "--deadline: '2d' is no duration"),
        (["--deadline", "300"], "--deadline: '300' is no duration"),
        (
            ["--fail-on", "failed,smell"],
            "--fail-on: smell is none of failed, not_found, invalid, pending, stuck, unknown, incident",
        ),
        (["--run-key", "x" * 201], "--run-key: give a name of 1 to 200 printable characters"),
        (["--run-key", "  "], "--run-key: give a name"),
        (["--run-key", "\udcff"], "--run-key: give a name"),
        (["--slot", "x"], "--slot is now called --run-key"),
        (["--log-level", "loud"], "the log level must be one of"),
        (["--limit", "3"], "No such option"),
    ],
    ids=["word", "zero", "too-long", "bare", "fail-on", "long", "blank", "bytes", "old-option", "log-level", "option"],
)
def test_a_usage_error_is_code_2_before_any_request_or_write(here, small_world, arguments, said):
    small_world.track(1)
    small_world.configure(database=f"sqlite:///{small_world.folder / 'new.db'}")
    done = here(small_world, "check", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert small_world.sandbox.requests() == 0
    assert not (small_world.folder / "new.db").exists()


@pytest.mark.parametrize("name", ["nobody", b"\xff\xfe"], ids=["unknown", "not-text"])
def test_a_target_that_is_not_configured_is_code_2_before_any_request_or_write(small_world, name):
    small_world.configure(database=f"sqlite:///{small_world.folder / 'new.db'}")
    done = small_world.cli("check", "--target", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --target: there is no target ")
    assert done.stderr.endswith("; choose from gloo\n")
    assert not (small_world.folder / "new.db").exists()


@pytest.mark.parametrize(
    ("word", "status", "age"), [("failed", "FAILED", 0), ("incident", "FAILED", 0), ("stuck", "CHUNKING", 3600)]
)
def test_fail_on_is_code_1_if_it_matches_else_0(here, small_world, word, status, age):
    (item_id,) = small_world.track(1, uploaded_at=datetime.now(UTC) - timedelta(seconds=age))
    assert here(small_world, "check", "--fail-on", word).returncode == 0
    small_world.sandbox.set_status(item_id, status)
    small_world.log("DELETE FROM sync_log")
    (fresh,) = small_world.track(1, status, uploaded_at=datetime.now(UTC) - timedelta(seconds=age))
    done = here(small_world, "check", "--fail-on", word)
    assert done.returncode == 1, (fresh, done.stdout)


def test_fail_on_unknown_is_code_1_for_an_unknown_item(here, small_world):
    foreign, *_ = small_world.track(6)
    small_world.sandbox.assign_to_other_publisher(foreign)
    assert here(small_world, "check", "--fail-on", "failed, unknown").returncode == 1
    assert here(small_world, "check", "--fail-on", "failed").returncode == 0


def test_a_second_run_with_the_same_run_key_is_skipped(here, small_world):
    small_world.track(1)
    assert here(small_world, "check", "--run-key", "2026-03-01T03:00").returncode == 0
    again = here(small_world, "check", "--run-key", "2026-03-01T03:00")
    assert again.returncode == 5
    assert again.stderr.startswith("skipped: target gloo: ")
    assert "2026-03-01T03:00" in again.stderr
    assert here(small_world, "check", "--run-key", "2026-03-01T03:00", "--skip-ok").returncode == 0
    assert len(small_world.rows("SELECT * FROM runs")) == 1


def test_a_run_in_progress_is_named_with_code_5(here, small_world):
    small_world.track(1)
    hold(small_world)
    done = here(small_world, "check")
    assert done.returncode == 5
    assert "skipped: target gloo: another run is under way (elsewhere:4711, since" in done.stderr
    silent = here(small_world, "check", "--skip-ok", "--quiet")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")
    assert small_world.sandbox.requests("items") == 0


def test_two_simultaneous_processes_make_one_run(world):
    world.configure(check="concurrency = 1")
    world.track(60)
    world.sandbox.add_fault(**SLOW)
    first = world.start("check")
    until_asked(world, 1)
    second = world.cli("check")  # while the first still has most of its 18 s to run
    assert second.returncode == 5
    world.sandbox.clear_faults()
    out, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    assert "Health: 60 completed" in out
    assert len(world.rows("SELECT * FROM runs")) == 1


def test_each_target_has_its_own_result_and_the_most_severe_code_wins(here, small_world):
    small_world.track(1)
    fates = [
        (another(small_world, "well"), 0),
        (another(small_world, "refused", secret="wrong"), 4),
        (another(small_world, "lost", table="nowhere"), 3),
    ]
    for count in (1, 2, 3):
        small_world.configure(more="".join(text for text, _ in fates[:count]))
        done = here(small_world, "check", "--json")
        assert done.returncode == fates[count - 1][1]
        codes = {target["target"]: target["exit_code"] for target in json.loads(done.stdout)["targets"]}
        assert codes == {"gloo": 0, **dict(zip(("well", "refused", "lost"), (0, 4, 3), strict=True))} or count < 3
    assert "error: target refused: the run stopped early" in done.stderr
    assert "error: target lost: sync log" in done.stderr
    only = here(small_world, "check", "--target", "well", "--target", "well")
    assert only.returncode == 0
    assert only.stdout.count("Health:") == 1


def test_skipped_is_less_severe_than_fail_on_and_refused(here, small_world):
    (item_id,) = small_world.track(1)
    small_world.sandbox.set_status(item_id, "FAILED")
    hold(small_world)
    small_world.configure(more=another(small_world, "other"))
    assert here(small_world, "check").returncode == 5
    assert here(small_world, "check", "--fail-on", "failed").returncode == 1
    small_world.configure(more=another(small_world, "other", secret="wrong"))
    assert here(small_world, "check", "--fail-on", "failed").returncode == 4


def test_no_reachable_channel_is_code_4_and_the_message_stays_due(here, small_world, receiver):
    receiver.answers = [(500, {}, b"")]
    (item_id,) = small_world.track(1)
    small_world.sandbox.set_status(item_id, "FAILED")
    small_world.configure(more=webhook(receiver))
    done = here(small_world, "check")
    assert done.returncode == 4
    assert "Messages: 1 deferred" in done.stdout
    assert small_world.rows("SELECT status, attempts, claimed_by FROM notifications") == [
        {"status": "due", "attempts": 1, "claimed_by": None}
    ]


def test_parallel_is_how_many_targets_run_at_a_time(small_world, here):
    world = small_world
    world.track(1)
    world.configure(check="concurrency = 1", more="".join(another(world, f"t{n}") for n in range(5)))
    world.sandbox.add_fault(path="/engine", delay_s=0.1, passes=True)
    done = here(world, "check", "--parallel", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert world.sandbox.stats()["max_in_flight"] == 1
    assert [each["target"] for each in json.loads(done.stdout)["targets"]] == ["gloo", "t0", "t1", "t2", "t3", "t4"]
    runs = world.rows("SELECT started_at, finished_at FROM runs ORDER BY started_at")
    assert all(one["finished_at"] <= next_one["started_at"] for one, next_one in itertools.pairwise(runs))


@pytest.mark.parametrize("number", ["0", "1001", "many", "1.5"])
def test_parallel_is_a_number_from_1_to_1000(small_world, here, number):
    done = here(small_world, "check", "--parallel", number)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--parallel" in done.stderr


def test_a_target_that_was_not_begun_when_a_signal_came_is_named(small_world):
    small_world.track(1)
    small_world.configure(more=another(small_world, "later"))
    small_world.sandbox.add_fault(**{**SLOW, "delay_s": 5})
    running = small_world.start("check", "--parallel", "1")
    until_asked(small_world, 1)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 143
    assert "target later: it was not begun" in err
    assert small_world.rows("SELECT DISTINCT target FROM runs") == [{"target": "gloo"}]


def interrupted(world, sign):
    """A run of 200 items with a signal in the middle; returns exit code, output and the time until the end."""
    world.configure(check="concurrency = 2")
    world.track(200)
    world.sandbox.add_fault(**{**SLOW, "delay_s": 0.1})
    running = world.start("check")
    until_asked(world, 6)
    started_s = time.monotonic()
    running.send_signal(sign)
    out, err = running.communicate(timeout=120)
    return running.returncode, out, err, time.monotonic() - started_s


def test_sigterm_during_a_run_ends_it_soon_and_stores_finished_outcomes(world):
    code, out, err, took_s = interrupted(world, signal.SIGTERM)
    assert (code, took_s < 10) == (143, True), err
    assert "partial (interrupted)" in out
    assert "error: target gloo: a signal cut the run short" in err
    (row,) = world.rows("SELECT status, abort_reason, completed, unknown FROM history")
    assert (row["status"], row["abort_reason"]) == ("partial", "interrupted")
    assert 6 <= row["completed"] < 200
    assert row["completed"] + row["unknown"] == 200
    assert world.rows("SELECT holder FROM leases") == [{"holder": None}]


@pytest.mark.process
def test_ctrl_c_during_a_run_is_code_130_and_frees_the_lease(small_world):
    code, out, err, took_s = interrupted(small_world, signal.SIGINT)
    assert (code, took_s < 10) == (130, True), err
    assert "partial (interrupted)" in out
    assert "Traceback" not in err
    small_world.sandbox.clear_faults()
    assert health(small_world.cli("check")).startswith("Health: 200 completed")


@pytest.mark.process
def test_a_signal_during_delivery_does_not_wait_for_a_silent_receiver(small_world, receiver):
    receiver.hang = True
    (item_id,) = small_world.track(1)
    small_world.sandbox.set_status(item_id, "FAILED")
    small_world.configure(more=webhook(receiver))
    running = small_world.start("check")
    until(lambda: receiver.got, "a message to the receiver")
    started_s = time.monotonic()
    running.terminate()
    out, _ = running.communicate(timeout=120)
    assert time.monotonic() - started_s < 10
    assert running.returncode == 143
    assert "Health: 0 completed, 0 pending, 1 failed" in out
    (row,) = small_world.rows("SELECT status, claimed_by FROM notifications")
    assert row == {"status": "due", "claimed_by": None}


@pytest.mark.process
def test_after_a_signal_notify_releases_the_messages_that_it_did_not_send(small_world, receiver):
    receiver.hang = True
    (item_id,) = small_world.track(1)
    small_world.sandbox.set_status(item_id, "FAILED")
    small_world.configure(more=webhook(receiver))
    small_world.clock.now = datetime.now(UTC)
    small_world.run()
    running = small_world.start("notify")
    until(lambda: receiver.got, "a message to the receiver")
    started_s = time.monotonic()
    running.terminate()
    out, err = running.communicate(timeout=15)
    assert time.monotonic() - started_s < 10
    assert (running.returncode, out, "Traceback" in err) == (143, "", False)
    (row,) = small_world.rows("SELECT status, claimed_by FROM notifications")
    assert row == {"status": "due", "claimed_by": None}


def test_progress_is_shown_on_stderr_if_it_is_a_terminal(small_world):
    small_world.track(30)
    small_world.sandbox.add_fault(**{**SLOW, "delay_s": 0.05})
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "monitor", "check", "--config", str(small_world.config_path)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment())
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal tells that its other end is closed
        while chunk := os.read(ours, 65536):
            shown += chunk
    os.close(ours)
    out = running.stdout.read()
    running.stdout.close()
    assert running.wait(timeout=120) == 0
    assert "30/30" in shown.decode()
    assert "run_finished" not in shown.decode(), "on a terminal only warnings are logged"
    assert out.startswith("gloo: run 1, complete\nHealth: 30 completed")


def test_an_ascii_stream_gets_escaped_characters(small_world):
    small_world.track(1)
    done = small_world.cli("check", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert "\\u2192 completed" in done.stdout


def test_targets_run_in_parallel_despite_a_low_soft_limit_on_open_files(small_world):
    small_world.configure(check="concurrency = 40")
    small_world.track(60)
    small_world.sandbox.add_fault(path="/engine", delay_s=0.2, passes=True)
    command = [sys.executable, "-m", "monitor", "check", "--config", str(small_world.config_path)]
    few = subprocess.run(
        ["sh", "-c", 'ulimit -S -n 40 && exec "$@"', "sh", *command],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=small_world.folder,
        check=False,
    )
    assert (few.returncode, "Health: 60 completed" in few.stdout) == (0, True), few.stderr


@pytest.mark.parametrize(
    "auth", ['{{ api_key = "key-{0}-of-a-target" }}', '{{ user = "u", password = "password-{0}" }}']
)
def test_secrets_are_looked_for_by_one_pattern_however_many_targets_have_one(small_world, here, monkeypatch, auth):
    """Compiled anew for each of a thousand secrets, it takes half a minute."""
    world, compiled, compile_pattern = small_world, [], logs.Redactor._compile

    def counted(redactor):
        before, pattern = redactor._pattern, compile_pattern(redactor)
        compiled.extend([pattern] if before is None and pattern is not None else [])
        return pattern

    monkeypatch.setattr(logs.Redactor, "_compile", counted)
    world.track(1)
    counts = []
    for number in (2, 7):
        more = "".join(world.another_target(f"t{n}", auth=auth.format(f"{number}{n}")) for n in range(number))
        world.configure(auth=auth.format(number), more=more)
        compiled.clear()
        assert here(world, "check", "--json").stdout
        counts.append(len(compiled))
    assert counts[1] <= counts[0] <= 3
