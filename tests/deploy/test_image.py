"""The Dockerfile beyond what hadolint knows, what it takes from the clone, and its health check."""

import fnmatch
import importlib.util
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from deploy.container import OF_THE_IMAGE, USER
from manifests import DEPLOY, ROOT

spec = importlib.util.spec_from_file_location("healthcheck", DEPLOY / "healthcheck.py")
healthcheck = importlib.util.module_from_spec(spec)
spec.loader.exec_module(healthcheck)
healthy = healthcheck.healthy

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STAGES = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
INSTRUCTIONS = re.findall(r"^([A-Z]+) ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)


def instructions(name):
    return [rest for word, rest in INSTRUCTIONS if word == name]


def test_the_image_is_what_is_left_of_a_build_stage():
    assert len(STAGES) == 2
    assert re.findall(r"COPY --from=build (\S+)", STAGES[1]) == ["/opt/ingestion-monitor"]
    assert "pip" not in STAGES[1]


def test_no_base_image_floats():
    assert all(re.match(r"python:\d+\.\d+-slim-\w+", stage) for stage in STAGES)


def test_pip_installs_what_the_locks_say_and_works_nothing_out():
    (run, *_) = instructions("RUN")
    installs = re.findall(r"install (.*?)(?= \\|$)", DOCKERFILE, re.MULTILINE)
    locked = [line for line in installs if "-r requirements/" in line]
    assert [re.search(r"requirements/(\w+)\.txt", line)[1] for line in locked] == ["runtime", "build"]
    assert all({"--no-deps", "--require-hashes", "--no-cache-dir"} <= set(line.split()) for line in locked)
    assert "--no-deps dist/*.whl" in DOCKERFILE
    assert "--without-pip" in run


def test_it_runs_as_a_user_that_kubernetes_can_verify_and_hears_sigterm():
    assert instructions("USER") == [f"{USER}:{USER}"]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert instructions("EXPOSE") == ["8990"]


def test_the_tests_run_it_with_the_images_variables():
    (env,) = instructions("ENV")
    given = dict(part.split("=", 1) for part in env.replace("\\\n", " ").split())
    assert given.items() >= OF_THE_IMAGE.items()


def test_all_that_is_copied_from_the_clone_gets_into_the_build_and_nothing_secret():
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"]
    copied = [word for rest in instructions("COPY") if "--from" not in rest for word in rest.split()[:-1]]
    assert sorted(copied) == sorted(let_in)
    assert all((ROOT / name).exists() for name in copied)
    assert [
        name for name in (".env", "monitor.toml", "monitor.db") if any(fnmatch.fnmatch(name, i) for i in let_in)
    ] == []


# --- the health check ------------------------------------------------------------------------------------------------


@pytest.fixture
def answers():
    """A server whose /healthz answers with a status, and the port that it is on."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        status = 200

        def do_GET(self):
            asked.append(self.path)
            self.send_response(self.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Keeps stderr quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Handler, server.server_address[1], asked
        server.shutdown()
        thread.join()


DAEMON = ["/opt/ingestion-monitor/bin/python", "/opt/ingestion-monitor/bin/ingestion-monitor", "daemon", ""]
ONE_SHOT = [*DAEMON[:2], "check", "--quiet", ""]


@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False)])
def test_a_daemon_is_healthy_when_its_loop_turns(answers, status, well):
    handler, port, asked = answers
    handler.status = status
    assert healthy(DAEMON, f"0.0.0.0:{port}") is well
    assert asked == ["/healthz"]


def test_a_daemon_that_does_not_answer_is_not_healthy(answers):
    handler, port, _ = answers
    handler.do_GET = lambda handling: handling.close_connection
    assert not healthy(DAEMON, f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("command", "listen"),
    [(ONE_SHOT, "127.0.0.1:1"), (DAEMON, "off"), (DAEMON, "")],
    ids=["one run", "switched off", "nothing set"],
)
def test_where_nobody_listens_there_is_nothing_to_ask(command, listen):
    assert healthy(command, listen)
