"""Output is never a precondition of work: a full disk, a closed pipe or a missing stream loses output and nothing else.

All tests start real processes, which is what costs their seconds.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request

import pytest
from support.receiver import Receiver
from support.thinned import first_only
from support.world import environment
from web.served import free_port

from monitor.cli.streams import TolerantFile


@pytest.fixture
def receiver():
    with Receiver() as made:
        yield made


@pytest.fixture
def failing_world(small_world, receiver):
    """A world with a failed item, whose incident goes to a webhook."""
    small_world.configure(more=f'[[channels]]\nname = "hook"\ntype = "webhook"\nurl = "{receiver.url}"\n')
    small_world.track(1, status="FAILED")
    return small_world


def shell(world, *arguments, redirect):
    """Runs the command under a redirection of the shell."""
    command = [sys.executable, "-m", "monitor", *arguments, "--config", str(world.config_path)]
    return subprocess.run(
        ["bash", "-c", f"{shlex.join(command)} {redirect}"],
        cwd=world.folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.process
@pytest.mark.parametrize(
    ("redirect", "code"),
    [
        pytest.param("2>/dev/full", 0, id="log on a full disk"),
        pytest.param(">/dev/full", 74, id="output on a full disk"),
        pytest.param(">/dev/full 2>&1", 74, id="both on a full disk"),
        pytest.param(">&-", 0, id="no stdout"),
        pytest.param("2>&-", 0, id="no stderr"),
        pytest.param("<&- >&- 2>&-", 0, id="no stream at all"),
        pytest.param("2>&1 | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", 0, id="a reader that leaves"),
    ],
)
def test_a_check_is_stored_and_delivered_whatever_its_output_goes_to(failing_world, receiver, redirect, code):
    ended = shell(failing_world, "check", redirect=redirect)
    assert len(receiver.got) == 1
    assert [row["status"] for row in failing_world.rows("SELECT status FROM runs")] == ["complete"]
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


@pytest.mark.parametrize("options", first_only([(("--json",),), ((),)]), ids=["json", "text"])
def test_lost_output_ends_a_successful_command_with_74_and_one_sentence(small_world, options):
    ended = shell(small_world, "items", "list", *options, redirect=">/dev/full")
    assert (ended.returncode, ended.stderr.count("\n")) == (74, 1)
    assert "No space left on device" in ended.stderr


@pytest.mark.process
def test_lost_output_does_not_hide_another_exit_code(failing_world):
    assert shell(failing_world, "check", "--fail-on", "failed", redirect=">/dev/full").returncode == 1
    assert shell(failing_world, "items", "list", "--state", "nonsense", redirect=">/dev/full 2>&1").returncode == 2


@pytest.mark.process
def test_a_check_says_on_stdout_how_much_of_its_log_was_lost(failing_world):
    said = shell(failing_world, "check", redirect="2>/dev/full").stdout
    assert "Log: " in said
    assert "No space left on device" in said
    assert json.loads(shell(failing_world, "check", "--json", redirect="2>/dev/full").stdout)["log_lines_lost"] > 0
    assert json.loads(shell(failing_world, "check", "--json", redirect="").stdout)["log_lines_lost"] == 0


def test_a_closed_stream_is_not_replaced_by_the_database(small_world):
    """A file that is opened next gets the number of a closed stream: messages would be written into it."""
    small_world.track(1)
    assert shell(small_world, "check", redirect=">&- 2>&-").returncode == 0
    assert small_world.cli("check").returncode == 0


@pytest.mark.process
def test_a_daemon_whose_log_is_full_goes_on_and_says_so(failing_world, receiver):
    command = [sys.executable, "-m", "monitor", "daemon", "--config", str(failing_world.config_path)]
    port = free_port()
    env = environment({"MONITOR_WEB__LISTEN": f"127.0.0.1:{port}"})
    with open("/dev/full", "wb") as full:  # noqa: PTH123  # a device
        daemon = subprocess.Popen(command, env=env, cwd=failing_world.folder, stdout=full, stderr=full)
    try:
        until(lambda: receiver.got or daemon.poll() is not None)
        assert daemon.poll() is None
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30) as answer:
            (warning,) = json.loads(answer.read())["warnings"]
        assert (warning["part"], "No space left on device" in warning["reason"]) == ("log", True)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            (lost,) = re.findall(rb"^ingestion_monitor_log_lines_lost_total (\S+)", answer.read(), re.MULTILINE)
        assert float(lost) > 0
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 143
    assert len(receiver.got) == 1


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue  # the test has closed it


def test_a_pipe_whose_reader_left_loses_lines_and_counts_them(pipe):
    reader, writer = pipe
    os.close(reader)
    file = TolerantFile(writer, name="<stderr>", patience_s=1)
    assert file.write(b"one\ntwo\n") == 8
    assert (file.loss.lines, file.loss.reader_left) == (2, True)


def test_a_reader_that_does_not_read_holds_up_one_line_and_no_more(pipe):
    reader, writer = pipe
    file = TolerantFile(writer, name="<stderr>", patience_s=0.05)
    while file.loss is None:
        file.write(b"x" * 4095 + b"\n")
    began = time.monotonic()
    file._patience_s = 600  # a later line that waited would hang this test
    file.write(b"lost\n")
    assert file.loss.lines == 2
    assert time.monotonic() - began < 60
    os.read(reader, 1 << 20)
    file.write(b"heard\n")
    assert os.read(reader, 100).endswith(b"heard\n")
    assert file.loss.lines == 2


def test_a_line_after_half_a_line_begins_on_a_new_one(pipe):
    reader, writer = pipe
    os.set_blocking(writer, False)
    file = TolerantFile(writer, name="<stderr>", patience_s=0)
    file.write(b"a" * (1 << 20) + b"\n")
    assert file.loss.lines == 1
    os.read(reader, 1 << 20)
    file.write(b"whole\n")
    assert os.read(reader, 100) == b"\nwhole\n"
