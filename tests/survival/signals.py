"""SIGTERM at random times: a command ends within ten seconds, leaves nothing claimed and keeps finished work."""

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from support.world import World
from survival import audit
from survival.environments import KINDS, Environments
from survival.kills import FIRST, OPENS, Kill, started
from survival.scenario import Scenario, ScriptedReceiver

TITLE = "SIGTERM"
HEAD = ("command", "database", "signals", "slowest end", "leases or claims left", "runs left open", "answers dropped")
WITHIN_S = 10.0
CONCURRENCY = 2
SIGNALS = 20
SLOW = {"path": "/engine", "delay_s": 0.05, "passes": True}


@dataclass(frozen=True, kw_only=True)
class SignalResult:
    """How a command ended after SIGTERM."""

    wrong: list
    took_s: float
    left: int
    open_runs: int
    dropped: int


def end(world: World, command: str, after_s: float) -> SignalResult:
    """Starts a command in the stage that opens incidents, and sends SIGTERM after some seconds of its work."""
    with ScriptedReceiver() as receiver:
        scenario = Scenario(world, receiver, slow=False)
        scenario.play(0)
        scenario.begin(OPENS)
        if command == "notify":
            scenario.run()
        world.sandbox.add_fault(**SLOW)
        before, kept = world.sandbox.requests("items"), audit.stored(world)
        with started(world, Kill(command=command), report_at=FIRST[command]) as (process, reported):
            os.read(reported, 1)
            time.sleep(after_s)
            began_s = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
            took_s = time.monotonic() - began_s
        answered = world.sandbox.requests("items") - before
        world.sandbox.clear_faults()
        return _evaluate(scenario, command, process.returncode, said, took_s=took_s, answered=answered, kept=kept)


def _evaluate(
    scenario: Scenario, command: str, code: int, said: str, *, took_s: float, answered: int, kept: list
) -> SignalResult:
    world, rows = scenario.world, scenario.world.rows
    left = rows("SELECT holder FROM leases WHERE holder IS NOT NULL")
    left += rows("SELECT claimed_by FROM notifications WHERE claimed_by IS NOT NULL")
    unclosed = rows("SELECT id, status, run_key FROM runs WHERE id NOT IN (SELECT run_id FROM snapshots)")
    checked = sum(row["checked"] for row in rows("SELECT checked FROM history ORDER BY run_id")[1:])
    # answers to requests in flight at the signal are not stored
    dropped = max(0, answered - CONCURRENCY - checked) if command != "notify" else 0
    wrong = [f"it left {left}"] if left else []
    wrong += [f"runs without a snapshot: {unclosed}"] if unclosed else []
    wrong += [f"{dropped} answers are not stored"] if dropped else []
    # 0 if the command had finished before the signal; -SIGTERM if it came after the command's own handler was removed
    wrong += [f"exit code {code}: {said}"] if code not in {0, 143, -signal.SIGTERM} else []
    wrong += [f"it took {took_s:.1f} s"] if took_s >= WITHIN_S else []
    wrong += ["a snapshot is lost"] if [row for row in kept if row not in audit.stored(world)] else []
    return SignalResult(
        wrong=wrong + _delivery_errors(scenario),
        took_s=took_s,
        left=len(left),
        open_runs=len(unclosed),
        dropped=dropped,
    )


def _delivery_errors(scenario: Scenario) -> list[str]:
    """The next delivery sends what is left; a message is repeated only under its own key."""
    scenario.deliver()
    duplicates, same = audit.duplicates(scenario.receiver.calls())
    unsent = scenario.world.rows("SELECT id FROM notifications WHERE status <> 'sent'")
    wrong = [f"unsent: {unsent}"] if unsent else []
    return wrong if same and duplicates <= 1 else [*wrong, f"{duplicates} messages came twice"]


def rows(*, full: bool, seed: int, postgres_url: str) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """One row per command and database."""
    rng = random.Random(seed)  # reproducible with --seed
    with Environments(postgres_url) as environments:
        for kind in KINDS:
            for command, lasts_s in (("check", 0.8), ("notify", 0.15), ("daemon", 0.8)):
                ends = []
                for _ in range(SIGNALS if full else 2):
                    with environments.world(kind) as world:
                        ends.append(end(world, command, rng.uniform(0, lasts_s)))
                    for each in ends[-1].wrong:
                        print(f"{kind}, {command}: {each}", file=sys.stderr)
                slowest = max(each.took_s for each in ends)
                sums = (sum(each.left for each in ends), sum(each.open_runs for each in ends))
                cells = (*map(str, sums), str(sum(each.dropped for each in ends)))
                held = not any(each.wrong for each in ends)
                yield held, (command, kind, str(len(ends)), f"{slowest:.1f} s", *cells)
