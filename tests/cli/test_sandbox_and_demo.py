"""`sandbox` and `demo`, and the last resort of a command that should end."""

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from world import environment

from monitor.cli import main


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "monitor", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), **options,
    )  # fmt: skip


def test_the_sandbox_tells_its_address_and_credentials_serves_and_ends_on_sigterm():
    running = start("sandbox", "--port", "0")
    told = "".join(running.stdout.readline() for _ in range(6))
    (url,) = re.findall(r"http://127\.0\.0\.1:\d+(?= until)", told)
    for line in ("client id      sandbox-client", "client secret  sandbox-secret", "API key        sandbox-key"):
        assert line in told
    assert httpx.get(f"{url}/engine/v2/items/x", trust_env=False).status_code == 401
    assert httpx.get(f"{url}/_sandbox/stats", trust_env=False).json()["requests"]
    running.terminate()
    _, err = running.communicate(timeout=15)
    assert (running.returncode, err) == (143, "")


def test_the_sandbox_ends_on_ctrl_c():
    running = start("sandbox", "--port", "0")
    running.stdout.readline()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=15)
    assert running.returncode in {0, 130}
    assert "Traceback" not in err


def test_a_port_that_is_taken_is_one_sentence_and_code_3():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        running = start("sandbox", "--port", str(taken.getsockname()[1]))
        out, err = running.communicate(timeout=15)
    assert (running.returncode, out) == (3, "")
    assert err.startswith("error: the sandbox can't listen on 127.0.0.1 port ")
    assert err.count("\n") == 1


def test_the_demo_shows_the_whole_story_and_keeps_it_when_asked(tmp_path):
    kept = tmp_path / "kept"
    running = start("demo", "--keep", str(kept), cwd=tmp_path)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    assert re.search(r"Health: \d completed, \d pending, \d failed, \d not found", out)
    opened = out.index("unauthorized opened")
    assert "key rotation" in out[opened:]
    resolved = out.index("unauthorized resolved")
    assert opened < resolved < out.index("history:")
    assert out.count("aborted (unauthorized)") >= 4
    assert {path.name for path in kept.iterdir()} >= {"monitor.toml", "monitor.db", "pipeline.db"}
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("make", [lambda p: p.write_text(""), lambda p: (p.mkdir(), (p / "mine").touch())],
                         ids=["a-file", "not-empty"])  # fmt: skip
def test_the_demo_writes_into_nobody_else_s_folder(tmp_path, capsys, make):
    make(tmp_path / "there")
    assert main(["demo", "--keep", str(tmp_path / "there")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: --keep: ")
    assert err.count("\n") == 1


def test_without_a_place_for_temporary_files_the_demo_says_so(tmp_path):
    script = (
        "import sys, tempfile\n"
        f"tempfile.tempdir = {str(tmp_path / 'absent')!r}\n"
        "from monitor.cli import main\n"
        "sys.exit(main(['demo']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("error: no temporary folder can be made")


def test_a_process_that_can_t_end_is_ended():
    script = (
        "import signal, threading\n"
        "from monitor.cli.ending import end_soon\n"
        "end_soon(signal.SIGTERM, within_s=0.1)\n"
        "threading.Event().wait()\n"
    )
    started_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], timeout=20, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 143
    assert time.monotonic() - started_s < 10
