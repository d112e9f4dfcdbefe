"""Checks per second, item by item: ours, stored, beside bare loops that store nothing. Without latency, and with 50 ms.

Every measurement is a fresh process on one core, with the server on another. They alternate, and the best
round counts. Ours counts from the first request until everything is stored; the row of whole runs adds the copying of
the sync log and the snapshot.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from processes import measured, serving
from table import Row

from monitor.config.targets import CheckConfig

__all__ = ["no_latency", "transports", "with_latency"]

GOAL_OF_AIOHTTP, MOONSHOT_OF_PYREQWEST, GOAL_OF_TUTORIAL, GOAL_OF_LATENCY = 1.0, 0.5, 10, 0.9
SATURATED = 0.85
"""CPU share of the server above which it may be the bottleneck."""
LATENCY_S, IN_FLIGHT = 0.05, 256
_PEERS: Mapping[str, tuple[int, Sequence[int]]] = {
    "tutorial": (800, (1,)),
    "httpx": (1000, (16, 64, 256)),  # its own pool is quadratic: few items
    "aiohttp": (8000, (16, 64, 256)),
    "pyreqwest": (15_000, (16, 64, 256)),
}
"""Number of items, and requests in flight."""
_OURS_IN_FLIGHT = (32, 64, 256)
_NAMES = {
    "tutorial": "the tutorial's loop of requests, one by one",
    "httpx": "httpx with its own pool",
    "aiohttp": "aiohttp, bare",
    "pyreqwest": "pyreqwest, bare",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """One client, with a number of requests in flight."""

    name: str
    in_flight: int
    items: int
    measure: Callable[[str], Mapping[str, Any]]
    """Its figures against the server at this origin."""


Results = Mapping[tuple[str, int], Sequence[Mapping[str, Any]]]


def transports() -> tuple[str, ...]:
    """The values of `http` in a target's check, the default first."""
    field = CheckConfig.model_fields["http"]
    return tuple(sorted(get_args(field.annotation), key=lambda name: name != field.default))


def no_latency(*, quick: bool) -> list[Row]:
    """A server that answers at once: checks per second on one core."""
    scale = 4 if quick else 1
    candidates = [
        _peer(name, in_flight, items // scale)
        for name, (items, widths) in _PEERS.items()
        for in_flight in (widths[-1:] if quick else widths)
    ]
    for number, transport in enumerate(transports()):
        items = (3000 if number else 30_000) // scale
        candidates += [_ours(transport, width, items) for width in (_OURS_IN_FLIGHT[1:2] if quick else _OURS_IN_FLIGHT)]
    with serving("plain") as url:
        return _compared(_run_candidates(candidates, url, rounds=1 if quick else 3, budget_s=180))


def with_latency(*, quick: bool) -> list[Row]:
    """A server that answers after 50 ms, 256 requests in flight."""
    items, possible = (5000 if quick else 20_000), IN_FLIGHT / LATENCY_S
    candidates = [_ours(transport, IN_FLIGHT, items) for transport in transports()]
    candidates += [_peer(name, IN_FLIGHT, items) for name in ("aiohttp", "pyreqwest")]
    with serving("late", seconds=LATENCY_S) as url:
        results = _run_candidates(candidates, url, rounds=1 if quick else 2, budget_s=60)
    rows = []
    for candidate in candidates:
        share = max(_rates(results, candidate.name)) / possible
        counts = candidate.name == _our_name(transports()[0])
        rows.append(
            Row(
                figure=f"50 ms, 256 in flight: {_title(candidate.name)} ÷ (256 ÷ 0.05 s)",
                measured=f"{share:.2f} ({share * possible:,.0f}/s)",
                goal=f"≥ {GOAL_OF_LATENCY}" if counts else "",
                met=share >= GOAL_OF_LATENCY if counts else None,
            )
        )
    return rows


def _peer(name: str, in_flight: int, items: int) -> _Candidate:
    def measure(url: str) -> Mapping[str, Any]:
        return measured("peers.py", peer=name, url=url, items=items, concurrency=in_flight)

    return _Candidate(name=name, in_flight=in_flight, items=items, measure=measure)


def _ours(transport: str, in_flight: int, items: int) -> _Candidate:
    def measure(url: str) -> Mapping[str, Any]:
        found = measured("ours.py", url=url, items=items, concurrency=in_flight, check={"http": transport})
        if found["completed"] != items:
            raise SystemExit(f"ours stored {found['completed']} of {items} items: {found}")
        return found

    return _Candidate(name=_our_name(transport), in_flight=in_flight, items=items, measure=measure)


def _our_name(transport: str) -> str:
    return f"ours over http = {transport}"


def _title(name: str) -> str:
    return _NAMES.get(name, name)


def _run_candidates(candidates: Sequence[_Candidate], url: str, *, rounds: int, budget_s: float) -> Results:
    """The given number of rounds, or as many as fit into the time, but at least one."""
    results: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    started_s = time.monotonic()
    for number in range(rounds):
        if number and (time.monotonic() - started_s) * (number + 1) / number > budget_s:
            print(f"only {number} of {rounds} rounds: the machine is too busy for more", file=sys.stderr)
            break
        for candidate in candidates:
            print(f"round {number + 1}: {_title(candidate.name)}, {candidate.in_flight} in flight", file=sys.stderr)
            found = candidate.measure(url)
            rate = candidate.items / found["took_s"]
            rates = {
                "rate": rate,
                "per_cpu_s": rate / found["cpu_share"],
                "run_rate": candidate.items / found.get("run_s", found["took_s"]),
            }
            results.setdefault((candidate.name, candidate.in_flight), []).append({**found, **rates})
    return results


def _rates(results: Results, name: str) -> list[float]:
    """The best of the rounds for each number in flight."""
    return [max(each["rate"] for each in found) for (candidate, _), found in results.items() if candidate == name]


def _widths(results: Results, name: str) -> str:
    return ", ".join(str(in_flight) for candidate, in_flight in results if candidate == name)


def _compared(results: Results) -> list[Row]:
    names = list(dict.fromkeys(name for name, _ in results))
    rows = [
        Row(
            figure=f"checks/s: {_title(name)}"
            + ("" if name == "tutorial" else f", {_widths(results, name)} in flight"),
            measured=", ".join(f"{rate:,.0f}" for rate in _rates(results, name)),
        )
        for name in names
    ]
    for transport in transports():
        rows += _ratios(results, _our_name(transport), counts=transport == transports()[0])
    return [*rows, *_servers_share(results)]


def _ratios(results: Results, name: str, *, counts: bool) -> list[Row]:
    """Ours against three others; only the default transport has goals.

    A busy machine slows down one and not another, so the ratio per second of CPU must meet the goal too.
    """
    goals = (
        ("aiohttp", GOAL_OF_AIOHTTP, f"≥ {GOAL_OF_AIOHTTP}"),
        ("pyreqwest", MOONSHOT_OF_PYREQWEST, f"≥ {MOONSHOT_OF_PYREQWEST} (moonshot)"),
        ("tutorial", GOAL_OF_TUTORIAL, f"≥ {GOAL_OF_TUTORIAL}"),
    )
    rows = []
    for peer, goal, said in goals:
        ratio = _best(results, name, "rate") / _best(results, peer, "rate")
        cpu = _best(results, name, "per_cpu_s") / _best(results, peer, "per_cpu_s")
        rows.append(
            Row(
                figure=f"{name}, stored ÷ {_title(peer)}" + ("" if peer == "tutorial" else " (per second of CPU)"),
                measured=f"{ratio:.2f}" + ("" if peer == "tutorial" else f" ({cpu:.2f})"),
                goal=said if counts else "",
                met=ratio >= goal and (cpu >= goal or peer == "tutorial") if counts else None,
            )
        )
    whole = _best(results, name, "run_rate")
    return [*rows, Row(figure=f"{name}: items/s of the whole run, sync log to snapshot", measured=f"{whole:,.0f}")]


def _best(results: Results, name: str, figure: str) -> float:
    return float(max(each[figure] for (candidate, _), found in results.items() if candidate == name for each in found))


def _servers_share(results: Results) -> list[Row]:
    """The CPU of the server's process: it must not be the bottleneck."""
    rows = []
    for name in ("pyreqwest", *(_our_name(transport) for transport in transports())):
        found = [each for (candidate, _), many in results.items() if candidate == name for each in many]
        server, client = max(e["server_share"] for e in found), max(e["cpu_share"] for e in found)
        rows.append(
            Row(
                figure=f"CPU during {_title(name)}: server, client (at most)",
                measured=f"{server:.0%}, {client:.0%}" + (" (the server is saturated)" if server > SATURATED else ""),
                goal=f"server < {SATURATED:.0%}",
                met=server < SATURATED,
            )
        )
    return rows
