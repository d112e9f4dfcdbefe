"""The command tree. A command imports what it needs when it runs, so that `--help` and cron runs start fast."""

from functools import cache
from typing import Annotated, cast

import typer
from typer.core import TyperGroup

from monitor import __version__
from monitor.cli import config, db, incidents, items, notifications, providers, rules, silences
from monitor.cli.check import check
from monitor.cli.daemon import daemon
from monitor.cli.demo import demo
from monitor.cli.docs import docs
from monitor.cli.doctor.command import doctor
from monitor.cli.gate import gate
from monitor.cli.history import history
from monitor.cli.init import init
from monitor.cli.notify import notify
from monitor.cli.report import report
from monitor.cli.sandbox import sandbox

app = typer.Typer(name="ingestion-monitor", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
for name, module in (
    ("config", config),
    ("db", db),
    ("items", items),
    ("incidents", incidents),
    ("notifications", notifications),
    ("providers", providers),
    ("rules", rules),
    ("silences", silences),
):
    app.add_typer(module.app, name=name)
for command in (demo, init, doctor, check, daemon, notify, report, history, gate, sandbox, docs):
    app.command()(command)


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
    """The commands as they are parsed; built once per process."""
    return cast("TyperGroup", typer.main.get_command(app))
