"""Checks per second of CPU, item by item: the build now, stored, beside the build before and bare clients that store
nothing; without and with TLS. And how much of what a latency of 50 ms allows is reached.

Each figure is a slope: what a process takes from its first request to its end over many items, less the same over few,
per item. So start-up, imports and the end of a process count for nobody, whoever needs them.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import blackbox
from builds import BEFORE, NOW, Build
from id_logs import item_id
from processes import CLIENT_CORE, Server, Spent, measure, serving
from rounds import in_turns, middle, ratio, spread
from table import Row
from targets import Folder

__all__ = ["latency", "plain", "tls"]

FEW = 64
"""Items of the small measurement, one per request in flight."""
IN_FLIGHT = 64
LATENCY_S, LATENCY_IN_FLIGHT = 0.05, 256
ABORTED = -6
"""Exit code of pyreqwest's bare process when its thread is still at work at the interpreter's end."""
SATURATED = 0.85
"""CPU share of the server above which it may be the bottleneck of seconds by the clock."""
GOALS: Mapping[str, Mapping[str, float]] = {
    "no TLS": {BEFORE: 2.0, "aiohttp": 2.0, "pyreqwest": 0.9},
    "TLS": {BEFORE: 1.6, "aiohttp": 1.8},
}
GOAL_LATENCY = 0.97
HTTPX_IN_FLIGHT = 16
"""Its pool's cost is quadratic in this."""
_SHARES = {"requests": 0.05, "httpx": 0.05, "blackbox_exporter": 0.05}
"""Of the items, for what is slow: its slope needs fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Per item: microseconds of CPU, and by the clock on one core; and the server's share of one core."""

    cpu_us: float
    wall_us: float
    server_share: float


_Asking = Callable[[int], Spent]
"""Asks about so many items."""


def ours(build: Build, server: Server, items: int, *, in_flight: int = IN_FLIGHT) -> Spent:
    """One whole `check` of a new sync log, item by item."""
    with tempfile.TemporaryDirectory(prefix="monitor-bench-") as folder:
        settings = {"strategy": "items", "concurrency": in_flight, "deadline": "1h"}
        target = Folder(build=build, path=Path(folder), server=server, check_settings=settings)
        target.make(range(items))
        return target.check(completed=items, watched=True, core=CLIENT_CORE)


def peer(name: str, server: Server, items: int, *, in_flight: int = IN_FLIGHT) -> Spent:
    """One bare loop."""
    options = {
        "peer": name, "url": server.url, "items": items, "in_flight": in_flight,
        "ca_file": str(server.ca_file) if server.ca_file else None,
    }  # fmt: skip
    line = [sys.executable, Path(__file__).with_name("peers.py"), json.dumps(options)]
    found = measure(line, server=server, core=CLIENT_CORE, codes=(0, ABORTED))
    if not found.output.endswith("done\n"):
        raise SystemExit(f"{name} ended early:\n{found.errors[-2000:]}")
    return found


def curl(server: Server, items: int) -> Spent:
    """`curl --parallel` over the same items."""
    with tempfile.NamedTemporaryFile("w", suffix=".curl") as config:
        for number in range(items):
            config.write(f'url = "{server.url}/engine/v2/items/{item_id(number)}"\noutput = "/dev/null"\n')
        config.flush()
        line = ["curl", "--parallel", "--parallel-max", str(IN_FLIGHT), "--no-progress-meter", "--fail",
                "--header", "Authorization: Bearer bench", "--config", config.name]  # fmt: skip
        if server.ca_file:
            line += ["--cacert", str(server.ca_file)]
        return measure(line, server=server, core=CLIENT_CORE)


def _slope(ask: _Asking, server: Server, items: int) -> Slope:
    few, before = ask(FEW), server.stats()
    many, after = ask(items), server.stats()
    count = items - FEW
    return Slope(
        cpu_us=(many.asking_cpu_s - few.asking_cpu_s) / count * 1e6,
        wall_us=(many.asking_wall_s - few.asking_wall_s) / count * 1e6,
        server_share=(after["cpu_s"] - before["cpu_s"]) / many.asking_wall_s,
    )


def plain(builds: Sequence[Build], *, items: int, rounds: int, only: Sequence[str]) -> list[Row]:
    """Without TLS."""
    return _compared("no TLS", builds, items, rounds, only)


def tls(builds: Sequence[Build], *, items: int, rounds: int, only: Sequence[str]) -> list[Row]:
    """With TLS, over connections that are kept alive."""
    import trustme

    with tempfile.TemporaryDirectory(prefix="monitor-tls-") as name:
        folder, authority = Path(name), trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        return _compared("TLS", builds, items, rounds, only, folder=folder)


def _compared(
    kind: str, builds: Sequence[Build], items: int, rounds: int, only: Sequence[str], folder: Path | None = None
) -> list[Row]:
    with ExitStack() as open_parts:
        server = open_parts.enter_context(serving("plain", tls=folder))
        asking: dict[str, _Asking] = {build.name: partial(ours, build, server) for build in builds}
        asking |= {name: partial(peer, name, server) for name in ("aiohttp", "pyreqwest", "requests")}
        asking["httpx"] = partial(peer, "httpx", server, in_flight=HTTPX_IN_FLIGHT)
        asking["curl --parallel"] = partial(curl, server)
        program = blackbox.found() if not only or "blackbox_exporter" in only else None
        if program:
            asking["blackbox_exporter"] = open_parts.enter_context(blackbox.running(program, server)).probe
        works = {
            name: partial(_slope, ask, server, max(2 * FEW, int(items * _SHARES.get(name, 1))))
            for name, ask in asking.items()
            if not only or name in only or name in {NOW, BEFORE}
        }
        slopes = in_turns(works, rounds, title=kind)
    rows = [_row(kind, name, found) for name, found in slopes.items()]
    if program is None and not only:
        rows.append(Row(figure=f"{kind}: blackbox_exporter", measured=blackbox.MISSING))
    return [*rows, *_ratios(kind, slopes)]


def _row(kind: str, name: str, slopes: Sequence[Slope]) -> Row:
    cpu_us, wall_us = middle([each.cpu_us for each in slopes]), middle([each.wall_us for each in slopes])
    share = max(each.server_share for each in slopes)
    stores = ", stored" if name in {NOW, BEFORE} else ", stores nothing"
    measured = f"{cpu_us:,.1f} µs of CPU, {wall_us:,.1f} by the clock, {1e6 / cpu_us:,.0f} per CPU second"
    saturated = f" (the server was busy for {share:.0%})" if share > SATURATED else ""
    return Row(figure=f"{kind}: one item, {name}{stores}", measured=measured + saturated)


def _ratios(kind: str, slopes: Mapping[str, Sequence[Slope]]) -> list[Row]:
    """Ours against the others, per second of CPU."""
    rows = []
    now = [each.cpu_us for each in slopes[NOW]]
    for name, found in slopes.items():
        if name == NOW:
            continue
        theirs = [each.cpu_us for each in found]
        reached, goal = ratio(theirs, now), GOALS[kind].get(name)
        wall = ratio([each.wall_us for each in found], [each.wall_us for each in slopes[NOW]])
        rows.append(
            Row(
                figure=f"{kind}: stored per CPU second ÷ {name}",
                measured=f"{reached:.2f} ({spread(theirs, now)}; by the clock {wall:.2f})",
                goal=f"≥ {goal}" if goal else "",
                met=reached >= goal if goal else None,
            )
        )
    return rows


def latency(builds: Sequence[Build], *, items: int, rounds: int, only: Sequence[str]) -> list[Row]:
    """A server that answers after 50 ms, 256 requests in flight: checks per second ÷ 256 ÷ 0.05 s."""
    with serving("late", seconds=LATENCY_S) as server:
        asking: dict[str, Any] = {
            build.name: partial(ours, build, server, in_flight=LATENCY_IN_FLIGHT) for build in builds
        }
        for name in ("aiohttp", "pyreqwest"):
            if not only or name in only:
                asking[name] = partial(peer, name, server, in_flight=LATENCY_IN_FLIGHT)
        works = {name: partial(_pace, ask, items) for name, ask in asking.items()}
        paces = in_turns(works, rounds, title="latency")
    return [
        Row(
            figure=f"50 ms, {LATENCY_IN_FLIGHT} in flight ÷ ideal: {name}",
            measured=f"{(reached := middle(found)):.3f} ({min(found):.3f} to {max(found):.3f})",
            goal=f"≥ {GOAL_LATENCY}" if name == NOW else "",
            met=reached >= GOAL_LATENCY if name == NOW else None,
        )
        for name, found in paces.items()
    ]


def _pace(ask: _Asking, items: int) -> float:
    """The share of the ideal rate, without the first salvo and the end of the process."""
    few, many = ask(LATENCY_IN_FLIGHT), ask(items)
    return (items - LATENCY_IN_FLIGHT) / (many.asking_wall_s - few.asking_wall_s) * LATENCY_S / LATENCY_IN_FLIGHT
