"""`config …`: checks the configuration, prints what is in force, and prints its schema."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.options import AsJson, ConfigPath, group
from monitor.cli.session import load, print_json, print_lines
from monitor.errors import ConfigError, MonitorError

app = group("The configuration.")


@app.command()
def check(config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Read the configuration and list every problem, each with its remedy. Nothing is contacted.

    Example: ingestion-monitor config check --config monitor.toml
    """
    try:
        loaded = load(config)
        from monitor.app import validate_channels, validate_providers

        validate_providers(loaded.targets)
        validate_channels(loaded.channels)
    except ConfigError as error:
        problems = _with_lines(error.problems, config)
        if as_json:
            print_json({"ok": False, "problems": problems})
        raise ConfigError(problems) from None
    from monitor.config.web import access_warnings

    doubts = list(access_warnings(loaded.web))
    if as_json:
        values = {"file": str(loaded.source) if loaded.source else None, "warnings": [*loaded.warnings, *doubts]}
        values["targets"] = [target.name for target in loaded.targets]
        values["channels"] = [channel.name for channel in loaded.channels]
        print_json({"ok": True, "problems": [], **values})
        return
    for doubt in doubts:
        print(f"warning: {doubt}", file=sys.stderr)
    targets = ", ".join(target.name for target in loaded.targets)
    channels = ", ".join(channel.name for channel in loaded.channels) or "none: messages go to the log"
    source = loaded.source or "the environment"
    print_lines(f"{source}: no problems found\n  targets:  {targets}\n  channels: {channels}")


def _with_lines(problems: Sequence[str], path: Path | None) -> list[str]:
    """The problems with the lines of the settings in the file, if it can be read."""
    import os

    from monitor.cli.doctor.locations import with_lines
    from monitor.config.load import find_file

    file = find_file(path, os.environ)
    try:
        text = file.read_text(encoding="utf-8-sig") if file is not None else ""
    except (OSError, UnicodeDecodeError):
        return list(problems)
    return with_lines(problems, text, file.name) if file is not None else list(problems)


@app.command()
def show(config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Print every setting in force, secrets masked, with where each came from.

    Example: ingestion-monitor config show
    """
    loaded = load(config)
    from monitor.config.effective import effective_settings, format_toml

    settings = effective_settings(loaded.describe(), loaded.origins)
    if not as_json:
        print_lines(f"# {loaded.source or 'no file: the environment alone'}\n{format_toml(settings)}")
        return
    rows = [
        {"key": each.key, "value": each.value, "source": each.origin.source, "origin": str(each.origin)}
        for each in settings
    ]
    file = str(loaded.source) if loaded.source else None
    print_json({"file": file, "warnings": list(loaded.warnings), "settings": rows})


@app.command()
def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it to this file instead of stdout.")
    ] = None,
) -> None:
    """Print the JSON Schema of monitor.toml, for editors that check and complete while you type.

    Example: ingestion-monitor config schema --output monitor.schema.json
    """
    import json

    from monitor.config.json_schema import json_schema
    from monitor.providers.registry import installed_providers

    document = json_schema(installed_providers())
    if output is None:
        print_json(document)
        return
    try:
        output.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise MonitorError(
            f"{output} can't be written ({error.strerror}): name a file in a folder that you may write to"
        ) from error
    print_lines(f"wrote {output}; editors find it by the first line of monitor.toml: #:schema ./{output.name}")
