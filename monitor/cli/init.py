"""`init`: writes a commented monitor.toml and a .env to fill in. It overwrites nothing without --force."""

import os
from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.completion import built_in_provider_names
from monitor.cli.options import AsJson
from monitor.cli.session import print_json, print_lines
from monitor.errors import ConfigError, MonitorError

_NEXT_STEPS = """\
wrote {config}
wrote {dotenv} (only you can read it)
{schema}
Next:
  1. Fill in {count} of {dotenv}:
     {names}
  2. ingestion-monitor doctor{option}
     tries each part and says what to fix
  3. ingestion-monitor items import FILE{option}
     imports the ids of your uploads (or name your own table in {config})
  4. ingestion-monitor check{option}
     asks the API about each item, stores a snapshot, and reports problems"""

_SANDBOX = """
To try it without an account, run `ingestion-monitor sandbox` in another
terminal: it prints those three lines, and the base_url for {config}."""


def init(
    path: Annotated[
        Path | None, typer.Option("--path", "-p", help="A folder, or a file that ends with .toml.", show_default=".")
    ] = None,
    provider: Annotated[
        str,
        typer.Option(
            "--provider",
            metavar="PROVIDER",
            help="The API, as `providers list` names it; generic for any other.",
            autocompletion=built_in_provider_names,
        ),
    ] = "gloo",
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base-url",
            metavar="URL",
            help="The URL of the API, such as the sandbox's.",
            show_default="the provider's own",
        ),
    ] = None,
    item_path: Annotated[
        str | None,
        typer.Option(
            "--item-path",
            metavar="PATH",
            help="With --provider generic: the path of one item, such as /documents/{item_id}.",
            show_default="to be filled in",
        ),
    ] = None,
    as_json: AsJson = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Write a commented monitor.toml and a .env to fill in. It asks nothing.

    Example: ingestion-monitor init
    """
    import re
    import shlex

    _require_known(provider)
    config = _config_path(path or Path())
    dotenv = config.parent / ".env"
    existing = [] if force else [path for path in (config, dotenv) if os.path.lexists(path)]
    if existing:
        raise ConfigError(
            [f"{path} exists already: use another --path, or --force to overwrite it" for path in existing]
        )
    toml, env = _filled_in(provider, base_url, item_path)
    schema = config.parent / SCHEMA_FILE
    wrote_schema = force or not os.path.lexists(schema)
    _write(dotenv, env, mode=0o600, force=force)
    _write(config, toml, mode=0o644, force=force)
    if wrote_schema:
        _write(schema, _json_schema(), mode=0o644, force=force)
    names = re.findall(r"^(\w+)=$", env, re.MULTILINE)
    if as_json:
        written = [str(path) for path in (config, dotenv, *([schema] if wrote_schema else []))]
        print_json({"written": written, "fill_in": names})
        return
    option = "" if config == Path("monitor.toml") else f" --config {shlex.quote(str(config))}"
    text = _NEXT_STEPS + ("\n" + _SANDBOX if provider == "gloo" and base_url is None else "")
    print_lines(
        text.format(
            config=config,
            dotenv=dotenv,
            schema=f"wrote {schema} (for editors, which validate {config.name} by it)\n" if wrote_schema else "",
            count=_LINES[len(names)],
            names=", ".join(names) or "(there is nothing to fill in)",
            option=option,
        )
    )


SCHEMA_FILE = "monitor.schema.json"
"""As the first line of the templates names it."""
_LINES = ("nothing", "one line", "two lines", "three lines", "four lines", "five lines", "six lines")


def _require_known(provider: str) -> None:
    from monitor.config.fields import did_you_mean, format_choices
    from monitor.providers.registry import built_in_names

    known = built_in_names()
    if provider not in known:
        hint = did_you_mean(provider, known)
        raise ConfigError([f"--provider: there are templates for {format_choices(known)} alone{hint}"])


def _filled_in(provider: str, base_url: str | None, item_path: str | None) -> tuple[str, str]:
    """The templates of monitor.toml and .env, without the variables whose values are given."""
    if item_path is not None and provider != "generic":
        raise ConfigError(["--item-path goes with --provider generic: the others know their own"])
    toml, env, url_variable = _templates(provider)
    if base_url is not None:
        toml, env = _with_value(toml, env, "base_url", _base_url(base_url), variable=url_variable)
    if item_path is not None:
        if not (item_path.startswith("/") and "{item_id}" in item_path):
            raise ConfigError(["--item-path must begin with / and hold {item_id}, as in /documents/{item_id}"])
        toml, env = _with_value(toml, env, "path", item_path, variable="API_ITEM_PATH")
    return toml, env


def _templates(provider: str) -> tuple[str, str, str]:
    """monitor.toml, .env, and the variable with the API's URL in them."""
    if provider in {"gloo", "generic"}:
        return _template(f"{provider}.toml"), _template(f"{provider}-env.txt"), "API_URL"
    from monitor.config.examples import example_target
    from monitor.providers.preset import find_preset

    preset = find_preset(provider)
    if preset is None:
        raise ConfigError([f"--provider: there is no template for {provider}"])
    example = example_target(preset)
    head, _, rest = _template("generic.toml").partition("[[targets]]\n")
    tail = rest[rest.index("# The items to check.") :]
    about = f"# {preset.id[0].upper()}{preset.id[1:]}, is what id_column has.\n" if preset.id else ""
    if preset.params and "item" in preset.settings:  # a list is one for all rows
        name = next(iter(preset.params))
        group = next(line for line in tail.splitlines(keepends=True) if line.startswith("# group_column"))
        columns = f'# param_columns = {{ {name} = "…" }}'
        tail = tail.replace(group, f"{group}{columns:<46}# a column per row, in place of the value above\n")
    more = f"# `ingestion-monitor providers show {provider}` prints what stands behind this name"
    toml = f"{head}{example.toml}\n{more}\n\n{about}{tail}"
    first, _, last = (part.strip() for part in _template("generic-env.txt").split("\n\n"))
    fill_in = "".join(f"{name}=\n" for name in example.variables)
    asked = "# Fill in what is empty:" if fill_in else "# There is nothing to fill in."
    last = "\n".join(line for line in last.splitlines() if "CLIENT_SECRET" not in line)
    last += "".join(f"\n# {name}=" for name in example.optional)
    return toml, f"{first}\n\n{asked}\n{fill_in}\n{last}\n", example.url_variable or "API_URL"


def _with_value(toml: str, env: str, key: str, value: str, *, variable: str) -> tuple[str, str]:
    """The setting with a value of its own, and .env without the line that would have it."""
    import json
    import re

    toml = re.sub(rf"(?m)^(# )?{key} = .*$", lambda _: f"{key} = {json.dumps(value)}", toml, count=1)
    return toml, re.sub(rf"(?m)^{variable}=\n", "", env)


def _base_url(text: str) -> str:
    from monitor.config.urls import validate_base_url

    try:
        return validate_base_url(text, allow_http=False)
    except ValueError as error:
        raise ConfigError([f"--base-url {error}"]) from None


def _json_schema() -> str:
    import json

    from monitor.config.json_schema import json_schema
    from monitor.providers.registry import installed_providers

    return json.dumps(json_schema(installed_providers()), indent=2, ensure_ascii=False) + "\n"


def _config_path(path: Path) -> Path:
    return path if path.suffix == ".toml" and not path.is_dir() else path / "monitor.toml"


def _template(name: str) -> str:
    from importlib import resources

    return resources.files("monitor.cli").joinpath("templates", name).read_text(encoding="utf-8")


def _write(path: Path, text: str, *, mode: int, force: bool) -> None:
    """Writes a file, and the folders that it is in."""
    from monitor.cli.files import write_file

    remedy = "with --path name a folder that you may write to"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{path} can't be written ({error.strerror}): {remedy}"
        raise MonitorError(reason) from error
    write_file(path, text, mode=mode, force=force, remedy=remedy)
