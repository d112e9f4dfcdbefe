"""The content of the image without Docker: an interpreter, the locked packages and the wheel, for uid 10001.

Everything is a copy in a folder that any user may enter, because a developer's interpreter and clone may be in a home
that other users cannot enter. Without root it runs as the current user.
"""

import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from support.memory import folder_in_memory

ROOT = Path(__file__).resolve().parents[2]
USER = 10001
"""The variables of the Dockerfile; tests/deploy/test_image.py compares them."""

OF_THE_IMAGE = {"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}  # noqa: S108  # as there

__all__ = ["OF_THE_IMAGE", "USER", "Image", "account", "built"]

_LEFT_OUT = shutil.ignore_patterns("test", "tests", "site-packages", "config-*", "idlelib", "tkinter", "ensurepip")


class Image:
    """An installed command whose files belong to root, and folders for mounts."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self.python = folder, python

    def mount(self, name: str, files: Mapping[str, str] | None = None, *, writable: bool = False) -> Path:
        """A folder with files, like a volume: owned by the image's user if writable, else read-only."""
        made = self.folder / name
        made.mkdir()
        for file, content in (files or {}).items():
            (made / file).write_text(content, encoding="utf-8")
            (made / file).chmod(0o444)
        if writable and os.geteuid() == 0:
            os.chown(made, USER, USER)
        made.chmod(0o755 if writable else 0o555)
        return made

    def start(self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> "subprocess.Popen[str]":
        """Starts the image's entry point with arguments, in an environment without the developer's variables."""
        return subprocess.Popen(
            [str(self.python), str(self.python.parent / "ingestion-monitor"), *arguments],
            cwd=cwd,
            env={**OF_THE_IMAGE, "LD_LIBRARY_PATH": str(self.python.parents[1] / "lib"), **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **account(),
        )

    def run(self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> "subprocess.CompletedProcess[str]":
        """The same, and waits for its end."""
        with self.start(arguments, env=env, cwd=cwd) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def account() -> dict[str, object]:
    """Arguments for subprocess that run it as the image's user."""
    return {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def built() -> Iterator[Image]:
    """Creates the image's files, and removes them at the end."""
    folder = Path(tempfile.mkdtemp(prefix="monitor-image-", dir=folder_in_memory()))
    folder.chmod(0o755)
    try:
        python = _interpreter(folder / "python")
        site = folder / "python/lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        _packages(site)
        _wheel(folder / "dist", site)
        entry = "import sys\nfrom monitor.cli import command\nsys.exit(command())\n"
        (python.parent / "ingestion-monitor").write_text(entry, encoding="utf-8")
        yield Image(folder, python)
    finally:
        shutil.rmtree(folder)


def _interpreter(into: Path) -> Path:
    base = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (into / "bin").mkdir(parents=True)
    shutil.copy(base / "bin" / version, into / "bin/python")
    shutil.copytree(base / "lib" / version, into / "lib" / version, ignore=_LEFT_OUT)
    for library in (base / "lib").glob("libpython*.so*"):
        shutil.copy(library, into / "lib" / library.name)
    return into / "bin/python"


def _packages(site: Path) -> None:
    locked = (ROOT / "requirements/runtime.txt").read_text(encoding="utf-8")
    for name in re.findall(r"^([\w.-]+)==", locked, re.MULTILINE):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # for another system or another Python
            for file in importlib.metadata.distribution(name).files or []:
                source = Path(str(file.locate()))
                if ".." not in file.parts and source.is_file():
                    (site / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(
                        source, site / file
                    )  # with its modification time, otherwise its byte code would be invalid


def _wheel(dist: Path, site: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # as pip does when it installs
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(site / "monitor")], check=True, capture_output=True)
