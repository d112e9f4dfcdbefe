"""The command as users install it: this clone's wheel and its locked requirements in an environment of their own.

An editable install has one more search path, and a development environment many more packages; both cost start-up time
that no user has. Byte code is compiled.
"""

import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Installed", "here", "install"]

_CLONE = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One installed command and the interpreter that runs it."""

    name: str
    python: Path
    command: Path


def here() -> Installed:
    """The command of this environment, usually an editable install."""
    scripts = Path(sysconfig.get_path("scripts"))
    return Installed(name="this environment", python=scripts / "python", command=scripts / "ingestion-monitor")


def install(folder: Path) -> Installed:
    """Builds the wheel and installs it with its locked requirements into a new environment in the folder.

    Raises:
        SystemExit: a step failed; with its output.
    """
    environment, dist = folder / "venv", folder / "dist"
    python = environment / "bin" / "python"
    pip = ("uv", "pip", "install", "--quiet", "--compile-bytecode", "--no-deps", "--python", str(python))
    _module("hatchling", "build", "-t", "wheel", "-d", str(dist))
    _module("uv", "venv", "--quiet", "--python", sys.executable, str(environment))
    _module(*pip, "--require-hashes", "-r", "requirements/runtime.txt")
    _module(*pip, *map(str, dist.glob("*.whl")))
    return Installed(name="installed wheel", python=python, command=environment / "bin" / "ingestion-monitor")


def _module(*arguments: str) -> None:
    ended = subprocess.run([sys.executable, "-m", *arguments], cwd=_CLONE, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
