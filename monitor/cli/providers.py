"""`providers …`: the APIs that are built in, and what each needs. It reads no configuration and contacts nothing."""

from typing import Annotated

import typer

from monitor.cli.completion import built_in_provider_names
from monitor.cli.options import AsJson, group
from monitor.cli.session import print_json, print_lines, terminal_width

app = group("The APIs that are described, and what each needs.")
_YOUR_OWN = (
    "generic is described by your own target: `ingestion-monitor init --provider generic` writes one to fill in, and "
    "`ingestion-monitor docs providers/descriptions` has every key"
)


@app.command("list")
def listing(as_json: AsJson = False) -> None:
    """List the APIs that `provider` can name: those that are built in, and those of installed packages.

    Example: ingestion-monitor providers list
    """
    from monitor.reports.providers import provider_rows, providers_json, providers_text

    rows = provider_rows()
    if as_json:
        print_json(providers_json(rows))
    else:
        print_lines(providers_text(rows, width=terminal_width()))


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="An API, as `providers list` names it.", autocompletion=built_in_provider_names)
    ],
    as_json: AsJson = False,
) -> None:
    """Show what an API needs, what its statuses mean, what can't be said of it, and a target to paste.

    Example: ingestion-monitor providers show openai
    """
    from monitor.config.fields import did_you_mean, format_choices
    from monitor.errors import ConfigError
    from monitor.providers.preset import find_preset, preset_names
    from monitor.providers.registry import GENERIC
    from monitor.reports.providers import preset_json, preset_text

    if name == GENERIC:
        raise ConfigError([_YOUR_OWN])
    preset = find_preset(name)
    if preset is None:
        known = preset_names()
        hint = did_you_mean(name, known) or f"; use {format_choices(known)}"
        raise ConfigError([f"there is no description of {name!a} to show{hint}"])
    if as_json:
        print_json(preset_json(preset))
    else:
        print_lines(preset_text(preset))
