"""How much of one credential's rate limit several processes use together, and how often they exceed it.

Each client has a registry of throttles, an engine and a transport of its own, as a worker has; they share an event loop
and a private PostgreSQL server. The API is a process, and counts by whole seconds. Run it alone on a machine:

    python benchmarks/fleet_limits.py [--rate 500] [--seconds 40] [--clients 1 2 4 8] [--only stated]
"""

import argparse
import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

import postgresql
import structlog
from processes import Server, serving
from sqlalchemy import Engine
from table import Row, print_table

from monitor.app.app import build_provider
from monitor.app.clients import open_client
from monitor.app.fleet_limits import FleetLimits
from monitor.app.throttles import ThrottleRegistry
from monitor.client.client import Client
from monitor.config import TargetConfig
from monitor.database.engine import connect
from monitor.database.schema import upgrade
from monitor.model.http import Request

GOAL_SHARE, GOAL_REFUSED = 0.95, 0.005
KINDS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "stated": ("a bucket, stated in headers", {"stated": True}),
    "429": ("a bucket, 429 only", {"stated": False}),
    "503": ("a bucket, 503 only", {"stated": False, "refusal": 503}),
}
_WARM_S = {"stated": 6, "429": 15, "503": 15}
_IN_FLIGHT = 256
"""Of all clients together."""


def main() -> None:
    """Measures the chosen kinds of limits with the chosen numbers of clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=500, help="accepted requests per second; default 500")
    parser.add_argument("--seconds", type=int, default=40, help="of each measurement; default 40")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--only", choices=KINDS, action="append", help="this kind of limit; may be repeated")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with postgresql.running() as server:
        rows = [
            measured(server.create(f"limits_{kind}_{clients}"), kind, clients, options.rate, options.seconds)
            for kind in options.only or KINDS
            for clients in options.clients
        ]
    print_table(rows)


def measured(url: str, kind: str, clients: int, rate: int, seconds: int) -> Row:
    """One row: the shares that were used and refused in the whole seconds after a warm-up."""
    upgrade(url)
    name, settings = KINDS[kind]
    with serving("bucket", rate=rate, **settings) as server, _engines(url, clients) as engines:
        asyncio.run(_ask(server, engines, seconds))
        counts = server.stats()
    accepted = {int(second): count for second, count in counts["accepted"].items()}
    inner = range(min(accepted) + _WARM_S[kind], max(accepted))
    used = sum(accepted.get(second, 0) for second in inner)
    refused = sum(counts["refused_in"].get(str(second), 0) for second in inner)
    used_share, refused_share = used / (rate * max(1, len(inner))), refused / max(1, used + refused)
    return Row(
        figure=f"{rate}/s of {name}; {clients} client(s): share used, share refused",
        measured=f"{used_share:.1%}, {refused_share:.2%} ({len(inner)} s)",
        goal=f"≥ {GOAL_SHARE:.0%}, ≤ {GOAL_REFUSED:.1%}",
        met=used_share >= GOAL_SHARE and refused_share <= GOAL_REFUSED,
    )


@contextlib.contextmanager
def _engines(url: str, count: int) -> Iterator[Sequence[Engine]]:
    engines = [connect(url) for _ in range(count)]
    try:
        yield engines
    finally:
        for engine in engines:
            engine.dispose()


async def _ask(server: Server, engines: Sequence[Engine], seconds: int) -> None:
    target = TargetConfig.model_validate(
        {
            "name": "docs",
            "provider": "generic",
            "base_url": server.url,
            "auth": {"api_key": "key"},
            "statuses": {"completed": ["done"]},
            "item": {"path": "/items/{item_id}"},
            "check": {"concurrency": _IN_FLIGHT, "rate_share": 1.0},
        }
    )
    ends_s = time.monotonic() + seconds
    await asyncio.gather(*(_work(target, number, engine, ends_s) for number, engine in enumerate(engines)))


async def _work(target: TargetConfig, number: int, engine: Engine, ends_s: float) -> None:
    fleet = FleetLimits(holder=f"bench:{number}", stalled_after=timedelta(seconds=30), share_concurrency=_IN_FLIGHT)
    throttle = ThrottleRegistry(fleet).throttle(target, [target], engine)
    async with open_client(target, build_provider(target), throttle) as client:
        await _one(client, ends_s)  # the first answer comes before the crowd, as in a run
        await asyncio.gather(*(_worker(client, ends_s) for _ in range(_IN_FLIGHT)))


async def _worker(client: Client, ends_s: float) -> None:
    while time.monotonic() < ends_s and not client.tripped:
        await _one(client, ends_s)


async def _one(client: Client, ends_s: float) -> None:
    await client.send(Request(method="GET", path="/items/1", template="/items/{item_id}"), deadline_s=ends_s)


if __name__ == "__main__":
    main()
