"""Tables on a real terminal fit its width; ids stay whole on each, and into a pipe nothing is cut."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from datetime import UTC, datetime, timedelta

import pytest
from support.thinned import ends_only, first_only
from support.world import environment


def on_terminal(world, columns, *arguments):
    """What the command prints on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    command = [sys.executable, "-m", "monitor", *arguments, "--config", str(world.config_path)]
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment({"COLUMNS": "66"}))
    os.close(theirs)
    printed = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            chunk = b""
        if not chunk:
            break
        printed += chunk
    os.close(ours)
    assert process.wait(60) == 0
    return printed.decode().replace("\r\n", "\n").splitlines()


@pytest.fixture
def watched(small_world):
    small_world.clock.now = datetime.now(UTC) - timedelta(minutes=5)
    small_world.ids = small_world.track(3)
    for item_id in small_world.ids:
        small_world.sandbox.set_status(item_id, "FAILED")
    small_world.run()
    small_world.sandbox.revoke_client()
    small_world.run()
    return small_world


COMMANDS = [["items", "list"], ["history"], ["incidents", "list"], ["rules", "list"], ["notifications", "list", "-a"]]


@pytest.mark.parametrize("arguments", ends_only(COMMANDS), ids=" ".join)
@pytest.mark.parametrize("columns", first_only([80, 200]))
def test_a_table_fits_the_terminal_as_wide_as_it_is(watched, arguments, columns):
    lines = on_terminal(watched, columns, *arguments)
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("arguments", [["items", "list"], ["incidents", "show", "1"]], ids=" ".join)
@pytest.mark.parametrize("columns", first_only([40, 80, 200]))
def test_ids_are_whole_on_any_terminal(watched, arguments, columns):
    shown = "\n".join(on_terminal(watched, columns, *arguments))
    assert [item_id for item_id in watched.ids if item_id not in shown] == []
