"""Plays scenarios on a sandbox, and serves one in the foreground while it does. What is due when, `scenario` says."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monitor.sandbox.faults import Fault
from monitor.sandbox.sandbox import Sandbox
from monitor.sandbox.scenario import Scenario, Step, due
from monitor.sandbox.settings import SandboxSettings

__all__ = ["Player", "serve"]

_SWITCHES: Mapping[tuple[str, str], Callable[[Sandbox], None]] = {
    ("revoke", "client"): Sandbox.revoke_client,
    ("revoke", "key"): Sandbox.revoke_key,
    ("restore", "client"): Sandbox.restore_client,
    ("restore", "key"): Sandbox.restore_key,
}

# a step's argument has the type that its action wants: `scenario` has read it
_ACTIONS: Mapping[str, Callable[[Sandbox, Any], object]] = {
    "fault": Sandbox.put,
    "clear": lambda sandbox, _: sandbox.clear_faults(),
    "revoke": lambda sandbox, whom: _SWITCHES["revoke", whom](sandbox),
    "restore": lambda sandbox, whom: _SWITCHES["restore", whom](sandbox),
    "expire_tokens": lambda sandbox, _: sandbox.expire_tokens(),
    "make": lambda sandbox, batch: sandbox.make(batch),
    "set": Sandbox.set_statuses,
    "remove": Sandbox.remove_chosen,
    "rate": Sandbox.limit_rate,
    "stop": lambda sandbox, _: sandbox.stop(),
    "start": lambda sandbox, _: sandbox.start(),
}


class Player:
    """Plays a timeline, each step once.

    Args:
        sandbox: what things happen to.
        scenario: the timeline.
    """

    def __init__(self, sandbox: Sandbox, scenario: Scenario) -> None:
        self._sandbox, self._steps, self._done = sandbox, scenario.steps, 0

    def advance(self, elapsed_s: float) -> Sequence[Step]:
        """Does what has come due since the last call.

        Args:
            elapsed_s: seconds since the start.

        Returns:
            What was done, in order.

        Raises:
            MonitorError: the sandbox could not listen again where it did before.
        """
        steps = due(self._steps, elapsed_s)[self._done :]
        for step in steps:
            _ACTIONS[step.action](self._sandbox, step.argument)
            self._done += 1
        return steps

    def wait_s(self, elapsed_s: float) -> float | None:
        """How long from now until the next step; None when there is none left."""
        if self._done == len(self._steps):
            return None
        return max(self._steps[self._done].at_s - elapsed_s, 0.0)


def serve(
    settings: SandboxSettings,
    *,
    on_ready: Callable[[str], None],
    faults: Sequence[Fault] = (),
    items: int = 0,
    scenario: Scenario | None = None,
    on_step: Callable[[Step], None] = lambda step: None,  # noqa: ARG005  # nobody listens
) -> None:
    """Serves until SIGINT, after which it returns, or SIGTERM, whose own handler then has its turn.

    Args:
        settings: how it behaves; port 0 takes a free one.
        on_ready: called with the base URL once connections are accepted.
        faults: in force from the start.
        items: how many walk from the start.
        scenario: played from then on.
        on_step: called for each of its steps, once it is done.

    Raises:
        MonitorError: the address can't be listened on.
    """
    try:
        with Sandbox(settings) as sandbox:
            if items:
                sandbox.create_items(items)
            for fault in faults:
                sandbox.put(fault)
            on_ready(sandbox.url)
            _play(Player(sandbox, scenario or Scenario(about="", steps=())), on_step)
    except KeyboardInterrupt:
        return


def _play(player: Player, on_step: Callable[[Step], None]) -> None:
    begun_s, never = time.monotonic(), threading.Event()
    while True:
        for step in player.advance(time.monotonic() - begun_s):
            on_step(step)
        never.wait(player.wait_s(time.monotonic() - begun_s))
