"""`init`: writes a commented monitor.toml and a .env to fill in. It overwrites nothing without --force."""

import os
from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.session import print_lines
from monitor.errors import ConfigError, MonitorError

_NEXT_STEPS = """\
wrote {config}
wrote {dotenv} (only you can read it)

Next:
  1. Fill in three lines of {dotenv}:
     {names}
  2. ingestion-monitor doctor{option}
     tries each part and says what to fix
  3. ingestion-monitor items import FILE{option}
     imports the ids of your uploads (or name your own table in {config})
  4. ingestion-monitor check{option}
     asks the API about each item, stores a snapshot, and reports problems"""

_SANDBOX = """
To try it without an account, run `ingestion-monitor sandbox` in another
terminal: it prints those three lines, and the --base-url for `init`."""


def init(
    path: Annotated[
        Path | None, typer.Option("--path", "-p", help="A folder, or a file that ends with .toml.", show_default=".")
    ] = None,
    provider: Annotated[str, typer.Option("--provider", help="gloo, or generic for any other API.")] = "gloo",
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base-url", help="The URL of the API, such as the sandbox's.", show_default="the provider's own"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Write a commented monitor.toml and a .env to fill in. It asks nothing.

    Example: ingestion-monitor init
    """
    import re
    import shlex

    from monitor.config.fields import did_you_mean, format_choices
    from monitor.providers.registry import BUILT_IN

    if provider not in BUILT_IN:
        hint = did_you_mean(provider, BUILT_IN)
        raise ConfigError([f"--provider: there are templates for {format_choices(BUILT_IN)} alone{hint}"])
    config = _config_path(path or Path())
    dotenv = config.parent / ".env"
    existing = [] if force else [path for path in (config, dotenv) if os.path.lexists(path)]
    if existing:
        raise ConfigError(
            [f"{path} exists already: use another --path, or --force to overwrite it" for path in existing]
        )
    if base_url is not None and provider != "gloo":
        raise ConfigError(["--base-url goes with --provider gloo: for others set API_URL in .env"])
    toml = _with_base_url(_template(f"{provider}.toml"), base_url)
    env = _template(f"{provider}-env.txt")
    _write(dotenv, env, mode=0o600, force=force)
    _write(config, toml, mode=0o644, force=force)
    option = "" if config == Path("monitor.toml") else f" --config {shlex.quote(str(config))}"
    names = ", ".join(re.findall(r"^(\w+)=$", env, re.MULTILINE))
    text = _NEXT_STEPS + ("\n" + _SANDBOX if provider == "gloo" and base_url is None else "")
    print_lines(text.format(config=config, dotenv=dotenv, names=names, option=option))


def _config_path(path: Path) -> Path:
    return path if path.suffix == ".toml" and not path.is_dir() else path / "monitor.toml"


def _with_base_url(template: str, base_url: str | None) -> str:
    if base_url is None:
        return template
    import json
    import re

    from monitor.config.urls import validate_base_url

    try:
        address = validate_base_url(base_url, allow_http=False)
    except ValueError as error:
        raise ConfigError([f"--base-url {error}"]) from None
    return re.sub(r"(?m)^(# )?base_url = .*$", lambda _: f"base_url = {json.dumps(address)}", template)


def _template(name: str) -> str:
    from importlib import resources

    return resources.files("monitor.cli").joinpath("templates", name).read_text(encoding="utf-8")


def _write(path: Path, text: str, *, mode: int, force: bool) -> None:
    """Writes a file in one step; it never has another mode than this."""
    import tempfile

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # only its owner can read it
    except OSError as error:
        raise _unwritable(path, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(mode)
        if force:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)  # unlike a rename, it never replaces a file that was just created
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> MonitorError:
    return MonitorError(f"{path} can't be written ({error.strerror}): with --path name a folder that you may write to")
