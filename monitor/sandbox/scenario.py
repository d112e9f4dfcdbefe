"""Scenarios: timelines of changes to a sandbox, from TOML files; reads and plays them.

A scenario has `[[steps]]`, each with `at`, a duration since the start, and exactly one action.
"""

import re
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

_MAX_SLEEP_S = 0.5
_STEP = re.compile(r"^[ \t]*\[\[[ \t]*steps[ \t]*\]\]", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioStep:
    """One step of a scenario: `at_s` seconds after the start, one of `ACTIONS`, and what happens, in one line."""

    at_s: float
    action: str
    argument: Argument
    text: str

    def line(self) -> str:
        """Time and text, such as "1m30s  the key is revoked"."""
        return f"{format_duration(timedelta(seconds=self.at_s)):>7}  {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A timeline; the steps are in order of time."""

    about: str
    steps: Sequence[ScenarioStep]


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


def _credential_name(value: str) -> str:
    if value not in {"client", "key"}:
        raise ValueError(f'"{value}" is not a credential: write "client" or "key"')
    return value


_PARSERS: Mapping[str, Callable[[Any], Argument]] = {
    "fault": lambda value: parse_fault(value) if isinstance(value, str) else read_fault(value),
    "revoke": _credential_name,
    "restore": _credential_name,
    "make": lambda value: to_struct(value, ItemBatch, "batch of items"),
    "set": lambda value: to_struct(value, StatusChange, "change of items"),
    "remove": lambda value: to_struct(value, ItemSelection, "selection of items"),
    "rate": lambda value: None if value == "none" else parse_rate(value),
}

ACTIONS = tuple(name for name in _StepTable.__struct_fields__ if name not in {"at", "say", "every", "times"})


def read_scenario(text: str, *, name: str) -> Scenario:
    """Reads a scenario in the file `name`. Raises ConfigError with every problem, each with its step and its line."""
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
        found = f"this one has {' and '.join(named)}" if named else "this one has none"
        raise ValueError(f"a step needs exactly one of {', '.join(ACTIONS)}; {found}")
    if (value.every is None) != (value.times is None):
        raise ValueError('a repeated step needs both every and times, such as every = "10m" and times = 3')
    (action,) = named
    parse, given = _PARSERS.get(action), getattr(value, action)
    argument = parse(given) if parse else given
    at_s, every_s = _seconds("at", value.at), _seconds("every", value.every or "0s")
    for n in range(value.times or 1):
        yield ScenarioStep(
            at_s=at_s + n * every_s, action=action, argument=argument, text=value.say or _describe(raw, action)
        )


def _seconds(key: str, value: str) -> float:
    try:
        return parse_duration(value).total_seconds()
    except ValueError:
        raise ValueError(f'{key} = "{value}" is not a duration: write one such as "30s", "5m" or "1h30m"') from None


def _describe(raw: Mapping[str, Any], action: str) -> str:
    argument = raw[action]
    if isinstance(argument, dict):
        argument = ", ".join(f"{key} {value}" for key, value in argument.items())
    return action.replace("_", " ") if argument is True else f"{action} {argument}".strip()


# `_PARSERS` gave each argument the type that its action needs
_ACTIONS: Mapping[str, Callable[[Sandbox, Any], object]] = {
    "fault": Sandbox.inject_fault,
    "clear": lambda sandbox, _: sandbox.clear_faults(),
    "revoke": lambda sandbox, name: sandbox.revoke_client() if name == "client" else sandbox.revoke_key(),
    "restore": lambda sandbox, name: sandbox.restore_client() if name == "client" else sandbox.restore_key(),
    "expire_tokens": lambda sandbox, _: sandbox.expire_tokens(),
    "make": Sandbox.create_batch,
    "set": Sandbox.set_statuses,
    "remove": Sandbox.remove_selected,
    "rate": Sandbox.limit_rate,
    "stop": lambda sandbox, _: sandbox.stop(),
    "start": lambda sandbox, _: sandbox.start(),
}


class ScenarioPlayer:
    """Plays a scenario on a sandbox, each step once."""

    def __init__(self, sandbox: Sandbox, scenario: Scenario) -> None:
        self._sandbox, self._steps, self._done = sandbox, scenario.steps, 0

    def advance(self, elapsed_s: float) -> Sequence[ScenarioStep]:
        """Runs and returns the steps that are due. Raises MonitorError if the sandbox can't listen again."""
        steps = [step for step in self._steps if step.at_s <= elapsed_s][self._done :]
        for step in steps:
            _ACTIONS[step.action](self._sandbox, step.argument)
            self._done += 1
        return steps

    def wait_s(self, elapsed_s: float) -> float | None:
        """Seconds until the next step; None if there is none left."""
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
    on_step: Callable[[ScenarioStep], None] = lambda step: None,  # noqa: ARG005  # ignored by default
) -> None:
    """Serves until SIGINT, then returns, or until SIGTERM, whose own handler then runs.

    `on_ready` gets the base URL once connections are accepted; the scenario is played from then on.
    Raises MonitorError if it can't listen on the address.
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
    started_s = time.monotonic()
    while True:
        for step in player.advance(time.monotonic() - started_s):
            on_step(step)
        next_s = player.wait_s(time.monotonic() - started_s)
        # a signal just before a wait, or in another thread, is handled after it
        time.sleep(_MAX_SLEEP_S if next_s is None else min(next_s, _MAX_SLEEP_S))
