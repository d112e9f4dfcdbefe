"""Log events and conditions that tests of running commands wait for."""

import json
import time


def events(stderr, name):
    """The JSON log lines of one event."""
    logged = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    return [event for event in logged if event["event"] == name]


def until(holds, what, *, timeout_s=120):
    """Waits until a condition holds; a timeout names the condition."""
    ends_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < ends_s, f"never came: {what}"
        time.sleep(0.02)


def until_asked(world, count):
    """Waits until the sandbox has answered this many item requests."""
    until(lambda: world.sandbox.requests("items") >= count, f"{count} answers about items")
