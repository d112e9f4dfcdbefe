"""What tests of running commands look for: events in what was logged, and moments that they wait for."""

import json
import time


def events(stderr, name):
    """The JSON log lines of one event."""
    logged = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    return [event for event in logged if event["event"] == name]


def until(holds, what, *, timeout_s=120):
    """Waits until something holds; a test that waits in vain says for what."""
    ends_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < ends_s, f"never came: {what}"
        time.sleep(0.02)


def until_asked(world, count):
    """Waits until the sandbox has answered so many questions about items."""
    until(lambda: world.sandbox.requests("items") >= count, f"{count} answers about items")
