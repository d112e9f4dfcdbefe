"""The Dockerfile beyond hadolint's rules, the build context, and the health check."""

import contextlib
import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest
from deploy.container import OF_THE_IMAGE, USER
from manifests import ROOT

from deploy.healthcheck import healthcheck

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STAGES = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
INSTRUCTIONS = re.findall(r"^([A-Z]+) ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)


def instructions(name):
    return [rest for word, rest in INSTRUCTIONS if word == name]


def test_the_image_is_built_in_two_stages():
    assert len(STAGES) == 2
    assert re.findall(r"COPY --from=build (\S+)", STAGES[1]) == ["/opt/ingestion-monitor"]
    assert "pip" not in STAGES[1]


def test_base_images_are_pinned():
    assert all(re.match(r"python:\d+\.\d+-slim-\w+", stage) for stage in STAGES)


def test_pip_installs_exactly_the_locked_versions():
    (run, *_) = instructions("RUN")
    installs = re.findall(r"install (.*?)(?= \\|$)", DOCKERFILE, re.MULTILINE)
    locked = [line for line in installs if "-r requirements/" in line]
    assert [re.search(r"requirements/(\w+)\.txt", line)[1] for line in locked] == ["runtime", "build"]
    assert all({"--no-deps", "--require-hashes", "--no-cache-dir"} <= set(line.split()) for line in locked)
    assert "--no-deps dist/*.whl" in DOCKERFILE
    assert "--without-pip" in run


def test_the_image_has_a_numeric_user_and_stops_on_sigterm():
    assert instructions("USER") == [f"{USER}:{USER}"]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert instructions("EXPOSE") == ["8990"]


def test_the_tests_use_the_images_variables():
    (env,) = instructions("ENV")
    given = dict(part.split("=", 1) for part in env.replace("\\\n", " ").split())
    assert given.items() >= OF_THE_IMAGE.items()


def test_the_build_context_has_all_copied_files_and_no_secret():
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"]
    copied = [word for rest in instructions("COPY") if "--from" not in rest for word in rest.split()[:-1]]
    assert sorted(copied) == sorted(let_in)
    assert all((ROOT / name).exists() for name in copied)
    assert [
        name for name in (".env", "monitor.toml", "monitor.db") if any(fnmatch.fnmatch(name, i) for i in let_in)
    ] == []


# --- the health check ------------------------------------------------------------------------------------------------


SERVER = """
import socket, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

host, status = sys.argv[3], int(sys.argv[4])

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status if self.path == "/healthz" else 404)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

class Server(HTTPServer):
    address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

server = Server((host, 0), Handler) if host != "off" else None
print("up", flush=True)
server.serve_forever(poll_interval=0.01) if server else sys.stdin.read()
"""
"""Simulates a daemon: argv is `ingestion-monitor`, `daemon`, a host or off, and the status of /healthz."""


@contextlib.contextmanager
def process(host, status=200, words=("ingestion-monitor", "daemon")):
    """A process that listens on a free port; yields its folder in /proc."""
    command = [sys.executable, "-c", SERVER, *words, host, str(status)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout.readline() == "up\n"
            yield Path(f"/proc/{started.pid}")
        finally:
            started.kill()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"])
@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False), (0, False)], ids=["turns", "stalled", "mute"])
def test_a_daemon_with_a_running_event_loop_is_healthy_on_any_address(host, status, well):
    with process(host, status) as daemon:
        assert len(healthcheck.urls(daemon)) == 1
        assert healthcheck.healthy([daemon]) is well


def test_a_daemon_without_health_endpoints_is_healthy_while_it_runs():
    with process("off") as daemon:
        assert healthcheck.urls(daemon) == []
        assert healthcheck.healthy([daemon])


def test_the_health_check_ignores_proxies_of_the_environment(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with process("127.0.0.1") as daemon:
        assert healthcheck.healthy([daemon])


BIN = "/opt/ingestion-monitor/bin"


@pytest.mark.parametrize(
    ("words", "is_one"),
    [
        ([f"{BIN}/python", f"{BIN}/ingestion-monitor", "daemon"], True),
        ([f"{BIN}/python", f"{BIN}/ingestion-monitor", "daemon", "--log-level", "debug"], True),
        ([f"{BIN}/ingestion-monitor", "daemon"], True),
        ([f"{BIN}/python", f"{BIN}/ingestion-monitor", "check", "--quiet"], False),
        (["/sbin/docker-init", "--", "ingestion-monitor", "daemon"], False),
        (["python", "-I", "/opt/ingestion-monitor/healthcheck.py"], False),
        ([""], False),
    ],
    ids=["a daemon", "with options", "without an interpreter", "one run", "an init above it", "itself", "a kernel's"],
)
def test_only_a_daemon_is_checked(tmp_path, words, is_one):
    (tmp_path / "17").mkdir()
    (tmp_path / "17/cmdline").write_text("".join(f"{word}\0" for word in words), encoding="utf-8")
    (tmp_path / "18").mkdir()  # it has ended
    assert [each.name for each in healthcheck.daemons(tmp_path)] == (["17"] if is_one else [])
