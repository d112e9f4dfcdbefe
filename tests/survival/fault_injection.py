"""Runs the command `ingestion-monitor` in a process that dies or stops at a named point.

`python tests/survival/fault_injection.py --at close.commit -- check --config monitor.toml`. The points wrap functions
of the product in this process only; the product does not know them:

`STEP.enter`, `STEP.leave`        before and after a step of a run or of delivery (`STEPS`, `WAITS`)
`STEP.statement`                  before a statement inside that step
`STEP.commit`, `STEP.committed`   before and after a commit inside that step
`sync.batch`                      after a batch of the sync log was read and before it is staged
"""

import argparse
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from monitor.cli import main
from monitor.client.auth import ClientCredentials
from monitor.notifications.delivery import Sender
from monitor.runs import lease_keeper, sync_stage
from monitor.runs import run as run_module
from monitor.runs.canary.canary import Canary
from monitor.runs.canary.requests import StepSender
from monitor.runs.close import RunCloser
from monitor.runs.item_questions import ItemQuestions
from monitor.runs.run import Run
from monitor.waits import recording
from monitor.waits.recording import WaitRecorder

STEPS = {
    "begin": (Run, "_begin"), "sync": (Run, "_sync"), "plan": (Run, "_plan"), "record": (Run, "_record"),
    "close": (RunCloser, "close"), "renew": (Run, "_renew"),
    "claim": (Sender, "_claim"), "mark": (Sender, "_mark"),
    "wait_begin": (WaitRecorder, "_begin"), "wait_renew": (WaitRecorder, "_renew"),
    "canary_begin": (Canary, "_begin"), "canary_close": (Canary, "_close"), "canary_release": (Canary, "_release"),
}  # fmt: skip
"""Steps that run in a thread."""

WAITS = {
    "token": (ClientCredentials, "_request_token"), "ask": (ItemQuestions, "ask"), "send": (Sender, "_send"),
    "wait_finish": (WaitRecorder, "_finish"),
    "upload": (Canary, "_upload"), "keep": (Canary, "_keep"), "index": (Canary, "_index"),
    "retrieve": (Canary, "_retrieve"), "clean_up": (Canary, "_clean_up"), "request": (StepSender, "send"),
}  # fmt: skip
"""Steps that wait for an answer from the network."""


def steps_of_workers() -> tuple[dict, dict]:
    """The steps of a run that workers share; imported only for a worker."""
    from monitor.fleet import closing, supervise
    from monitor.fleet.handlers import PlannedSharing, RunHandlers
    from monitor.fleet.queue import Queue
    from monitor.fleet.share_check import ShareCheck

    steps = {
        "hand_over": (PlannedSharing, "hand_over"), "share_begin": (RunHandlers, "_begin"),
        "share_record": (ShareCheck, "_record"), "share_life": (ShareCheck, "_show_life"),
        "share_end": (ShareCheck, "_end"), "seal": (closing, "_seal"), "repair": (supervise, "_repair"),
    }  # fmt: skip
    waits = {"defer_share": (Queue, "defer_share"), "defer_close": (Queue, "defer_close")}
    return steps, waits


Hit = Callable[[str], None]


class Injection:
    """An action at one point, the nth time that it is reached."""

    def __init__(self, point: str, nth: int, act: Callable[[], None]):
        self._point, self._left, self._act, self._lock = point, nth, act, threading.Lock()

    def hit(self, name: str):
        if name != self._point:
            return
        with self._lock:
            self._left -= 1
            due = self._left == 0
        if due:
            self._act()


def send_signal(sign: signal.Signals):
    """Ends or stops this process here: the signal goes to this thread, which handles it before its next step."""
    signal.pthread_kill(threading.get_ident(), sign)


def inject(injections: Sequence[Injection], *, in_worker: bool = False):
    """Wraps the product's functions with the points, in this process."""
    more_steps, more_waits = steps_of_workers() if in_worker else ({}, {})
    here = threading.local()

    def hit(name: str):
        for injection in injections:
            injection.hit(name)

    def in_step(what: str):
        step = getattr(here, "step", None)
        if step is not None:
            hit(f"{step}.{what}")

    for step, (owner, name) in {**STEPS, **more_steps}.items():
        setattr(owner, name, _step(step, getattr(owner, name), hit, here))
    for step, (owner, name) in {**WAITS, **more_waits}.items():
        setattr(owner, name, _wait(step, getattr(owner, name), hit))
    sync_stage.validate_entries = _after(sync_stage.validate_entries, lambda: hit("sync.batch"))
    Connection._commit_impl = _around(Connection._commit_impl, in_step)
    event.listen(Engine, "before_cursor_execute", lambda *_: in_step("statement"))


def _step(step: str, does: Callable, hit: Hit, here: threading.local):
    @functools.wraps(does)
    def stepped(*args, **kwargs):
        hit(f"{step}.enter")
        outer, here.step = getattr(here, "step", None), step
        try:
            done = does(*args, **kwargs)
        finally:
            here.step = outer
        hit(f"{step}.leave")
        return done

    return stepped


def _wait(step: str, does: Callable, hit: Hit):
    @functools.wraps(does)
    async def waited(*args, **kwargs):
        hit(f"{step}.enter")
        done = await does(*args, **kwargs)
        hit(f"{step}.leave")
        return done

    return waited


def _after(does: Callable, then: Callable[[], None]):
    @functools.wraps(does)
    def done(*args, **kwargs):
        result = does(*args, **kwargs)
        then()
        return result

    return done


def _around(does: Callable, in_step: Callable[[str], None]):
    @functools.wraps(does)
    def committed(connection):
        in_step("commit")
        does(connection)
        in_step("committed")

    return committed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at", help="the point where it dies")
    parser.add_argument("--nth", type=int, default=1, help="the how manieth time")
    parser.add_argument("--do", choices=["KILL", "STOP"], default="KILL", help="what it does to itself there")
    parser.add_argument("--report-at", help="a point at which it writes a line to --fd")
    parser.add_argument("--fd", type=int)
    parser.add_argument("--renew-every", type=float, help="seconds, so that a short run renews its lease")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args()


if __name__ == "__main__":
    asked = _arguments()
    sign = signal.Signals[f"SIG{asked.do}"]
    injections = [Injection(asked.at, asked.nth, lambda: send_signal(sign))] if asked.at else []
    if asked.report_at:
        injections.append(Injection(asked.report_at, 1, lambda: os.write(asked.fd, b"reached\n")))
    if asked.renew_every:
        recording.RENEWAL_S = asked.renew_every
        lease_keeper.RENEWALS_PER_TTL = run_module.LEASE_TTL.total_seconds() / asked.renew_every
    command = asked.command[1:] if asked.command[:1] == ["--"] else asked.command
    inject(injections, in_worker=command[0] == "worker")
    sys.exit(main(command))
