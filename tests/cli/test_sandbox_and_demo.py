"""`sandbox` and `demo`, and the hard end of a command that hangs."""

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from support.world import environment

from monitor.cli import main


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "monitor", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), **options,
    )  # fmt: skip


def test_the_sandbox_prints_address_and_credentials_serves_and_ends_on_sigterm():
    running = start("sandbox", "--port", "0")
    printed = "".join(running.stdout.readline() for _ in range(11))
    (url,) = re.findall(r"http://127\.0\.0\.1:\d+(?= until)", printed)
    for line in ("GLOO_CLIENT_ID=sandbox-client", "GLOO_CLIENT_SECRET=sandbox-secret", "API key: sandbox-key"):
        assert line in printed
    assert httpx.get(f"{url}/engine/v2/items/x", trust_env=False).status_code == 401
    assert httpx.get(f"{url}/_sandbox/stats", trust_env=False).json()["requests"]
    running.terminate()
    _, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (143, "")


def test_the_sandbox_applies_its_options_and_plays_its_scenario(tmp_path):
    night = tmp_path / "night.toml"
    night.write_text(
        'about = "A short night."\n'
        '[[steps]]\nat = "0s"\nmake = { count = 2 }\n'
        '[[steps]]\nat = "50ms"\nsay = "the key is revoked"\nrevoke = "key"\n'
    )
    faults = ("--fault", "503:count=1", "--fault", "html502:count=1", "--rate", "3/h", "--retry-after")
    running = start("sandbox", "--port", "0", "--items", "3", *faults, "--scenario", str(night))
    printed = [running.stdout.readline().rstrip() for _ in range(15)]
    (url,) = re.findall(r"http://127\.0\.0\.1:\d+(?= until)", printed[0])
    assert printed[11:] == ["", "A short night.", "     0s  make count 2", "   50ms  the key is revoked"]
    with httpx.Client(base_url=url, headers={"Authorization": "Bearer sandbox-key"}, trust_env=False) as client:
        assert client.get("/_sandbox/stats").json()["items"] == 5
        statuses = [client.get("/engine/v2/items/x").status_code for _ in range(3)]
        client.post("/_sandbox/keys/sandbox-key/restore")
        answers = [client.get("/engine/v2/items/x") for _ in range(4)]
    assert statuses == [503, 502, 403]
    assert [answer.status_code for answer in answers] == [400, 400, 400, 429]
    assert "retry-after" in answers[-1].headers
    running.terminate()
    _, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (143, "")


MISTAKES = {
    "a fault that is none": (("--fault", "html50"), "error: --fault html50: unknown fault 'html50'"),
    "a rate that is none": (
        ("--rate", "fast"),
        "error: --rate fast: 'fast' is not a rate: write requests per s, m or h",
    ),
    "no such scenario": (("--scenario", "absent.toml"), "error: --scenario: absent.toml can't be read (No such file"),
    "a scenario that is no text": (("--scenario", "bytes.toml"), "error: --scenario: bytes.toml is no UTF-8 text"),
    "a scenario that is wrong": (("--scenario", "wrong.toml"), "error: wrong.toml, step 1 (line 2): at = "),
}


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_wrong_sandbox_option_is_one_sentence_and_code_2(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    (tmp_path / "wrong.toml").write_text('\n[[steps]]\nat = "soon"\nstop = true\n')
    assert main(["sandbox", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(sentence)
    assert err.count("\n") == 1


def test_all_wrong_sandbox_options_are_listed_at_once(capsys):
    assert main(["sandbox", "--fault", "x", "--fault", "503:y", "--rate", "z"]) == 2
    assert [line.split(":")[1] for line in capsys.readouterr().err.splitlines()] == [
        " --fault x",
        " --fault 503",
        " --rate z",
    ]


def test_the_sandbox_ends_on_ctrl_c():
    running = start("sandbox", "--port", "0")
    running.stdout.readline()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=120)
    assert running.returncode in {0, 130}
    assert "Traceback" not in err


def test_a_port_in_use_is_one_sentence_and_code_3():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        running = start("sandbox", "--port", str(taken.getsockname()[1]))
        out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (3, "")
    assert err.startswith("error: the sandbox can't listen on 127.0.0.1 port ")
    assert err.count("\n") == 1


def test_the_demo_shows_the_main_job_and_keeps_its_files_with_keep(tmp_path):
    kept = tmp_path / "kept"
    running = start("demo", "--keep", str(kept), cwd=tmp_path)
    out, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (0, "")
    healths = re.findall(r"Health: .*", out)
    assert healths[0] == "Health: 0 completed, 2 pending, 0 failed, 1 not found", "also on a slow machine"
    assert healths[1] == "Health: 2 completed, 0 pending, 0 failed, 1 not found"
    opened = out.index("unauthorized opened")
    assert "key rotation" in out[opened:]
    resolved = out.index("unauthorized resolved")
    assert opened < resolved < out.index("history:")
    assert out.count("aborted (unauthorized)") >= 4
    assert {path.name for path in kept.iterdir()} >= {"monitor.toml", "monitor.db", "pipeline.db"}
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("make", [lambda p: p.write_text(""), lambda p: (p.mkdir(), (p / "mine").touch())],
                         ids=["a-file", "not-empty"])  # fmt: skip
def test_the_demo_refuses_a_folder_with_files(tmp_path, capsys, make):
    make(tmp_path / "there")
    assert main(["demo", "--keep", str(tmp_path / "there")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: --keep: ")
    assert err.count("\n") == 1


@pytest.mark.process
def test_the_demo_reports_a_missing_temporary_folder(tmp_path):
    script = (
        "import sys, tempfile\n"
        f"tempfile.tempdir = {str(tmp_path / 'absent')!r}\n"
        "from monitor.cli import main\n"
        "sys.exit(main(['demo']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("error: no temporary folder can be made")


def test_a_process_that_hangs_after_a_signal_is_killed():
    script = (
        "import signal, threading\n"
        "from monitor.cli.signals import force_exit_after\n"
        "force_exit_after(signal.SIGTERM, after_s=0.1)\n"
        "threading.Event().wait()\n"
    )
    started_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], timeout=120, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 143
    assert time.monotonic() - started_s < 10
