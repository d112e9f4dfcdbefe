"""Which event loop runs a command, and that both end alike."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from monitor.cli import event_loop


async def running_loop():
    return type(asyncio.get_running_loop()).__module__


def test_uvloop_is_used_where_it_is_installed():
    assert event_loop.run(running_loop()) == "uvloop"


@pytest.fixture(params=["uvloop", "asyncio"])
def either_loop(request, monkeypatch):
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)  # its import fails, as where it is not installed
    return request.param


def test_without_uvloop_asyncio_has_the_loop(either_loop):
    assert event_loop.run(running_loop()).startswith(either_loop)


@pytest.fixture
def usual_sigint():
    """Python's own handler, which a command that ran in this process may have replaced."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_sigint_cancels_the_work_and_raises_keyboard_interrupt(either_loop, usual_sigint):
    ended = []

    async def work():
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cleanly")

    with pytest.raises(KeyboardInterrupt):
        event_loop.run(work())
    assert ended == ["cleanly"]


@pytest.mark.process
@pytest.mark.parametrize("without", ["", "import sys; sys.modules['uvloop'] = None; "], ids=["uvloop", "asyncio"])
def test_a_whole_check_runs_on_either_loop(small_world, without):
    small_world.track(3)
    small_world.run()
    program = f"{without}import sys; from monitor.cli import main; sys.exit(main(['check']))"
    checked = subprocess.run(
        [sys.executable, "-c", program], cwd=small_world.folder, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
