"""Kills: the real command dies by SIGKILL in the middle of a story, which must come to the same all the same.

At each named point of a run and of delivery, and at random moments, on SQLite and PostgreSQL. After a kill nothing is
mended by hand: the next run and the next delivery find what they find.
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
    "doubled",
    "target free after",
    "messages after",
)
KILLED_PROCESS = Path(__file__).with_name("fault_injection.py")
OPENS, REFUSED, ENDS = 1, 3, 5
"""Chapters in which a run opens incidents, is refused and opens one, and ends them."""
ONCE_MORE = ("send.leave", "mark.enter", "mark.statement", "mark.commit")
"""Points between the receiver's answer and the mark: there a message comes once more."""
FIRST = {"check": "begin.enter", "notify": "claim.enter", "daemon": "begin.enter"}
RANDOM_KILLS = 200


@dataclass(frozen=True, kw_only=True)
class Kill:
    """Where a process dies: at a point, the nth time that it is reached, or after so many seconds of its work."""

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
    """What the kills of one story cost."""

    wrong: list
    duplicates: int
    lease_s: float
    """How long a target was held after a kill, at the most, with the run that then went through; 0: it was not."""
    claims_s: float
    """How long messages stayed claimed after one, at the most, with the delivery that went through; 0: none were."""
    killed: int
    """Processes that were still alive when they were to be killed."""


STEPS_OF_A_RUN = (
    "begin.enter", "begin.commit", "begin.committed",
    "sync.batch", "sync.statement", "sync.statement", "sync.statement", "sync.commit", "sync.committed", "sync.leave",
    "plan.enter", "token.enter", "token.leave", "ask.enter", "ask.leave",
    "record.enter", "record.commit", "record.committed", "record.leave",
    "renew.commit", "renew.committed",
    "close.enter", "close.statement", "close.statement", "close.statement", "close.statement",
    "close.commit", "close.committed", "close.leave",
    "release.enter", "release.commit", "release.committed",
)  # fmt: skip
STEPS_OF_DELIVERY = (
    "claim.enter", "claim.statement", "claim.commit", "claim.committed",
    "send.enter", "send.leave", "mark.enter", "mark.statement", "mark.commit", "mark.committed", "mark.leave",
)  # fmt: skip


def _named(points: Sequence[str], *, command: str, stage: int) -> tuple[Kill, ...]:
    """A kill at each of the points; one that is named n times is met at its 1st, 6th, 11th … statement."""
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
    """The kills in as few stories as may be: a chapter has one kill."""
    told: list[list[Kill]] = []
    for kill in kills:
        fits = next((each for each in told if kill.stage not in {other.stage for other in each}), None)
        if fits is None:
            told.append([kill])
        else:
            fits.append(kill)
    return told


@contextlib.contextmanager
def started(world: World, kill: Kill, *, tell: str | None = None) -> Iterator[tuple[subprocess.Popen, int]]:
    """The victim under way, and where it tells that it reached the point `tell`."""
    ours, theirs = os.pipe()
    asked = ["--at", kill.point, "--nth", str(kill.nth)] if kill.point else []
    asked += ["--tell", tell, "--fd", str(theirs)] if tell else []
    asked += ["--renew-every", str(kill.renew_every_s)] if kill.renew_every_s else []
    command = [sys.executable, str(KILLED_PROCESS), *asked, "--", kill.command, "--config", str(world.config_path)]
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
    """Starts the command and waits until it has died; whether it did, and what it said otherwise."""
    with started(world, kill, tell=None if kill.point else FIRST[kill.command]) as (process, told):
        if not kill.point:
            os.read(told, 1)
            time.sleep(kill.after_s)
            process.kill()
        _, said = process.communicate(timeout=100)
        return process.returncode == -signal.SIGKILL, said


def survive(world: World, kills: Sequence[Kill], expected: Outcome, *, waits: bool = False) -> KillResult:
    """The story with a kill in some of its chapters.

    Args:
        world: a new one.
        kills: where, one in a chapter at the most.
        expected: the story's account without any kill.
        waits: whether leases and claims are waited for; otherwise their ends are brought nearer by what is left.
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
    """What the kills of a story cost so far."""

    wrong: list = field(default_factory=list)
    killed: int = 0
    leases_s: list = field(default_factory=list)
    claims_s: list = field(default_factory=list)


def _killed(scenario: Scenario, kill: Kill, costs: KillCosts, *, waits: bool) -> list[str]:
    """A chapter whose command is killed, then the next run and the next delivery; the snapshots before the kill."""
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
    """The next run, unless the killed one closed itself, and the next delivery; how long each took from the kill on."""
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
    """Lets a lease or claims end; gives back how many seconds passed on no clock."""
    if waits:
        time.sleep(left.total_seconds() + 0.01)
        return 0.0
    scenario.let_pass(left)
    return left.total_seconds()


# --- what `make survive` prints --------------------------------------------------------------------------------------


def rows(*, full: bool, seed: int, postgres_url: str) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """One row per way to be killed and database."""
    rng = random.Random(seed)  # a seed that can be given again
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
            yield _row(
                f"{count} random moments", kind, environments, _chances(environments, kind, rng, count), expected
            )
            if full:
                yield _row("3 steps, waited for on the clock", kind, environments, WAITED, expected, waits=True)


WAITED = (
    Kill(point="record.commit"),
    Kill(point="send.leave", command="notify", stage=REFUSED),
    Kill(point="close.commit", stage=ENDS),
)


def _chances(environments: Environments, kind: str, rng: random.Random, count: int) -> list[Kill]:
    """Random moments of a command's work, which is measured first: one in each chapter but the first."""
    lasts = {command: _lasts(environments, kind, command) for command in ("check", "notify")}
    return [
        Kill(command=command, after_s=rng.uniform(0, lasts[command]), stage=1 + nth % (len(STAGES) - 2))
        for nth, command in enumerate(rng.choices(("check", "notify"), weights=(4, 1), k=count))
    ]


def _lasts(environments: Environments, kind: str, command: str) -> float:
    """How long a command works, in seconds, from its first step until it has ended."""
    with environments.world(kind) as world, ScriptedReceiver() as receiver:
        scenario = Scenario(world, receiver)
        scenario.play(0)
        scenario.begin(OPENS)
        if command == "notify":
            scenario.run()
        with started(world, Kill(command=command), tell=FIRST[command]) as (process, told):
            os.read(told, 1)
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
