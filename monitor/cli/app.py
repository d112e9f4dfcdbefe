"""The command tree. Only the command that is called is imported and built: `--help` and cron start fast."""

from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from monitor import __version__

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter

COMMANDS = {
    "demo": "Show the main job against the built-in sandbox.",
    "init": "Write a commented monitor.toml and a .env to fill in.",
    "doctor": "Try each part for real, and say what to fix.",
    "check": "Check every tracked item once: snapshot, incidents, delivery.",
    "wait": "Wait until the API is done with items: completed, failed, missing or invalid.",
    "status": "Say what the API knows of items now: one question each, nothing is stored.",
    "canary": "Upload a tiny document, wait until it is indexed, retrieve a piece of it, and delete it.",
    "daemon": "Run every target on its schedule, until a signal.",
    "worker": "Execute the runs that the daemon queues, until a signal.",
    "notify": "Deliver the messages that are due, once.",
    "report": "Report states, trends, and changes since the last report.",
    "history": "List the snapshots of past runs, newest first.",
    "slo": "Show each objective: its error budget, and how fast it burns.",
    "gate": "Say whether bulk work on a target may proceed.",
    "sandbox": "Serve a simulated data engine, with faults on demand.",
    "docs": "Print a page of the documentation as Markdown, or the list of pages.",
    "config": "The configuration.",
    "db": "The monitor's own database.",
    "items": "The items that are monitored, and the built-in sync log.",
    "incidents": "Incidents: what is or was wrong.",
    "notifications": "Notifications: sent, waiting, and given up.",
    "providers": "The APIs that are described, and what each needs.",
    "rules": "The rules of incidents: when they open and whom they notify.",
    "silences": "Silences: no notifications about an incident for a while.",
}
"""Each command and group in the order of `--help`, with the first sentence of its help.

A command is the function of its name in `monitor.cli.NAME`; a group is the `app` there.
"""

_MODULES = {"doctor": "doctor.command", "status": "wait"}
"""Modules that are not named after their command."""
_OPTIONS: dict[str, Any] = {"pretty_exceptions_enable": False, "rich_markup_mode": None}


def _build(name: str) -> "Command":
    """Imports and builds one command or group."""
    module = import_module(f"monitor.cli.{_MODULES.get(name, name)}")
    group = getattr(module, "app", None)
    if group is None:
        group = typer.Typer(add_completion=False, **_OPTIONS)
        group.command(name)(getattr(module, name))
    command = typer.main.get_command(group)
    command.name = name
    return command


class _Commands(Mapping[str, "Command"]):
    """The commands by name, each built when it is first asked for."""

    def __init__(self) -> None:
        self._built: dict[str, Command] = {}

    def __getitem__(self, name: str) -> "Command":
        if name not in self._built:
            if name not in COMMANDS:
                raise KeyError(name)
            self._built[name] = _build(name)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Root(TyperGroup):
    """The command itself, which lists its commands without building them."""

    def format_commands(self, ctx: "Context", formatter: "HelpFormatter") -> None:  # noqa: ARG002  # click's signature
        """Writes a line per command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(cls=_Root, name="ingestion-monitor", no_args_is_help=True, **_OPTIONS)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Monitors what a hosted data engine does with your uploads: history, incidents, and what to check."""


@cache
def command_tree() -> TyperGroup:
    """The commands as they are parsed; the root is built once per process."""
    tree = cast("TyperGroup", typer.main.get_command(app))
    tree.commands = cast("MutableMapping[str, Command]", _Commands())
    return tree
