"""The client under failures, refusals, rate limits, endless answers, and a gzip bomb.

Figures are the server's counts, not our own. Runs that mostly wait run in parallel.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builds import Build
from processes import CLIENT_CORE, Server, Spent, measure, serving
from table import Row
from targets import Folder

__all__ = ["bomb", "failures", "overruns", "rate_limits"]

GOAL_REQUESTS, GOAL_OUTAGE, GOAL_SHARE, GOAL_REFUSED, GOAL_OVER_S, GOAL_MB = 1.10, 0.01, 0.95, 0.005, 0.5, 20
DEADLINE_S = 2
_CLIENTS = ("fast", "httpx")
"""The values of `http` in a target's check, the default first."""
_ANY_END = (0, 4)
"""Exit codes of a run that was complete, and of one that was cut short."""
_SEED = 7
_SECONDS = 14
"""How long the rate limits are used; whole seconds in the middle count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """The last run of some: what it reports, what its process took, and the server's counts after all of them."""

    report: Mapping[str, Any]
    spent: Spent
    stats: Mapping[str, Any]


def _ours(
    build: Build,
    server: Server,
    items: int,
    *,
    concurrency: int = 32,
    deadline_s: int = 240,
    runs: int = 1,
    **check: object,
) -> _Ended:
    """Runs over a new sync log."""
    with tempfile.TemporaryDirectory(prefix="monitor-bench-") as folder:
        settings = {"strategy": "items", "concurrency": concurrency, "deadline": f"{deadline_s}s", **check}
        target = Folder(build=build, path=Path(folder), server=server, check_settings=settings)
        target.make(range(items))
        for _ in range(runs):
            spent = target.run("check", "--json", watched=True, core=CLIENT_CORE, codes=_ANY_END)
        return _Ended(report=spent.json()["targets"][0], spent=spent, stats=server.stats())


def _peer_once(peer: str, server: Server, memory_mb: int = 0) -> Mapping[str, Any]:
    """One request of another client."""
    options = json.dumps({"peer": peer, "url": server.url})
    line = [sys.executable, Path(__file__).with_name("peers.py"), options]
    found: Mapping[str, Any] = measure(line, core=CLIENT_CORE, memory_mb=memory_mb).json()
    return found


def _side_by_side(works: Sequence[Callable[[], list[Row]]], *, at_once: int) -> list[Row]:
    with ThreadPoolExecutor(at_once) as pool:
        return [row for rows in pool.map(lambda work: work(), works) for row in rows]


def failures(build: Build, *, quick: bool) -> list[Row]:
    """Requests per item while a share of the answers is 503, and while all of them are 429."""
    items = 2000 if quick else 10_000
    shares = (0.3, 1.0) if quick else (0.05, 0.1, 0.3, 0.5, 1.0)
    print("failures: 503 at random, then 429", file=sys.stderr)
    works = [lambda share=share: [_failing(build, share, items)] for share in shares]
    return _side_by_side([*works, lambda: _refusing(build, items)], at_once=2)


def _failing(build: Build, share: float, items: int) -> Row:
    outage = share >= 1
    runs = 2 if outage else 1  # an outage is an incident from its second run on
    with serving("failing", share=share, seed=_SEED) as server:
        found = _ours(build, server, items, concurrency=256, deadline_s=30, runs=runs)
    incidents, completed = len(found.report["open_incidents"]), found.report["health"]["completed"]
    per_item = found.stats["requests"] / items / runs
    measured_text = f"{per_item:.4f}" if outage else f"{per_item:.2f} ({completed / items:.1%} answered"
    if outage:
        met = per_item <= GOAL_OUTAGE and incidents == 1
        measured_text += f", {incidents} incident(s)"
    else:
        met = per_item <= GOAL_REQUESTS
        reason = found.report["abort_reason"]
        measured_text += f", {found.spent.asking_wall_s:.1f} s{', ' + reason if reason else ''})"
    return Row(
        figure=f"{items:,} items, {share:.0%} of answers 503: requests per item",
        measured=measured_text,
        goal=f"≤ {GOAL_OUTAGE}, 1 incident" if outage else f"≤ {GOAL_REQUESTS:.2f}",
        met=met,
    )


def _refusing(build: Build, items: int) -> list[Row]:
    with serving("refusing", seconds=1) as server:
        found = _ours(build, server, items, concurrency=256, deadline_s=5)
    counts = found.stats
    per_item = counts["requests"] / items
    return [
        Row(
            figure=f"{items:,} items, all 429 with Retry-After: 1: requests per item",
            measured=f"{per_item:.3f} ({found.spent.asking_wall_s:.1f} s)",
            goal=f"≤ {GOAL_REQUESTS:.2f}",
            met=per_item <= GOAL_REQUESTS,
        ),
        Row(
            figure="… sent before their time: for the same item, for any item (250 ms for those in flight)",
            measured=f"{counts['early_same']}, {counts['early_any']} of {counts['requests']}",
            goal="0, 0",
            met=counts["early_same"] == counts["early_any"] == 0,
        ),
    ]


def rate_limits(build: Build, *, quick: bool) -> list[Row]:
    """How much of a rate limit is used, and how often it is exceeded."""
    print("rate limits", file=sys.stderr)
    limits = [(kind, rate) for kind in ("windows", "bucket") for rate in ((200,) if quick else (200, 50))]
    return _side_by_side([lambda kind=kind, rate=rate: _limited(build, kind, rate) for kind, rate in limits], at_once=4)


def _limited(build: Build, kind: str, rate: int) -> list[Row]:
    with serving(kind, rate=rate) as server:
        counts = _ours(build, server, rate * _SECONDS, concurrency=64, deadline_s=3 * _SECONDS, rate_share=1.0).stats
    accepted = {int(second): count for second, count in counts["accepted"].items()}
    # without the first second's burst, the rest of a bucket after it, and the incomplete last second
    inner = range(min(accepted) + 2, max(accepted))
    used = sum(accepted.get(second, 0) for second in inner) / (rate * max(1, len(inner)))
    refused = counts["refused"] / counts["requests"]
    name = f"{rate}/s {'in windows of 1 s' if kind == 'windows' else 'from a bucket'}"
    return [
        Row(
            figure=f"rate limit of {name}: share used, share of 429",
            measured=f"{used:.1%}, {refused:.1%} ({len(inner)} s)",
            goal=f"≥ {GOAL_SHARE:.0%}, ≤ {GOAL_REFUSED:.1%}",
            met=used >= GOAL_SHARE and refused <= GOAL_REFUSED,
        )
    ]


def overruns(build: Build, *, quick: bool) -> list[Row]:  # noqa: ARG001  # every figure takes it
    """How long after its deadline a run ends if answers don't end."""
    print("overruns", file=sys.stderr)
    alone = [lambda peer=peer: [_over_alone(peer)] for peer in ("requests, once", "httpx, once")]
    ours = [
        lambda transport=transport, kind=kind: [_over(build, transport, kind)]
        for transport in _CLIENTS
        for kind in _UNENDING
    ]
    # the two of ten seconds run in parallel to ours, which run one at a time
    rows = _side_by_side([*alone, *ours], at_once=len(alone) + 1)
    return rows[len(alone) :] + rows[: len(alone)]


_UNENDING = {"dripping": {"seconds": 10}, "hanging": {}, "dropping": {}}


def _over(build: Build, transport: str, kind: str) -> Row:
    with serving(kind, **_UNENDING[kind]) as server:
        over_s = _ours(build, server, 500, deadline_s=DEADLINE_S, http=transport).spent.asking_wall_s - DEADLINE_S
    return Row(
        figure=f"server {kind}, deadline of {DEADLINE_S} s: the run over http = {transport} ends after it by",
        measured=f"{over_s:+.2f} s",
        goal=f"≤ {GOAL_OVER_S} s",
        met=over_s <= GOAL_OVER_S,
    )


def _over_alone(peer: str) -> Row:
    with serving("dripping", seconds=10) as server:
        found = _peer_once(peer, server)
    return Row(
        figure=f"server dripping for 10 s, timeout of 1 s: {peer.partition(',')[0]} ends after it by",
        measured=f"{found['took_s'] - 1:+.2f} s ({found['ended']})",
    )


def bomb(build: Build, *, quick: bool) -> list[Row]:
    """Memory for an answer of 0.5 MB that unpacks to 500 MB."""
    print("gzip bomb", file=sys.stderr)
    mb = 100 if quick else 500
    rows = []
    with serving("plain") as plain, serving("bomb", mb=mb) as bombed:
        for transport in _CLIENTS:
            peaks = [_ours(build, each, 64, http=transport).spent.peak_mb for each in (bombed, plain)]
            grown_mb = peaks[0] - peaks[1]
            rows.append(
                Row(
                    figure=f"gzip bomb of {mb} MB: peak over http = {transport}, beside that with items",
                    measured=f"{grown_mb:+.1f} MB",
                    goal=f"≤ +{GOAL_MB} MB",
                    met=grown_mb <= GOAL_MB,
                )
            )
    with serving("bomb", mb=100) as server:
        found = _peer_once("requests, once", server, memory_mb=2048)
    figure = "gzip bomb of 100 MB: peak of requests"
    return [*rows, Row(figure=figure, measured=f"{found['grown_mb']:+.1f} MB ({found['ended']})")]
