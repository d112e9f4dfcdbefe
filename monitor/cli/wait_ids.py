"""Which items `wait` and `status` are about: ids on the command line, from a file or stdin, or from the sync log."""

import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from monitor.cli.session import parse_duration_option
from monitor.errors import ConfigError

if TYPE_CHECKING:
    from monitor.app import App
    from monitor.config import Config, TargetConfig
    from monitor.model import SyncLogEntry
    from monitor.providers import Provider

STDIN = "-"
MIN_SINCE, MAX_SINCE = timedelta(seconds=1), timedelta(days=3653)
_READ_LOG_S = 240.0
"""Seconds that reading the sync log may take: the default deadline of a run."""
_MAX_NAMED = 5


def one_target(config: "Config", name: str) -> "TargetConfig":
    """The target of that name. Raises ConfigError if it is not configured."""
    for target in config.targets:
        if target.name == name:
            return target
    raise ConfigError([f"there is no target {name!a}; choose from {', '.join(each.name for each in config.targets)}"])


def require_one_source(command: str, item_ids: Sequence[str], ids_from: str | None, since: str | None = None) -> None:
    """Raises ConfigError unless the ids come from exactly one place."""
    given = [bool(item_ids), ids_from is not None, since is not None]
    if sum(given) == 1:
        return
    sources = "ids, or --ids-from FILE" if command == "status" else "ids, or --ids-from FILE, or --since 1h"
    problem = "which items? Give" if not any(given) else "the items come from one place: give"
    raise ConfigError([f"{command}: {problem} {sources}"])


def read_entries(
    app: "App",
    target: "TargetConfig",
    provider: "Provider",
    *,
    item_ids: Sequence[str] = (),
    ids_from: str | None = None,
    since: timedelta | None = None,
) -> "Sequence[SyncLogEntry]":
    """The items, each once. Raises ConfigError, SyncLogError or StoreError if they can't be read."""
    from monitor.app.waiting import entries_of, uploads_since

    if since is not None:
        uploads = uploads_since(app, target, app.clock() - since, ends_s=time.monotonic() + _READ_LOG_S)
        if uploads.without_time:
            rows, they_are = ("row", "it is") if uploads.without_time == 1 else ("rows", "they are")
            print(
                f"note: {target.name}: {uploads.without_time} {rows} of the sync log without a readable upload time; "
                f"{they_are} left out",
                file=sys.stderr,
            )
        return uploads.entries
    return entries_of(provider, item_ids if ids_from is None else _ids_of_file(ids_from))


def since_option(text: str | None) -> timedelta | None:
    """The value of `--since`. Raises ConfigError if it is no duration."""
    if text is None:
        return None
    return parse_duration_option("--since", text, minimum=MIN_SINCE, maximum=MAX_SINCE, examples='"30m", "1h" or "1d"')


def _ids_of_file(file: str) -> list[str]:
    """The ids of a file: one per line, CSV with a header, or JSON lines. Raises ConfigError if a line can't be used."""
    from monitor.cli.import_items import open_stream
    from monitor.synclog.import_file import BadLine, FileSpec, LineReader, read_items

    spec = FileSpec(name="standard input" if file == STDIN else file)
    with open_stream(file) as stream:
        found = list(read_items(LineReader(stream, spec.name), spec).entries)
    bad = [each for each in found if isinstance(each, BadLine)]
    if bad:
        named = [f"{spec.name}, line {each.first}: {each.reason}" for each in bad[:_MAX_NAMED]]
        more = [f"{spec.name}: {len(bad) - _MAX_NAMED} more lines can't be used"] if len(bad) > _MAX_NAMED else []
        raise ConfigError([*named, *more])
    return [each.item_id for each in found if not isinstance(each, BadLine) and each.item_id is not None]
