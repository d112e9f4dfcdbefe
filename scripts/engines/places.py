"""A folder of its own for each engine: its packages, its server as a child process, and HTTP to it.

Nothing here knows an engine. A server listens on loopback, and it and its children end with the block that uses it.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

INSTALL_S = 420
START_S = 240
UV = Path(sys.executable).with_name("uv")


class LeftOutError(Exception):
    """This engine can't be tried here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one engine lives."""

    folder: Path
    models: str
    """The base URL of the model server."""
    recordings: Path | None = None
    """Where sessions are kept for the tests."""

    @property
    def python(self):
        return self.folder / "venv/bin/python"

    def environment(self, **more):
        """A home of its own, no telemetry, and nothing that this process inherited but the path."""
        bin_ = str(self.python.parent)
        offline = dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DO_NOT_TRACK"), "1")
        return {
            "PATH": f"{bin_}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "NO_PROXY": "127.0.0.1,localhost",
            "OPENAI_API_KEY": "none",
            "OPENAI_API_BASE": self.models,
            "OPENAI_BASE_URL": self.models,
            **offline,
            **more,
        }

    def run(self, *command, timeout_s=120, **more):
        """The output of a command of the engine's environment, such as its own client."""
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    @contextlib.contextmanager
    def serve(self, *command, ready, **more):
        """Runs a server until the end of the block; it is up when `ready`, a URL, answers 200."""
        log = self.folder / "server.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=self.folder,
                env=self.environment(**more),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                _wait(process, ready, log)
                yield
            finally:
                _end(process)


def install(folder, requirements, *, python=(3, 11), seconds=INSTALL_S):
    """Makes `folder`/venv with the requirements. Raises LeftOutError if that fails or takes too long."""
    interpreter = find_python(python)
    if interpreter is None:
        raise LeftOutError(f"it needs Python {'.'.join(map(str, python))} or newer, which was not found")
    for command in (
        [UV, "venv", "--quiet", "--python", interpreter, folder / "venv"],
        [UV, "pip", "install", "--quiet", "--python", folder / "venv/bin/python", *requirements],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise LeftOutError(f"its installation took over {seconds // 60} minutes") from None
        if done.returncode:
            raise LeftOutError(f"it can't be installed: {done.stderr.strip().splitlines()[-1][:200]}")


def find_python(least):
    """A Python of at least that version, from the path or from pyenv; None if there is none."""
    if sys.version_info >= least:
        return sys.executable
    named = [f"python3.{minor}" for minor in range(least[1], least[1] + 3)]
    found = [path for name in named if (path := shutil.which(name))]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found += [str(path) for name in named for path in sorted(pyenv.glob(f"*/bin/{name}"))]
    works = (path for path in found if subprocess.run([path, "-V"], capture_output=True, check=False).returncode == 0)
    return next(works, None)


def free_port():
    """A port of loopback that nobody uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server answered."""

    status: int
    body: object
    """JSON, or the text if it is none."""


def ask(method, url, body=None, *, headers=None, files=None, timeout_s=60):
    """One request of a user's own: JSON, or one file as `(name, bytes)` of a form."""
    data, sent = None, dict(headers or {})
    if files is not None:
        name, content = files
        head = f'--cut\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        fields = "".join(
            f'--cut\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in (body or {}).items()
        )
        data = fields.encode() + head.encode() + b"Content-Type: text/plain\r\n\r\n" + content + b"\r\n--cut--\r\n"
        sent["Content-Type"] = "multipart/form-data; boundary=cut"
    elif body is not None:
        data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
    request = urllib.request.Request(url, data=data, headers=sent, method=method)  # noqa: S310  # loopback
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:  # noqa: S310  # loopback
            return Answer(status=reply.status, body=_decoded(reply.read()))
    except urllib.error.HTTPError as error:
        return Answer(status=error.code, body=_decoded(error.read()))


def until(question, *, seconds=90, every_s=1.0):
    """The first true answer of `question()`. Raises TimeoutError if there is none in time."""
    ends_s = time.monotonic() + seconds
    while time.monotonic() < ends_s:
        if found := question():
            return found
        time.sleep(every_s)
    raise TimeoutError(f"the engine did not get there within {seconds} seconds")


def _decoded(raw):
    text = raw.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _wait(process, url, log):
    def is_up():
        if process.poll() is not None:
            raise LeftOutError(f"its server ended at once: {log.read_text(errors='replace').strip()[-300:]}")
        with contextlib.suppress(OSError):
            return ask("GET", url, timeout_s=5).status == 200
        return False

    try:
        until(is_up, seconds=START_S)
    except TimeoutError:
        raise LeftOutError(f"its server did not answer within {START_S // 60} minutes") from None


def _end(process):
    """Ends the server and what it started: they are a session of their own."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
