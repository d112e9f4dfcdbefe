"""The command `sandbox`: its options and help. It hands over to the module that serves, imported only then."""

from pathlib import Path
from typing import Annotated

import typer

FAULT_NAMES = (
    "html502, spending-limit, drop, cut-headers, cut-body, drip, drip-headers, slow, slow-start, hang, token-storm"
)
"""Written out, as help shall not wait for the sandbox to be imported; a test compares."""


def sandbox(
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            help="NAME[:key=value,…], in force from the start; may be repeated. "
            f"A name is a status such as 503, or {FAULT_NAMES}. "
            "Keys: path, method, status, count, share, for, delay, drip, cut, header.NAME.",
            show_default="none",
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", help="Calls per credential, such as 50/s or 600/m; beyond it 429.", show_default="none"),
    ] = None,
    retry_after: Annotated[bool, typer.Option("--retry-after", help="A 429 of --rate says Retry-After too.")] = False,
    scenario: Annotated[
        Path | None, typer.Option("--scenario", help="Play this timeline (docs/sandbox.md).", show_default="none")
    ] = None,
    items: Annotated[int, typer.Option("--items", min=0, max=1_000_000, help="Items to begin with.")] = 0,
    item_seconds: Annotated[
        float, typer.Option("--item-seconds", min=0, help="How long an item takes through all its stages.")
    ] = 6.0,
    token_seconds: Annotated[float, typer.Option("--token-seconds", min=1, help="How long a token lives.")] = 3600.0,
    cache_seconds: Annotated[
        float, typer.Option("--cache-seconds", min=0, help="How long an answer by producer id is kept.")
    ] = 300.0,
    delete_lag_seconds: Annotated[
        float, typer.Option("--delete-lag-seconds", min=0, help="How long a deleted item is still answered for.")
    ] = 0.0,
) -> None:
    """Serve a simulated data engine that speaks Gloo's API, with faults on demand.

    Example: ingestion-monitor sandbox --items 100 --fault 503:share=0.3 --rate 50/s
    """
    from monitor.cli.sandbox import SandboxOptions
    from monitor.cli.sandbox import sandbox as command

    options = SandboxOptions(
        port=port,
        host=host,
        fault=tuple(fault or ()),
        rate=rate,
        retry_after=retry_after,
        scenario=scenario,
        items=items,
        item_seconds=item_seconds,
        token_seconds=token_seconds,
        cache_seconds=cache_seconds,
        delete_lag_seconds=delete_lag_seconds,
    )
    command(options)
