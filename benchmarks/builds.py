"""The builds that are measured beside each other: the wheel of this clone, and the wheel of a commit before.

Each has its locked requirements in an environment of its own, as users install it: an editable install has one more
search path, and a development environment many more packages. Byte code is compiled.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BEFORE", "BEFORE_REF", "NOW", "Build", "add_options", "chosen", "here", "install"]

BEFORE_REF = "530388b"
"""The commit that figures are compared with, unless `--before` names another one."""

NOW, BEFORE = "now", "before"
_CLONE = Path(__file__).parent.parent
_KEPT = _CLONE / "build" / "benchmarks"
"""Environments of commits stay here, by commit, until `make clean`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One installed command and the interpreter that runs it."""

    name: str
    """`now` or `before`."""
    python: Path
    command: Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that choose builds."""
    parser.add_argument("--before", metavar="REF", default=BEFORE_REF, help="compare with this commit: %(default)s")
    parser.add_argument("--alone", action="store_true", help="measure this clone only, without a build before")
    parser.add_argument("--here", action="store_true", help="this environment's command instead of a new wheel")


@contextmanager
def chosen(options: argparse.Namespace) -> Iterator[list[Build]]:
    """The builds that the options name, `now` first. SystemExit if one can't be built."""
    with tempfile.TemporaryDirectory(prefix="monitor-build-") as folder:
        found = [here() if options.here else install(Path(folder))]
        if not options.alone:
            found.append(_of_commit(options.before))
        yield found


def here() -> Build:
    """The command of this environment, usually an editable install."""
    scripts = Path(sysconfig.get_path("scripts"))
    return Build(name=NOW, python=scripts / "python", command=scripts / "ingestion-monitor")


def install(folder: Path, *, name: str = NOW, clone: Path = _CLONE) -> Build:
    """Builds a clone's wheel and installs it with its locked requirements into a new environment in the folder.

    Raises:
        SystemExit: a step failed; with its output.
    """
    environment, dist = folder / "venv", folder / "dist"
    python = environment / "bin" / "python"
    pip = ("uv", "pip", "install", "--quiet", "--compile-bytecode", "--no-deps", "--python", str(python))
    _module(clone, "hatchling", "build", "-t", "wheel", "-d", str(dist))
    _module(clone, "uv", "venv", "--quiet", "--python", sys.executable, str(environment))
    _module(clone, *pip, "--require-hashes", "-r", "requirements/runtime.txt")
    _module(clone, *pip, *map(str, dist.glob("*.whl")))
    return Build(name=name, python=python, command=environment / "bin" / "ingestion-monitor")


def _of_commit(ref: str) -> Build:
    """The wheel of a commit, from an earlier measurement if there was one."""
    commit = _run(["git", "rev-parse", "--verify", f"{ref}^{{commit}}"], _CLONE).decode().strip()
    folder = _KEPT / commit
    complete = folder / "complete"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        source = folder / "source"
        with tarfile.open(fileobj=io.BytesIO(_run(["git", "archive", commit], _CLONE))) as files:
            files.extractall(source, filter="data")
        install(folder, name=BEFORE, clone=source)
        shutil.rmtree(source)
        complete.touch()
    environment = folder / "venv" / "bin"
    return Build(name=BEFORE, python=environment / "python", command=environment / "ingestion-monitor")


def _module(clone: Path, *arguments: str) -> None:
    _run([sys.executable, "-m", *arguments], clone)


def _run(command: Sequence[str], folder: Path) -> bytes:
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    ended = subprocess.run(command, cwd=folder, capture_output=True, check=False, env=environment)
    if ended.returncode:
        said = ended.stderr.decode(errors="replace")[-2000:]
        raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}:\n{said}")
    return ended.stdout
