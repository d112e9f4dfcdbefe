"""Kills: SIGKILL ends the real command during a scenario, which must have the same result as without kills.

The kills are at each named point of a run and of delivery, and at random times, on SQLite and PostgreSQL. Nothing is
repaired after a kill: the next run and the next delivery must recover.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from support.world import World, environment
from survival import audit
from survival.environments import KINDS, Environments, paths
from survival.scenario import STAGES, Outcome, Scenario, ScriptedReceiver, outcome_without_kills

TITLE = "Kills (SIGKILL)"
HEAD = (
    "killed",
    "database",
    "kills",
    "snapshots lost",
    "changes lost",
    "repeated",
    "target free after",
    "messages after",
)
KILLED_PROCESS = Path(__file__).with_name("fault_injection.py")
OPENS, REFUSED, ENDS = 1, 3, 5
"""Stages in which a run opens incidents, is refused and opens one, and resolves them."""
ONCE_MORE = ("send.leave", "mark.enter", "mark.statement", "mark.commit")
"""Points between the receiver's answer and the mark: a kill there repeats a message."""
FIRST = {"check": "begin.enter", "notify": "claim.enter", "daemon": "begin.enter"}
RANDOM_KILLS = 200


@dataclass(frozen=True, kw_only=True)
class Kill:
    """When a process is killed: the nth time that it reaches a point, or after some seconds of work."""

    point: str = ""
    nth: int = 1
    after_s: float = 0.0
    command: str = "check"
    stage: int = OPENS
    renew_every_s: float | None = None

    def __str__(self):
        at = f"{self.point}-{self.nth}" if self.point else f"{self.after_s:.3f}s"
        return f"{self.command}-{at}-in-{self.stage}"


@dataclass(frozen=True, kw_only=True)
class KillResult:
    """The cost of the kills in one scenario."""

    wrong: list
    duplicates: int
    lease_s: float
    """The longest time from a kill to the end of the next run, if a lease was left; otherwise 0."""
    claims_s: float
    """The longest time from a kill to the end of the next delivery, if claims were left; otherwise 0."""
    killed: int
    """Processes that were still alive at the time of the kill."""


STEPS_OF_A_RUN = (
    "begin.enter", "begin.commit", "begin.committed",
    "sync.enter", "sync.statement", "sync.leave",  # of a log that did not change; see `survival.sync` for one that did
    "plan.enter", "token.enter", "token.leave", "ask.enter", "ask.leave",
    "record.enter", "record.commit", "record.committed", "record.leave",
    "renew.commit", "renew.committed",
    "close.enter", "close.statement", "close.statement", "close.statement", "close.statement",
    "close.commit", "close.committed", "close.leave",  # with it the lease is released
)  # fmt: skip
STEPS_OF_DELIVERY = (
    "claim.enter", "claim.statement", "claim.commit", "claim.committed",
    "send.enter", "send.leave", "mark.enter", "mark.statement", "mark.commit", "mark.committed", "mark.leave",
)  # fmt: skip


def _named(points: Sequence[str], *, command: str, stage: int) -> tuple[Kill, ...]:
    """A kill at each of the points; a point that is listed n times is killed at its 1st, 6th, 11th … statement."""
    before: Counter[str] = Counter()
    made = []
    for point in points:
        renew_every_s = 0.05 if point.startswith("renew") else None
        nth = 1 + 5 * before[point]
        made.append(Kill(point=point, nth=nth, command=command, stage=stage, renew_every_s=renew_every_s))
        before[point] += 1
    return tuple(made)


RUN_POINTS = (
    *_named(STEPS_OF_A_RUN, command="check", stage=OPENS),
    *_named(STEPS_OF_A_RUN, command="check", stage=ENDS),
    *_named([each for each in STEPS_OF_A_RUN if each.startswith("close")], command="check", stage=REFUSED),
)
DELIVERY_POINTS = (
    *_named(STEPS_OF_DELIVERY, command="check", stage=OPENS),
    *_named(STEPS_OF_DELIVERY, command="notify", stage=REFUSED),
    *_named(STEPS_OF_DELIVERY, command="notify", stage=ENDS),
)
DAEMON_POINTS = (
    *_named(STEPS_OF_A_RUN[::4], command="daemon", stage=OPENS),
    *_named(STEPS_OF_DELIVERY[::2], command="daemon", stage=REFUSED),
    *_named(STEPS_OF_A_RUN[2::4], command="daemon", stage=ENDS),
)


def group_kills(kills: Sequence[Kill]) -> list[list[Kill]]:
    """Distributes the kills over as few scenarios as possible, with at most one per stage."""
    stories: list[list[Kill]] = []
    for kill in kills:
        fits = next((each for each in stories if kill.stage not in {other.stage for other in each}), None)
        if fits is None:
            stories.append([kill])
        else:
            fits.append(kill)
    return stories


@contextlib.contextmanager
def started(
    world: World, kill: Kill, *, report_at: str | None = None, arguments: Sequence[str] = (), do: str = "KILL"
) -> Iterator[tuple[subprocess.Popen, int]]:
    """Starts the process; yields it and a file descriptor that gets a line at the point `report_at`."""
    ours, theirs = os.pipe()
    asked = ["--at", kill.point, "--nth", str(kill.nth), "--do", do] if kill.point else []
    asked += ["--report-at", report_at, "--fd", str(theirs)] if report_at else []
    asked += ["--renew-every", str(kill.renew_every_s)] if kill.renew_every_s else []
    words = [kill.command, *arguments, "--config", str(world.config_path)]
    command = [sys.executable, str(KILLED_PROCESS), *asked, "--", *words]
    process = subprocess.Popen(
        command, cwd=world.folder, env=environment(paths()), pass_fds=(theirs,),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield process, ours
    finally:
        os.close(ours)
        if process.poll() is None:
            process.kill()
        process.communicate()


def die(world: World, kill: Kill) -> tuple[bool, str]:
    """Starts the command and waits until it was killed; returns whether it was, and its output otherwise."""
    with started(world, kill, report_at=None if kill.point else FIRST[kill.command]) as (process, reported):
        if not kill.point:
            os.read(reported, 1)
            time.sleep(kill.after_s)
            process.kill()
        _, said = process.communicate(timeout=100)
        return process.returncode == -signal.SIGKILL, said


def survive(world: World, kills: Sequence[Kill], expected: Outcome, *, waits: bool = False) -> KillResult:
    """Plays the scenario with a kill in some of its stages.

    Args:
        world: a new one.
        kills: at most one per stage.
        expected: the result of the scenario without kills.
        waits: whether to wait until leases and claims expire; otherwise they are made to expire.
    """
    with ScriptedReceiver() as receiver:
        scenario, costs, kept = Scenario(world, receiver), KillCosts(), []
        by_stage = {kill.stage: kill for kill in kills}
        for stage in range(len(STAGES)):
            if stage in by_stage:
                kept = _killed(scenario, by_stage[stage], costs, waits=waits)
            else:
                scenario.play(stage)
        wrong = costs.wrong + audit.find_violations(
            world, kept=kept, expected=expected, outcome=scenario.outcome(), kills=costs.killed
        )
        duplicates, same = audit.duplicates(receiver.calls())
        may_double = sum(not kill.point or kill.point in ONCE_MORE for kill in kills)
        wrong += [f"{duplicates} messages came twice"] if duplicates > may_double else []
        wrong += [] if same else ["a message came twice under one key, and was not the same"]
    return KillResult(
        wrong=wrong,
        killed=costs.killed,
        duplicates=duplicates,
        lease_s=max(costs.leases_s),
        claims_s=max(costs.claims_s),
    )


@dataclass
class KillCosts:
    """The cost of the kills of a scenario so far."""

    wrong: list = field(default_factory=list)
    killed: int = 0
    leases_s: list = field(default_factory=list)
    claims_s: list = field(default_factory=list)


def _killed(scenario: Scenario, kill: Kill, costs: KillCosts, *, waits: bool) -> list[str]:
    """Plays a stage whose command is killed, then the next run and delivery; returns the snapshots before the kill."""
    scenario.begin(kill.stage)
    if kill.command == "notify":
        scenario.run()
    kept = audit.stored(scenario.world)
    killed, said = die(scenario.world, kill)
    costs.killed += killed
    if kill.point and not killed:
        costs.wrong.append(f"it did not die at {kill.point}: {said}")
    lease_s, claims_s = _recovered(scenario, kill, before=len(kept), waits=waits)
    costs.leases_s.append(lease_s)
    costs.claims_s.append(claims_s)
    costs.wrong += [f"a snapshot is lost or changed: {row}" for row in kept if row not in audit.stored(scenario.world)]
    return kept


def _recovered(scenario: Scenario, kill: Kill, *, before: int, waits: bool) -> tuple[float, float]:
    """The next run, unless the killed one closed itself, and the next delivery; the time from the kill to each."""
    began_s, passed_s = time.monotonic(), 0.0
    lease, claims = scenario.lease_left(), scenario.claims_left()
    if lease:
        passed_s += _let_pass(scenario, lease, waits=waits)
    if kill.command != "notify" and len(audit.stored(scenario.world)) == before:
        scenario.run()
    free_s = time.monotonic() - began_s + passed_s
    left = scenario.claims_left()
    if left:
        passed_s += _let_pass(scenario, left, waits=waits)
    scenario.deliver()
    told_s = time.monotonic() - began_s + passed_s
    return free_s if lease else 0.0, told_s if claims else 0.0


def _let_pass(scenario: Scenario, left: timedelta, *, waits: bool) -> float:
    """Lets a lease or claims expire; returns the seconds that were skipped instead of waited."""
    if waits:
        time.sleep(left.total_seconds() + 0.01)
        return 0.0
    scenario.let_pass(left)
    return left.total_seconds()


# --- what `make survive` prints --------------------------------------------------------------------------------------


def rows(*, full: bool, seed: int, postgres_url: str) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """One row per kind of kill and database."""
    rng = random.Random(seed)  # reproducible with --seed
    groups = (
        ("check, at each step of a run", RUN_POINTS if full else RUN_POINTS[::9]),
        ("check and notify, at each step of delivery", DELIVERY_POINTS if full else DELIVERY_POINTS[::6]),
        ("daemon, at steps of both", DAEMON_POINTS if full else DAEMON_POINTS[::5]),
    )
    with Environments(postgres_url) as environments:
        with environments.world("sqlite") as world:
            expected = outcome_without_kills(world)
        for kind in KINDS:
            for what, kills in groups:
                yield _row(what, kind, environments, kills, expected)
            count = RANDOM_KILLS if full else 5
            yield _row(f"{count} random times", kind, environments, _chances(environments, kind, rng, count), expected)
            if full:
                yield _row("3 steps, waited for on the clock", kind, environments, WAITED, expected, waits=True)


WAITED = (
    Kill(point="record.commit"),
    Kill(point="send.leave", command="notify", stage=REFUSED),
    Kill(point="close.commit", stage=ENDS),
)


def _chances(environments: Environments, kind: str, rng: random.Random, count: int) -> list[Kill]:
    """Kills at random times of a command, whose duration is measured first: one in each stage except the first."""
    lasts = {command: _lasts(environments, kind, command) for command in ("check", "notify")}
    return [
        Kill(command=command, after_s=rng.uniform(0, lasts[command]), stage=1 + nth % (len(STAGES) - 2))
        for nth, command in enumerate(rng.choices(("check", "notify"), weights=(4, 1), k=count))
    ]


def _lasts(environments: Environments, kind: str, command: str) -> float:
    """Measures the seconds from the first step of a command to its end."""
    with environments.world(kind) as world, ScriptedReceiver() as receiver:
        scenario = Scenario(world, receiver)
        scenario.play(0)
        scenario.begin(OPENS)
        if command == "notify":
            scenario.run()
        with started(world, Kill(command=command), report_at=FIRST[command]) as (process, reported):
            os.read(reported, 1)
            began_s = time.monotonic()
            process.communicate(timeout=100)
            return time.monotonic() - began_s


def _row(
    what: str, kind: str, environments: Environments, kills: Sequence[Kill], expected: Outcome, *, waits: bool = False
) -> tuple[bool, tuple[str, ...]]:
    ends = []
    for together in group_kills(kills):
        with environments.world(kind) as world:
            ends.append(survive(world, together, expected, waits=waits))
        for each in ends[-1].wrong:
            print(f"{kind}, {', '.join(map(str, together))}: {each}", file=sys.stderr)
    wrong = [each for end in ends for each in end.wrong]
    lost = sum("a snapshot is lost" in each for each in wrong)
    free_s, told_s = max(end.lease_s for end in ends), max(end.claims_s for end in ends)
    cells = (
        what, kind, str(sum(end.killed for end in ends)), str(lost), str(len(wrong) - lost),
        str(sum(end.duplicates for end in ends)), f"≤ {free_s:.1f} s", f"≤ {told_s:.1f} s",
    )  # fmt: skip
    return not wrong, cells
