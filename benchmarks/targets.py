"""Configurations for measured commands, and one `check` of them. They use only what users have: files, the command."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import id_logs
from builds import Build
from processes import Server, Spent, measure

__all__ = ["Folder", "configuration"]

_TARGET = """
[[targets]]
name = "{name}"
provider = "gloo"
base_url = "{url}"
publisher_id = "11111111-1111-4111-8111-111111111111"
auth = {auth}
{tls}
[targets.sync_log]
url = "{log}"
{sync_log}
[targets.check]
{check}
"""
_CLIENT = '{ client_id = "bench", client_secret = "bench-secret" }'
_KEY = '{{ api_key = "bench-key-{name}" }}'
_DATABASE = "sqlite:///monitor.db"
_LOG = "sqlite:///pipeline.db"


def configuration(
    names: Sequence[str],
    server: Server,
    *,
    database: str = _DATABASE,
    log: str = _LOG,
    check: Mapping[str, object],
    sync_log: Mapping[str, object],
    more: str = "",
) -> str:
    """The text of `monitor.toml`. One target fetches a token; each of several has an API key of its own."""
    tls = f'[targets.tls]\nca_file = "{server.ca_file}"' if server.ca_file else ""
    targets = [
        _TARGET.format(
            name=name, url=server.url, auth=_CLIENT if len(names) == 1 else _KEY.format(name=name), tls=tls, log=log,
            sync_log=_settings(sync_log), check=_settings(check),
        )
        for name in names
    ]  # fmt: skip
    return "".join([f'database = "{database}"\n{more}', *targets])


def _settings(values: Mapping[str, object]) -> str:
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder with a configuration, a sync log and a database of its own, for one build."""

    build: Build
    path: Path
    server: Server
    names: Sequence[str] = ("bench",)
    database: str = _DATABASE
    log: str = _LOG
    check_settings: Mapping[str, object] = field(default_factory=dict)
    more: str = ""
    """More of the configuration, before the targets."""

    @property
    def log_url(self) -> str:
        """The sync log's, from anywhere."""
        return self.log.replace("sqlite:///", f"sqlite:///{self.path}/")

    def make(self, numbers: Sequence[int]) -> None:
        """Writes the configuration and the sync log with these items."""
        self.path.mkdir(parents=True, exist_ok=True)
        id_logs.make(self.log_url, numbers)
        self.configure()

    def configure(self, **sync_log: object) -> None:
        """Writes the configuration, with more settings of `[targets.sync_log]`."""
        text = configuration(
            self.names, self.server, database=self.database, log=self.log, check=self.check_settings,
            sync_log=sync_log, more=self.more,
        )  # fmt: skip
        (self.path / "monitor.toml").write_text(text, encoding="utf-8")

    def run(self, *words: str, watched: bool = False, core: int | None = None, codes: Sequence[int] = (0,)) -> Spent:
        """One command of the build in this folder."""
        server = self.server if watched else None
        return measure([self.build.command, *words], self.path, server=server, core=core, codes=codes)

    def check(self, *, completed: int, watched: bool = False, core: int | None = None) -> Spent:
        """One `check` of every target, each of which must end complete with so many completed items.

        Raises:
            SystemExit: it ended otherwise.
        """
        spent = self.run("check", "--json", watched=watched, core=core)
        for run in spent.json()["targets"]:
            self._verify(run, completed)
        return spent

    def _verify(self, run: Mapping[str, Any], completed: int) -> None:
        found = (run["status"], (run["health"] or {}).get("completed"))
        if found != ("complete", completed):
            text = f"{self.build.name}: check of {run['target']} ended {found[0]} with {found[1]} of {completed} items"
            raise SystemExit(f"{text}: {run['abort_reason'] or run['error'] or ''}")
