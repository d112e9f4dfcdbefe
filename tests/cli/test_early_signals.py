"""Signals before a command handles them: they end the process at once, also as process 1 of a container."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.observed import until
from support.world import environment

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.process

AS_PROCESS_1 = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
_HOLD = """
import os, signal, sys, threading, time
from monitor.cli import early_signals
early_signals.install()
print("ready", flush=True)
{work}
"""


def can_unshare():
    return shutil.which("unshare") is not None and (
        subprocess.run([*AS_PROCESS_1, "true"], capture_output=True, check=False).returncode == 0
    )


_FOREGROUND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


@contextmanager
def started(work, *, before=""):
    """An interpreter that handles signals early, and then does `work`.

    A job in the background of a shell ignores SIGINT, and so do its children: here it is as in the foreground.
    """
    script = f"{_FOREGROUND}\n{before}\n{_HOLD.format(work=work)}"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment()) as made:
        try:
            assert made.stdout.readline() == "ready\n"
            yield made
        finally:
            made.kill()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_signal_during_the_imports_ends_the_command_with_its_code(signum, code):
    with started("time.sleep(600)") as process:
        process.send_signal(signum)
        assert process.wait(30) == code


ENTRY = """
import ingestion_monitor, signal, sys, time
{before}
ingestion_monitor.command()
"""


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_signals_are_handled_before_the_package_is_imported(signum, code):
    before = (
        "assert not {'monitor', 'pathlib', 'dataclasses'} & sys.modules.keys()\n"
        "ingestion_monitor._load_package = lambda: (print('ready', flush=True), time.sleep(600))"
    )
    script = ENTRY.format(before=before)
    arguments = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment()) as made:
        assert made.stdout.readline() == "ready\n"
        made.send_signal(signum)
        assert made.wait(30) == code


def test_the_first_handler_is_replaced_and_an_ignored_signal_stays_ignored():
    before = (
        "import monitor.cli\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "ingestion_monitor._load_package = lambda: None\n"
        "monitor.cli.main = lambda: print([signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == "
        "[monitor.cli.early_signals.end, signal.SIG_IGN]) or 0"
    )
    done = subprocess.run(
        [sys.executable, "-c", ENTRY.format(before=before)],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    assert done.stdout == "True\n"


def test_a_main_thread_that_waits_in_a_library_does_not_hold_up_the_end(tmp_path):
    # SQLite waits for the lock without calling Python, as a name server's lookup does
    work = (
        f"import sqlite3\nfile = {str(tmp_path / 'locked.db')!r}\n"
        "one, two = sqlite3.connect(file, isolation_level=None), sqlite3.connect(file, timeout=600)\n"
        "one.execute('BEGIN EXCLUSIVE')\nprint('locked', flush=True)\ntwo.execute('CREATE TABLE t (x)')"
    )
    with started(work) as process:
        assert process.stdout.readline() == "locked\n"
        process.terminate()
        assert process.wait(30) == 143


def test_an_ignored_signal_stays_ignored():
    with started("time.sleep(600)", before="import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)") as process:
        process.terminate()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


@pytest.mark.parametrize("command", [("daemon",), ("check",), ("items", "list")], ids=" ".join)
@pytest.mark.parametrize("after_s", [0.2, 0.5, 1.0])
def test_sigterm_ends_a_container_from_its_first_moments_on(small_world, command, after_s):
    """As process 1, where this machine allows it; else the same command, which must end with the same code."""
    small_world.track(1)
    prefix = AS_PROCESS_1 if can_unshare() else []
    arguments = [sys.executable, "-m", "monitor", *command, "--config", str(small_world.config_path)]
    process = subprocess.Popen(
        [*prefix, *arguments],
        cwd=small_world.folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(after_s)
        inner = child_of(process.pid) if prefix else process.pid
        if inner is not None:
            if prefix:  # on a slow machine Python itself may not have begun: process 1 would lose the signal
                until(lambda: catches_sigterm(inner) or process.poll() is not None, "a handler of SIGTERM")
            with suppress(ProcessLookupError):
                os.kill(inner, signal.SIGTERM)
        ended = process.wait(30)
    finally:
        process.kill()
        process.wait()
    assert ended in ({143} if command == ("daemon",) else {143, 0}), "0: it was done before the signal"


def catches_sigterm(pid):
    """Whether a process has a handler, as Linux says; not if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def child_of(pid):
    """The process that `unshare` has started; None if it has ended."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:  # noqa: PTH123  # not a file
            found = children.read().split()
    except OSError:
        return None
    return int(found[0]) if found else None


def test_an_interrupt_between_the_imports_and_the_command_ends_with_its_code():
    program = f"""
import os, signal
{_FOREGROUND}
from monitor.cli import app, main
app.command_tree = lambda: os.kill(os.getpid(), signal.SIGINT)
raise SystemExit(main([]))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
