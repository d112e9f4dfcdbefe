"""Checks what the files under deploy/ use of the program: its command lines and settings."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from monitor.cli.app import command_tree
from monitor.config import Config, load_config

SECRETS = {
    "database-url": "postgresql://monitor:password@db.example/monitor",
    "sync-log-url": "postgresql://reader:password@db.example/pipeline",
    "gloo-client-secret": "secret",
    "slack-url": "https://hooks.example/services/x",
}
"""Example secrets by file name."""

IDS = {"GLOO_PUBLISHER_ID": "publisher", "GLOO_CLIENT_ID": "client"}
"""Variables in the settings that users replace by their ids."""

__all__ = ["IDS", "SECRETS", "expanded", "loaded", "parsed", "placed"]


def parsed(words: Sequence[str]) -> dict[str, object]:
    """The options of a command line, by the program's own parser, which raises on an invalid one."""
    command, rest = command_tree(), list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    if hasattr(command, "commands"):
        raise ValueError(f"{' '.join(words)} names no command")
    return dict(command.make_context(" ".join(words), rest).params)


def expanded(words: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Arguments as Kubernetes passes them: `$(NAME)` is replaced by the variable's value."""
    return [re.sub(r"\$\((\w+)\)", lambda found: env[found[1]], word) for word in words]


def placed(settings: str, folder: Path, secrets: Mapping[str, str] = SECRETS) -> Path:
    """A `monitor.toml` whose folder of secrets is replaced by a folder of this machine."""
    for name, value in secrets.items():
        (folder / name).write_text(f"{value}\n", encoding="utf-8")
    here = settings.replace("/run/secrets/ingestion-monitor/", f"{folder}/").replace('"secrets/', f'"{folder}/')
    (folder / "monitor.toml").write_text(here, encoding="utf-8")
    return folder / "monitor.toml"


def loaded(settings: str, folder: Path, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration of a `monitor.toml`, or its ConfigError."""
    return load_config(placed(settings, folder), environ={**IDS, **(environ or {})})
