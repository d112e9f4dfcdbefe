"""`init`: writes a commented monitor.toml and a .env to fill in. It asks nothing and overwrites nothing unasked."""

import json
import os
import re
import shlex
import tempfile
from importlib import resources
from pathlib import Path

from monitor.cli.session import print_lines
from monitor.config.fields import did_you_mean, format_choices
from monitor.config.urls import validate_base_url
from monitor.errors import ConfigError, MonitorError
from monitor.providers.registry import BUILT_IN

_NEXT_STEPS = """\
wrote {config}
wrote {dotenv} (only you can read it)

Next:
  1. Fill in three lines of {dotenv}:
     {names}
  2. ingestion-monitor doctor{option}
     tries each part for real and says what to mend
  3. ingestion-monitor items import FILE{option}
     tells it which items there are (or name your own table in {config})
  4. ingestion-monitor check{option}
     asks about each item, stores a snapshot, and says what is wrong"""

_BASE_URL = re.compile(r"^(# )?base_url = .*$", re.MULTILINE)

_SANDBOX = """
To try it without an account, run `ingestion-monitor sandbox` beside it: it
prints those three lines, and the --base-url to give to `init`."""


def init(path: Path | None, provider: str, force: bool, base_url: str | None = None) -> None:
    """Writes both files and says what to do next.

    Args:
        path: a folder, or a file whose name ends with .toml; None is the working folder. `.env` goes beside it.
        provider: "gloo" or "generic", whose template is taken.
        force: overwrite what is there.
        base_url: where the API is, such as the sandbox's; None leaves the provider's own.

    Raises:
        ConfigError: a file is there already, there is no such template, or that is no URL; nothing was written.
        MonitorError: a file can't be written.
    """
    if provider not in BUILT_IN:
        hint = did_you_mean(provider, BUILT_IN)
        raise ConfigError([f"--provider: there are templates for {format_choices(BUILT_IN)} alone{hint}"])
    config = _config_path(path or Path())
    dotenv = config.parent / ".env"
    existing = [] if force else [path for path in (config, dotenv) if os.path.lexists(path)]
    if existing:
        raise ConfigError(
            [f"{path} is there already: use another --path, or --force to overwrite it" for path in existing]
        )
    if base_url is not None and provider != "gloo":
        raise ConfigError(["--base-url goes with --provider gloo: for others it is the line API_URL of .env"])
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
    try:
        address = validate_base_url(base_url, allow_http=False)
    except ValueError as error:
        raise ConfigError([f"--base-url {error}"]) from None
    return _BASE_URL.sub(lambda _: f"base_url = {json.dumps(address)}", template)


def _template(name: str) -> str:
    return resources.files("monitor.cli").joinpath("templates", name).read_text(encoding="utf-8")


def _write(path: Path, text: str, *, mode: int, force: bool) -> None:
    """Puts a whole file in place at once, with its mode from the first moment."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # readable by its owner alone
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
            path.hardlink_to(temporary)  # unlike a rename, it never takes the place of a file that came in between
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> MonitorError:
    return MonitorError(f"{path} can't be written ({error.strerror}): name a folder of yours with --path")
