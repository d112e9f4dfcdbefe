"""Runs `check` against the sandbox with each of its faults: `python scripts/faults_table.py docs/client.md`.

It replaces the table between the document's two marks. The table has no durations or ids, so a correct document
does not change, except for numbers of requests (see `docs/client.md`).
"""

import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace
from support.world import World

from monitor.sandbox import Sandbox
from monitor.sandbox.faults import PRESETS, parse_fault
from monitor.sandbox.responses import BY_STATUS

ITEMS = 20
UPLOADED_AT = datetime(2026, 1, 1, tzinfo=UTC)
"""Long ago: what is missing now is missing for good."""

AT_ONCE = 4
"""Faults tried in parallel: most of the time is waiting."""
BEGIN, END = "<!-- faults -->", "<!-- /faults -->"
NOT_FOR_TOKENS = "/engine"
PARAMETERS = {"slow-start": ":delay=1s,for=5s", "token-storm": ":share=1,count=1"}
"""For presets that take a minute, or affect different requests each time."""
PRINTED = re.compile(r"^(?:Health: |  #\d+ \w+ \(\w+\): )")
"""The health line, and the first line of each open incident."""
VARIES = re.compile(r", for \d[\w ]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault, as for `ingestion-monitor sandbox --fault`, or another change to the sandbox."""

    name: str
    fault: str | None = None
    act: str | None = None
    """A method of the sandbox."""

    def put(self, sandbox):
        """Applies it; a fault without a path affects all requests but those for tokens."""
        if self.fault is not None:
            fault = parse_fault(self.fault)
            sandbox.inject_fault(replace(fault, path=NOT_FOR_TOKENS) if fault.path == "/" else fault)
        if self.act is not None:
            getattr(sandbox, self.act)()


def of_fault(fault):
    return Case(name=f"`{fault}`", fault=fault)


CASES = (
    Case(name="none"),
    *(of_fault(str(status)) for status in sorted({*BY_STATUS, 200, 302, 400, 410, 422, 504})),
    of_fault("429:header.Retry-After=600"),
    of_fault("503:header.Retry-After=600"),
    of_fault("503:count=3"),
    of_fault("503:path=/oauth2"),
    *(of_fault(name + PARAMETERS.get(name, "")) for name in PRESETS),
    Case(name="the client is revoked", act="revoke_client"),
    Case(name="nothing listens", act="stop"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The result of one run of `check`."""

    lines: tuple[str, ...]
    exit_code: int
    requests: int
    """For items."""
    tokens: int
    """For a token."""


def play():
    """The rows, from two runs for each case, directly after each other during the fault."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return [row(case, runs) for case, runs in zip(CASES, threads.map(_runs, CASES), strict=True)]


def row(case, runs):
    """The row of the table."""
    first, second = runs
    said = _marked(first.lines)
    if second.lines != first.lines:
        said += "<br>then " + _marked(second.lines)
    codes = dict.fromkeys(str(each.exit_code) for each in runs)
    return f"| {case.name} | {said} | {', then '.join(codes)} | {_sent(first)} | {_sent(second)} |"


def committed(text):
    """The rows in a document."""
    return _between(text)[1].strip().splitlines()[2:]


def renewed(text, rows):
    """The document with new rows."""
    before, _, after = _between(text)
    head = "| fault | what `check` prints | exit code | requests of the first run | of the second |"
    table = "\n".join([head, "|---|---|---|---|---|", *rows])
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def _between(text):
    before, begin, rest = text.partition(BEGIN)
    within, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"there is no {BEGIN} … {END}")
    return before, within, after


def _runs(case):
    with tempfile.TemporaryDirectory() as folder, Sandbox() as sandbox:
        place = Path(folder)
        database, log = (f"sqlite:///{place / name}.db" for name in ("monitor", "pipeline"))
        world = World(place, sandbox, database=database, sync_log=log)
        world.track(ITEMS, uploaded_at=UPLOADED_AT)
        case.put(sandbox)
        return [_run(world) for _ in range(2)]


def _run(world):
    before = _counted(world.sandbox)
    done = world.cli("check", timeout=300)
    after = _counted(world.sandbox)
    lines = [VARIES.sub("", line).strip() for line in done.stdout.splitlines() if PRINTED.match(line)]
    assert lines, f"check ended with {done.returncode} and printed nothing:\n{done.stderr}"
    requests, tokens = (now - once for now, once in zip(after, before, strict=True))
    return Seen(lines=tuple(lines), exit_code=done.returncode, requests=requests - tokens, tokens=tokens)


def _counted(sandbox):
    """All requests, and those for tokens, once none is in flight: an abandoned one is counted a little later."""
    ends_s = time.monotonic() + 20
    while sandbox._state.in_flight and time.monotonic() < ends_s:
        time.sleep(0.01)
    return sandbox.requests(), sandbox.requests("/oauth2")


def _sent(run):
    return f"{run.requests} + {run.tokens} for a token" if run.tokens else str(run.requests)


def _marked(lines):
    return "<br>".join(f"`{line}`" for line in lines)


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(renewed(document.read_text(encoding="utf-8"), play()), encoding="utf-8")
