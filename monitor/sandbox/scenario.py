"""Scenarios: timelines of what happens to a sandbox, as TOML files tell them. Pure: read here, played by `player`.

A scenario has `[[steps]]`, each with `at`, a duration since the start, and exactly one thing that happens then.
"""

import re
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

import msgspec

from monitor.errors import ConfigError
from monitor.model.durations import format_duration, parse_duration
from monitor.sandbox.faults import Fault, parse_fault, read_fault
from monitor.sandbox.rate_limits import Rate, parse_rate
from monitor.sandbox.requests import ItemBatch, ItemSelection, StatusChange, to_struct
from monitor.sandbox.sandbox import Sandbox
from monitor.sandbox.settings import SandboxSettings

Argument = Fault | ItemBatch | StatusChange | ItemSelection | Rate | str | bool | None
"""What an action is done with."""

_STEP = re.compile(r"^[ \t]*\[\[[ \t]*steps[ \t]*\]\]", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioStep:
    """One thing that happens."""

    at_s: float
    """Seconds since the start."""
    action: str
    """One of `ACTIONS`."""
    argument: Argument
    text: str
    """What happens, in a line for people."""

    def line(self) -> str:
        """When and what, such as "1m30s  the key is revoked"."""
        return f"{format_duration(timedelta(seconds=self.at_s)):>7}  {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A timeline."""

    about: str
    steps: Sequence[ScenarioStep]
    """In the order in which they happen."""


class _StepTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    at: str
    say: str | None = None
    every: str | None = None
    times: Annotated[int, msgspec.Meta(ge=2, le=1000)] | None = None
    fault: str | dict[str, Any] | None = None
    clear: Literal[True] | None = None
    revoke: str | None = None
    restore: str | None = None
    expire_tokens: Literal[True] | None = None
    make: dict[str, Any] | None = None
    set: dict[str, Any] | None = None
    remove: dict[str, Any] | None = None
    rate: str | None = None
    stop: Literal[True] | None = None
    start: Literal[True] | None = None


class _ScenarioTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    steps: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)]
    about: str = ""


def _fault(value: Any) -> Fault:  # noqa: ANN401  # text or a table, as the step's shape has it
    return parse_fault(value) if isinstance(value, str) else read_fault(value)


def _rate(value: str) -> Rate | None:
    return None if value == "none" else parse_rate(value)


def _credential_name(value: str) -> str:
    if value not in {"client", "key"}:
        raise ValueError(f'"{value}" is nobody; write "client" or "key"')
    return value


_PARSERS: Mapping[str, Callable[[Any], Argument]] = {
    "fault": _fault,
    "revoke": _credential_name,
    "restore": _credential_name,
    "make": lambda value: to_struct(value, ItemBatch, "batch of items"),
    "set": lambda value: to_struct(value, StatusChange, "change of items"),
    "remove": lambda value: to_struct(value, ItemSelection, "selection of items"),
    "rate": _rate,
}

ACTIONS = tuple(name for name in _StepTable.__struct_fields__ if name not in {"at", "say", "every", "times"})
"""What can happen."""


def due_steps(steps: Sequence[ScenarioStep], elapsed_s: float) -> Sequence[ScenarioStep]:
    """The steps whose time has come, in their order; a later call gives the same ones again, and more.

    Args:
        steps: in the order in which they happen.
        elapsed_s: seconds since the start.
    """
    return [step for step in steps if step.at_s <= elapsed_s]


def read_scenario(text: str, *, name: str) -> Scenario:
    """Reads a scenario.

    Args:
        text: the TOML.
        name: what a person calls the file.

    Raises:
        ConfigError: with everything that is wrong, each with the number of its step and the line where that begins.
    """
    try:
        file = to_struct(tomllib.loads(text), _ScenarioTable, "scenario")
    except ValueError as error:  # TOML's own errors name the line
        raise ConfigError([f"{name}: {error}"]) from None
    lines = [text.count("\n", 0, match.start()) + 1 for match in _STEP.finditer(text)]
    steps: list[ScenarioStep] = []
    problems = []
    for n, raw in enumerate(file.steps):
        try:
            steps += _steps(raw)
        except ValueError as error:
            where = f"step {n + 1}" + (f" (line {lines[n]})" if len(lines) == len(file.steps) else "")
            problems.append(f"{name}, {where}: {error}")
    if problems:
        raise ConfigError(problems)
    return Scenario(about=file.about, steps=sorted(steps, key=lambda step: step.at_s))


def _steps(raw: Mapping[str, Any]) -> Iterator[ScenarioStep]:
    value = to_struct(raw, _StepTable, "step")
    named = [name for name in ACTIONS if getattr(value, name) is not None]
    if len(named) != 1:
        found = f"it has {' and '.join(named)}" if named else "it has none"
        raise ValueError(f"a step is exactly one of {', '.join(ACTIONS)}; {found}")
    if (value.every is None) != (value.times is None):
        raise ValueError('a step that is repeated has both every and times, such as every = "10m" and times = 3')
    (action,) = named
    argument = _PARSERS.get(action, _unchanged)(getattr(value, action))
    at_s, every_s = _seconds("at", value.at), _seconds("every", value.every or "0s")
    for n in range(value.times or 1):
        yield ScenarioStep(
            at_s=at_s + n * every_s, action=action, argument=argument, text=value.say or _describe(raw, action)
        )


def _unchanged(value: Argument) -> Argument:
    return value


def _seconds(key: str, value: str) -> float:
    try:
        return parse_duration(value).total_seconds()
    except ValueError:
        raise ValueError(f'{key} = "{value}" is no duration; write one such as "30s", "5m" or "1h30m"') from None


def _describe(raw: Mapping[str, Any], action: str) -> str:
    argument = raw[action]
    if isinstance(argument, dict):
        argument = ", ".join(f"{key} {value}" for key, value in argument.items())
    return action.replace("_", " ") if argument is True else f"{action} {argument}".strip()


_CREDENTIAL_ACTIONS: Mapping[tuple[str, str], Callable[[Sandbox], None]] = {
    ("revoke", "client"): Sandbox.revoke_client,
    ("revoke", "key"): Sandbox.revoke_key,
    ("restore", "client"): Sandbox.restore_client,
    ("restore", "key"): Sandbox.restore_key,
}

# a step's argument has the type that its action wants: `scenario` has read it
_ACTIONS: Mapping[str, Callable[[Sandbox, Any], object]] = {
    "fault": Sandbox.inject_fault,
    "clear": lambda sandbox, _: sandbox.clear_faults(),
    "revoke": lambda sandbox, credential: _CREDENTIAL_ACTIONS["revoke", credential](sandbox),
    "restore": lambda sandbox, credential: _CREDENTIAL_ACTIONS["restore", credential](sandbox),
    "expire_tokens": lambda sandbox, _: sandbox.expire_tokens(),
    "make": lambda sandbox, batch: sandbox.create_batch(batch),
    "set": Sandbox.set_statuses,
    "remove": Sandbox.remove_selected,
    "rate": Sandbox.limit_rate,
    "stop": lambda sandbox, _: sandbox.stop(),
    "start": lambda sandbox, _: sandbox.start(),
}


class ScenarioPlayer:
    """Plays a timeline, each step once.

    Args:
        sandbox: what things happen to.
        scenario: the timeline.
    """

    def __init__(self, sandbox: Sandbox, scenario: Scenario) -> None:
        self._sandbox, self._steps, self._done = sandbox, scenario.steps, 0

    def advance(self, elapsed_s: float) -> Sequence[ScenarioStep]:
        """Does what has come due since the last call.

        Args:
            elapsed_s: seconds since the start.

        Returns:
            What was done, in order.

        Raises:
            MonitorError: the sandbox could not listen again where it did before.
        """
        steps = due_steps(self._steps, elapsed_s)[self._done :]
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
    on_step: Callable[[ScenarioStep], None] = lambda step: None,  # noqa: ARG005  # nobody listens
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
                sandbox.inject_fault(fault)
            on_ready(sandbox.url)
            _play(ScenarioPlayer(sandbox, scenario or Scenario(about="", steps=())), on_step)
    except KeyboardInterrupt:
        return


def _play(player: ScenarioPlayer, on_step: Callable[[ScenarioStep], None]) -> None:
    started_s, waiter = time.monotonic(), threading.Event()
    while True:
        for step in player.advance(time.monotonic() - started_s):
            on_step(step)
        waiter.wait(player.wait_s(time.monotonic() - started_s))
