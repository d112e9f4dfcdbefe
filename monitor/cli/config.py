"""`config …`: reads the configuration and says what it found; prints its schema."""

import json
from pathlib import Path

from monitor.app import validate_channels, validate_providers
from monitor.cli.session import load, print_json, print_lines
from monitor.config.effective import effective_settings, format_toml
from monitor.errors import MonitorError


def check(path: Path | None) -> None:
    """Prints what the configuration describes.

    Raises:
        ConfigError: with every problem found, those of providers and of Apprise included.
    """
    config = load(path)
    validate_providers(config.targets)
    validate_channels(config.channels)
    source = config.source or "the environment"
    targets = ", ".join(target.name for target in config.targets)
    channels = ", ".join(channel.name for channel in config.channels) or "none: messages go to the log"
    print_lines(f"{source}: no problems found\n  targets:  {targets}\n  channels: {channels}")


def show(path: Path | None, as_json: bool) -> None:
    """Prints every setting in force, secrets masked, with where it came from.

    As JSON, one object: `file` (its path or null), `warnings`, and `settings`, each with `key`, `value`, `source`
    (default, file, dotenv, environment or flag) and `origin` in words.

    Raises:
        ConfigError: with every problem found.
    """
    config = load(path)
    settings = effective_settings(config.describe(), config.origins)
    if not as_json:
        print_lines(f"# {config.source or 'no file: the environment alone'}\n{format_toml(settings)}")
        return
    rows = [
        {"key": each.key, "value": each.value, "source": each.origin.source, "origin": str(each.origin)}
        for each in settings
    ]
    file = str(config.source) if config.source else None
    print_json({"file": file, "warnings": list(config.warnings), "settings": rows})


def schema(output: Path | None) -> None:
    """Prints the JSON Schema of `monitor.toml`, or writes it to a file.

    Raises:
        MonitorError: the file can't be written.
    """
    from monitor.config.json_schema import json_schema
    from monitor.providers.registry import installed_providers

    schema_document = json_schema(installed_providers())
    if output is None:
        print_json(schema_document)
        return
    try:
        output.write_text(json.dumps(schema_document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise MonitorError(f"{output} can't be written ({error.strerror}): name a file in a folder of yours") from error
    print_lines(f"wrote {output}; editors find it by the first line of monitor.toml: #:schema ./{output.name}")
