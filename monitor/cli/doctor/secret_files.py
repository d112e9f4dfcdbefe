"""Which users can read the files that hold secrets, by their modes. The files are not read."""

import os
import shlex
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from monitor.cli.doctor.findings import Finding, Level
from monitor.config import MASK, AlertmanagerConfig, Config, PagerDutyConfig, Secret
from monitor.config.effective import effective_settings
from monitor.config.load import can_see, find_working_folder
from monitor.config.origin import SettingSource
from monitor.database.postgres_url import has_secret
from monitor.database.urls import parse

_OTHERS, _GROUP = stat.S_IROTH, stat.S_IRGRP
_DOCKER = Path("/run/secrets")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFile:
    """One file that holds a secret."""

    path: Path
    mode: int
    projected: bool
    """It is in a Kubernetes volume, which replaces a whole folder behind the link `..data`."""


def secret_files(config: Config) -> list[Path]:
    """Every file with a secret: those that settings name, `.env`, and the configuration file if it holds one."""
    files = [origin.secret_file for origin in config.origins.values() if origin.secret_file]
    found = [Path(file) for file in files]
    folder = config.source.parent if config.source else find_working_folder(os.environ)
    found.append(folder / ".env")
    if config.source is not None and literal_secrets(config):
        found.append(config.source)
    return [path for path in dict.fromkeys(found) if can_see(path.is_file)]


def literal_secrets(config: Config) -> list[str]:
    """The keys of the settings whose secret is written in the configuration file itself."""
    masked = {
        setting.loc: setting
        for setting in effective_settings(config.describe(), config.origins)
        if setting.value == MASK
    }
    return [
        setting.key
        for loc, setting in masked.items()
        if setting.origin.source is SettingSource.FILE
        and not setting.origin.variables
        and setting.origin.secret_file is None
        and _is_secret(config, loc)
    ]


def _is_secret(config: Config, loc: Sequence[str | int]) -> bool:
    """A database or proxy URL is secret only with a password; a PagerDuty or Alertmanager URL never is."""
    if loc[0] == "channels" and loc[-1] == "url" and isinstance(loc[1], int):
        return not isinstance(config.channels[loc[1]], PagerDutyConfig | AlertmanagerConfig)
    if loc[-1] == "database":
        return has_secret(parse(config.database.reveal()))
    if loc[-2:] == ("sync_log", "url") and isinstance(loc[1], int):
        log = config.targets[loc[1]].sync_log
        return log is not None and has_secret(parse(log.url.reveal()))
    if loc[-1] == "proxy" and isinstance(loc[1], int):
        proxy = config.targets[loc[1]].proxy
        return isinstance(proxy, Secret) and bool(urlsplit(proxy.reveal()).password)
    return True


def read_modes(paths: Iterable[Path]) -> list[SecretFile]:
    """The files with their modes; a file that was just deleted is left out."""
    found = []
    for path in paths:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue
        data = path.parent / "..data"
        found.append(SecretFile(path=path, mode=mode, projected=path.is_symlink() and data.is_symlink()))
    return found


def check_secret_files(files: Sequence[SecretFile]) -> list[Finding]:
    """A warning for each file that others than its owner can read; a projected volume's group may."""
    too_open = [file for file in files if file.mode & (_OTHERS if file.projected else _OTHERS | _GROUP)]
    if not too_open:
        one = "1 file, readable only by its owner." if len(files) == 1 else None
        message = one or (f"{len(files)} files, readable only by their owners." if files else "no secret is in a file.")
        return [Finding(part="secret files", level=Level.OK, message=message)]
    return [_too_open_finding(file) for file in too_open]


def _too_open_finding(file: SecretFile) -> Finding:
    remedy = _remedy(file)
    command = "" if remedy else f"chmod 600 {shlex.quote(str(file.path))}"
    return Finding(part="secret files", level=Level.WARNING, message=_message(file), remedy=remedy, command=command)


def _message(file: SecretFile) -> str:
    who = "everyone on this machine" if file.mode & _OTHERS else "its group"
    return f"{file.path} holds a secret, and can be read by {who} (mode {file.mode:04o})."


def _remedy(file: SecretFile) -> str:
    """What to do if the mode can't be changed; empty if it can."""
    if file.projected:
        return "set defaultMode: 0400 on the secret's volume (0440 with an fsGroup, where runAsUser is not root)"
    if file.path.is_relative_to(_DOCKER):
        return "set mode: 0400, and the uid that the monitor runs as, for this secret in the compose or stack file"
    return ""
