"""Reads a publisher's list in one request: items/s and peak memory beside a naive reader, `python benchmarks/list.py`.

The server is a process that sends prepared bytes. Each reader is a process too, so its peak is the kernel's
(`ru_maxrss`): ours (transport, client, Gloo's reader, a `Listing`) over each of our transports, and httpx with
`json.loads` of the whole body.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitor.model.http import Transport

GOAL_RATE, GOAL_MB = 100_000, 300
_PUBLISHER = "11111111-1111-4111-8111-111111111111"
_PATH = f"/engine/v2/publisher/{_PUBLISHER}/items"


def _row(number: int) -> bytes:
    title = f"Sermon {number} on patience and plenty"
    row = {"item_id": str(uuid.uuid4()), "item_title": title, "filename": f"{title}.pdf", "status": "COMPLETED"}
    return json.dumps(row).encode()


async def _serve(items: int) -> None:
    body = b"[" + b",".join(map(_row, range(items))) + b"]"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        for start in range(0, len(body), 1 << 20):
            writer.write(body[start : start + (1 << 20)])
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _read_over_httpx(url: str) -> int:
    from monitor.client.transports import HttpxTransport

    return await _read_ours(url, HttpxTransport(base_url=url))


async def _read_over_pyreqwest(url: str) -> int:
    from monitor.client.transports import PyreqwestTransport

    return await _read_ours(url, PyreqwestTransport(base_url=url))


async def _read_ours(url: str, transport: "Transport") -> int:
    from monitor import logs as log
    from monitor.client.client import Client
    from monitor.providers import ProviderSettings
    from monitor.providers.gloo import Gloo
    from monitor.runs.list_check import fetch_list

    log.configure(level="warning")
    provider = Gloo.from_settings(ProviderSettings(target="bench", base_url=url, publisher_id=_PUBLISHER))
    client = Client(transport=transport)
    first = provider.list_request()
    if first is None:
        raise SystemExit("Gloo has a list")
    found = await fetch_list(provider, client, first=first, deadline_s=time.monotonic() + 600)
    await transport.close()
    if found.error or found.bad_body:
        raise SystemExit(f"the list could not be read: {found.error or found.bad_body}")
    return len(found.listing)


async def _read_naively(url: str) -> int:
    import httpx

    async with httpx.AsyncClient(timeout=600) as client:
        rows = json.loads((await client.get(url + _PATH)).content)
    return len({row["item_id"]: row["status"] for row in rows})


_READERS = {"ours": _read_over_pyreqwest, "ours, httpx": _read_over_httpx, "httpx + json": _read_naively}


def _reader(name: str, url: str) -> None:
    started_s, cpu_s = time.monotonic(), time.process_time()
    count = asyncio.run(_READERS[name](url))
    took_s, cpu_s = time.monotonic() - started_s, time.process_time() - cpu_s
    print(count, took_s, cpu_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


def _measure(name: str, url: str, items: int) -> tuple[float, float, float]:
    """Items per second, items per second of CPU, and peak in MB of one reader."""
    command = [sys.executable, __file__, "--reader", name, "--url", url]
    # not its exit code: pyreqwest may abort after all is done, as the interpreter ends
    said = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True).stdout.split()
    if len(said) != len(("items", "seconds", "seconds of CPU", "MB")):
        raise SystemExit(f"{name} ended early")
    count, took_s, cpu_s, peak_mb = said
    if int(count) != items:
        raise SystemExit(f"{name} read {count} of {items} items")
    return items / float(took_s), items / float(cpu_s), float(peak_mb)


def main() -> None:
    """Measures both readers against one server and prints their figures beside the goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--reader", choices=_READERS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve(options.items))
    elif options.reader:
        _reader(options.reader, options.url)
    else:
        _compare(options.items)


def _compare(items: int) -> None:
    command = [sys.executable, __file__, "--serve", "--items", str(items)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{int(server.stdout.readline()) if server.stdout else 0}"
        rates = {}
        for name in _READERS:
            rate, rates[name], peak_mb = _measure(name, url, items)
            goals = f"(goal ≥ {GOAL_RATE:,}, ≤ {GOAL_MB} MB)" if name.startswith("ours") else ""
            print(
                f"{name:>12}: {items:,} items, {rate:>10,.0f} items/s, {rates[name]:>10,.0f} per second of CPU, "
                f"peak {peak_mb:6.1f} MB {goals}"
            )
        print(f"{'ratio (CPU)':>12}: {rates['ours'] / rates['httpx + json']:.2f}")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
