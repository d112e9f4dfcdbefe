"""Pings of the dead man's switch, for every end of a run and every behaviour of the receiver."""

import asyncio
import signal
import socket
import time
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
import structlog
from support.observed import until
from support.receiver import Receiver

from monitor.database import leases
from monitor.database.engine import writing
from monitor.errors import ConfigError, LeaseHeldError, LeaseLostError, RunAlreadyExecutedError, StoreError
from monitor.model import RunStatus
from monitor.model.http import CallResult
from monitor.runs.heartbeat import Heartbeat, Ping, ping_for, ping_url
from monitor.runs.report import RunReport

RID = "4f4b2f0a-7c1e-4d6e-9a0e-111111111111"


@pytest.fixture
def switch():
    with Receiver() as receiver:
        yield receiver


def configure(world, url, **more):
    world.configure(auth=f'{world.client_auth}\nheartbeat = "{url}"', **more)


def heard(receiver):
    """The pings that arrived, in order: the end of their paths."""
    return [urlsplit(path).path.removeprefix("/hook") for path, _, _ in receiver.got]


def quick(world, timeout_s=0.5):
    """The job's heartbeat with a shorter timeout."""
    return replace(world.job().heartbeat, timeout_s=timeout_s)


def logged_by(act):
    with structlog.testing.capture_logs() as logged:
        report = act()
    return report, [(each["ping"], each["reason"]) for each in logged if each["event"] == "heartbeat_not_sent"]


ADDRESSES = [
    ("https://hc.example/uuid", Ping.START, f"https://hc.example/uuid/start?rid={RID}"),
    ("https://hc.example/uuid", Ping.SUCCESS, f"https://hc.example/uuid?rid={RID}"),
    ("https://hc.example/uuid/", Ping.FAIL, f"https://hc.example/uuid/fail?rid={RID}"),
    ("https://hc.example/key/slug?create=1", Ping.START, f"https://hc.example/key/slug/start?create=1&rid={RID}"),
    ("https://hc.example", Ping.FAIL, f"https://hc.example/fail?rid={RID}"),
]


@pytest.mark.parametrize(("url", "ping", "expected"), ADDRESSES)
def test_the_url_of_a_ping(url, ping, expected):
    assert ping_url(url, ping, RID) == expected


def report(status, **fields):
    return RunReport(target="gloo", run_id=1, status=status, **fields)


ENDINGS = [
    ("complete", report(RunStatus.COMPLETE), Ping.SUCCESS, "complete"),
    ("the API is down", report(RunStatus.ABORTED, abort_reason="outage"), Ping.SUCCESS, "aborted (outage)"),
    ("the deadline came", report(RunStatus.PARTIAL, abort_reason="deadline"), Ping.SUCCESS, "partial (deadline)"),
    ("a signal came", report(RunStatus.PARTIAL, abort_reason="interrupted"), Ping.FAIL, "a signal cut the run short"),
    ("the sync log is gone", report(RunStatus.FAILED), Ping.FAIL, "the sync log can't be read"),
    ("our database", StoreError("host db.internal"), Ping.FAIL, "the monitor's own database can't be used"),
    ("the lease", LeaseLostError("epoch 3"), Ping.FAIL, "another run took over"),
    ("a file", ConfigError(["targets.x"]), Ping.FAIL, "the run could not be carried out"),
    ("cancelled", asyncio.CancelledError(), Ping.FAIL, "a signal ended the run"),
    ("a defect", ZeroDivisionError("some value"), Ping.FAIL, "the run failed (ZeroDivisionError)"),
]


@pytest.mark.parametrize(("ended", "ping", "words"), [row[1:] for row in ENDINGS], ids=[row[0] for row in ENDINGS])
def test_the_ping_for_the_end_of_a_run(ended, ping, words):
    found = ping_for(ended)
    assert found[0] is ping
    assert found[1].startswith(words)


def send_around_run(ended, *, begins=True):
    """The pings of a run that raises this error."""
    sent = []

    async def ask(request, timeout_s):
        sent.append(urlsplit(request.path).path)
        return CallResult(reply=None)

    async def run(began):
        if begins:
            began()
        if isinstance(ended, BaseException):
            raise ended
        return ended

    switch = Heartbeat(target="gloo", read_url=lambda: "https://hc.example/x", ask=ask, new_rid=lambda: RID)
    if isinstance(ended, BaseException):
        with pytest.raises(type(ended)):
            asyncio.run(switch.send_around_run(run))
    else:
        assert asyncio.run(switch.send_around_run(run)) is ended
    return sent


@pytest.mark.parametrize("error", [StoreError("x"), LeaseLostError("x"), ZeroDivisionError()])
def test_a_run_that_raises_sends_a_failure_ping_and_still_raises(error):
    assert send_around_run(error) == ["/x/start", "/x/fail"]


def test_a_run_that_cannot_begin_sends_a_failure_ping_without_a_start():
    assert send_around_run(StoreError("x"), begins=False) == ["/x/fail"]


def test_a_skipped_run_sends_no_ping(world, switch):
    assert send_around_run(RunAlreadyExecutedError("x"), begins=False) == []
    configure(world, switch.url)
    with writing(world.app.engine) as conn:
        leases.acquire(conn, target="gloo", holder="other:1", now=world.clock(), ttl=timedelta(minutes=1))
    with pytest.raises(LeaseHeldError):
        world.run()
    assert switch.got == []


def test_a_run_pings_its_start_and_its_end_with_a_summary(world, switch):
    configure(world, f"{switch.url}?create=1")
    world.track(3)
    world.run()
    world.run()
    assert heard(switch) == ["/start", "", "/start", ""]
    queries = [parse_qs(urlsplit(path).query) for path, _, _ in switch.got]
    rids = [query["rid"][0] for query in queries]
    assert [str(UUID(rid)) for rid in rids] == rids
    assert rids[0] == rids[1] != rids[2] == rids[3]
    assert all(query["create"] == ["1"] for query in queries)
    _, headers, body = switch.got[1]
    assert headers["content-type"] == "text/plain; charset=utf-8"
    lines = body.splitlines()
    assert lines[0] == "gloo: complete. Health: 3 completed, 0 pending, 0 failed, 0 not found"
    assert lines[1].startswith("duration ")


def test_an_outage_of_the_api_is_a_success_ping_without_texts_of_the_api(small_world, switch):
    world = small_world
    configure(world, switch.url)
    world.track(8)
    world.sandbox.add_fault(path="/engine", status=403, body={"message": "contract.pdf is not yours", "code": "X"})
    assert world.run().status is RunStatus.ABORTED
    assert heard(switch) == ["/start", ""]
    assert "aborted (forbidden)" in switch.got[1][2]
    assert not [body for _, _, body in switch.got if "contract" in body]


def test_an_unreadable_sync_log_and_a_signal_send_failure_pings(small_world, switch):
    world = small_world
    world.track(3)
    configure(world, switch.url)
    interrupt = asyncio.Event()
    interrupt.set()
    world.run(interrupt=interrupt)
    configure(world, switch.url, sync_log=f"sqlite:///{world.folder / 'nowhere.db'}")
    world.run()
    assert heard(switch) == ["/start", "/fail", "/start", "/fail"]
    assert ["a signal" in switch.got[1][2], "sync log" in switch.got[3][2]] == [True, True]


def test_a_hanging_receiver_delays_neither_the_run_nor_its_end(small_world, switch):
    world = small_world
    world.track(8)
    configure(world, switch.url)
    switch.hang = True
    began_s = time.monotonic()
    done, lost = logged_by(lambda: world.run(heartbeat=quick(world)))
    assert time.monotonic() - began_s < 4
    assert (done.status, done.snapshot.completed) == (RunStatus.COMPLETE, 8)
    assert heard(switch)[0] == "/start"
    assert "" in heard(switch), "the end ping is sent although the start ping failed"
    assert lost[-1][0] == "success"


def test_an_unreachable_receiver_is_logged_without_its_url(small_world):
    world = small_world
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        configure(world, f"http://127.0.0.1:{closed.getsockname()[1]}/s3cret-path")
        with structlog.testing.capture_logs() as logged:
            assert world.run().status is RunStatus.COMPLETE
    lost = [each for each in logged if each["event"] == "heartbeat_not_sent"]
    assert [(each["ping"], each["reason"]) for each in lost] == [
        ("start", "no answer (refused)"),
        ("success", "no answer (refused)"),
    ]
    assert not [each for each in logged if "s3cret-path" in str(each)]


ANSWERS = [
    ("a server error is tried once more", [(500, {}, b"")] * 4, "HTTP 500", 4),
    ("a method that is not allowed is not", [(405, {}, b"")], "HTTP 405", 2),
    ("a redirect is not followed", [(302, {"location": "/elsewhere"}, b"")], "HTTP 302", 2),
]


@pytest.mark.parametrize(("answers", "reason", "tries"), [r[1:] for r in ANSWERS], ids=[r[0] for r in ANSWERS])
def test_a_refused_ping_is_logged_and_the_run_succeeds(small_world, answers, reason, tries):
    world = small_world
    with Receiver(*answers) as receiver:
        configure(world, receiver.url)
        done, lost = logged_by(world.run)
    assert done.status is RunStatus.COMPLETE
    assert lost == [("start", reason), ("success", reason)]
    assert heard(receiver) == ["/start"] * (tries // 2) + [""] * (tries // 2)


def test_a_service_that_knows_no_start_is_no_failure(small_world):
    """Better Stack, Uptime Kuma and Cronitor answer 404 to `/start`."""
    world = small_world
    with Receiver((404, {}, b""), (200, {}, b"")) as receiver:
        configure(world, receiver.url)
        done, lost = logged_by(world.run)
    assert done.status is RunStatus.COMPLETE
    assert (heard(receiver), lost) == (["/start", ""], [])


def test_an_unknown_check_is_a_warning_of_the_end_alone(small_world):
    with Receiver((404, {}, b"")) as receiver:
        configure(small_world, receiver.url)
        _, lost = logged_by(small_world.run)
    assert lost == [("success", "HTTP 404")]


def test_a_failed_ping_is_sent_a_second_time(small_world):
    world = small_world
    with Receiver((503, {}, b""), (200, {}, b"")) as receiver:
        configure(world, receiver.url)
        _, lost = logged_by(world.run)
    assert (heard(receiver), lost) == (["/start", "/start", ""], [])


def test_a_missing_url_file_fails_the_ping_and_not_the_run(small_world, switch):
    world = small_world
    file = world.folder / "heartbeat"
    file.write_text(switch.url)
    world.configure(auth=f'{world.client_auth}\nheartbeat_file = "heartbeat"')
    job_made = world.app
    file.unlink()
    done, lost = logged_by(world.run)
    assert (done.status, world.app) == (RunStatus.COMPLETE, job_made)
    assert [ping for ping, _ in lost] == ["start", "success"]
    assert all("can't be read" in reason and switch.url not in reason for _, reason in lost)
    file.write_text(switch.url)
    world.run()
    assert heard(switch) == ["/start", ""]


def test_check_sends_pings_and_a_dry_run_sends_none(here, small_world, switch):
    world = small_world
    configure(world, switch.url)
    world.track(2)
    assert here(world, "check", "--dry-run").returncode == 0
    assert switch.got == []
    assert here(world, "check").returncode == 0
    assert heard(switch) == ["/start", ""]


def test_the_daemon_sends_pings_and_a_failure_ping_after_a_signal(small_world, switch):
    world = small_world
    configure(world, switch.url)
    world.track(4)
    world.sandbox.add_fault(path="/engine", delay_s=30)
    daemon = world.start("daemon")
    try:
        until(lambda: heard(switch), "the beginning of a run")
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=120)
    assert daemon.returncode == 143
    assert heard(switch) == ["/start", "/fail"]


def test_a_run_that_is_left_to_be_shared_sends_its_last_ping_when_it_is_closed(switch):
    shared = report(RunStatus.RUNNING)
    assert send_around_run(shared) == ["/x/start"]
    assert send_around_run(shared, begins=False) == []
    sent = []

    async def ask(request, timeout_s):
        sent.append((request.path, request.body.decode()))
        return CallResult(reply=None)

    heartbeat = Heartbeat(target="gloo", read_url=lambda: "https://hc.example/x", ask=ask, new_rid=lambda: "other")
    asyncio.run(heartbeat.send_end(RID, report(RunStatus.PARTIAL, abort_reason="deadline", duration_s=4.0)))
    assert sent == [(f"https://hc.example/x?rid={RID}", "gloo: partial (deadline). \nduration 4.0 s")]
