"""The containers' own commands, run for real: uid 10001, a read-only working folder, HOME=/tmp.

The commands, variables and settings are those of the built manifests; only the paths of mounts, the port and the
addresses are this machine's.
"""

import contextlib
import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from deploy.asked import expanded
from deploy.container import USER, built
from deploy.kustomize import build, pod_of
from manifests import DEPLOY
from sqlalchemy import create_engine, make_url, text
from support.observed import events, until

from deploy.healthcheck import healthcheck

pytestmark = pytest.mark.process

IN_THE_CONTAINER = "/etc/ingestion-monitor/monitor.toml"
SECRETS_IN_THE_CONTAINER = "/run/secrets/ingestion-monitor/"
OVERLAYS = DEPLOY / "kubernetes/overlays"


@pytest.fixture(scope="session")
def image():
    with built() as made:
        yield made


@pytest.fixture
def pods():
    """The two overlays' pods, and the settings that they mount."""
    manifests = {name: build(OVERLAYS / name) for name in ("cronjob", "daemon")}
    found = {name: pod for name, all_ in manifests.items() for each in all_ if (pod := pod_of(each))}
    (settings,) = [each["data"]["monitor.toml"] for each in manifests["daemon"] if each["kind"] == "ConfigMap"]
    return SimpleNamespace(**found, settings=settings)


@pytest.fixture
def cluster(image, pods, sandbox, new_postgres):
    """PostgreSQL without a schema, a sync log with two documents, the API, and mounts for one pod."""
    database, sync_log = new_postgres(), new_postgres()
    engine = create_engine(make_url(sync_log).set(drivername="postgresql+psycopg"))
    uploaded = datetime.now(UTC) - timedelta(hours=1)
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE sync_log (item_id TEXT, uploaded_at TIMESTAMPTZ)"))
        for item_id in sandbox.create_items(2, status="COMPLETED"):
            conn.execute(text("INSERT INTO sync_log VALUES (:i, :at)"), {"i": item_id, "at": uploaded})
    engine.dispose()
    known = sandbox.settings
    secrets = {
        "database-url": database,
        "sync-log-url": sync_log,
        "gloo-client-secret": known.client_secret,
        "slack-url": "https://hooks.example/services/x",
    }
    return Cluster(image, pods, sandbox, secrets)


class Cluster:
    """Runs the containers of the manifests, as a kubelet would."""

    def __init__(self, image, pods, sandbox, secrets):
        self.image, self.pods, known = image, pods, sandbox.settings
        name = uuid4().hex[:8]
        mounted = image.mount(f"secrets-{name}", {key: f"{value}\n" for key, value in secrets.items()})
        settings = pods.settings.replace(SECRETS_IN_THE_CONTAINER, f"{mounted}/")
        settings = settings.replace("${GLOO_PUBLISHER_ID}", known.publisher_id)
        settings = settings.replace("${GLOO_CLIENT_ID}", known.client_id)
        settings = settings.replace('provider = "gloo"', f'provider = "gloo"\nbase_url = "{sandbox.url}"')
        assert "${GLOO" not in settings
        self.config = image.mount(f"config-{name}", {"monitor.toml": settings})
        self.cwd = image.mount(f"cwd-{name}")
        self.database = make_url(secrets["database-url"]).set(drivername="postgresql+psycopg")

    def env(self, container, **more):
        """The container's variables, with this machine's paths and a free port."""
        given = {each["name"]: each.get("value", "") for each in container["env"]} | more
        given["MONITOR_CONFIG"] = given["MONITOR_CONFIG"].replace(IN_THE_CONTAINER, str(self.config / "monitor.toml"))
        if "MONITOR_WEB__LISTEN" in given:
            given["MONITOR_WEB__LISTEN"] = f"127.0.0.1:{free_port()}"
        return given

    def run(self, container, **more):
        env = self.env(container, **more)
        return self.image.run(expanded(container["args"], env), env=env, cwd=self.cwd)

    def start(self, container):
        """Starts the container; returns it and the address of its endpoints."""
        env = self.env(container)
        return self.image.start(container["args"], env=env, cwd=self.cwd), env["MONITOR_WEB__LISTEN"]

    def rows(self, query):
        engine = create_engine(self.database)
        try:
            with engine.connect() as conn:
                return [tuple(row) for row in conn.execute(text(query))]
        finally:
            engine.dispose()


def ask(listen, path):
    """One request like the kubelet's; returns status and body."""
    try:
        with urllib.request.urlopen(f"http://{listen}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def migrated(cluster):
    (migrate,) = cluster.pods.daemon["initContainers"]
    done = cluster.run(migrate)
    assert done.returncode == 0, done.stderr
    return done


def test_the_test_user_is_the_images_user_without_write_access(image):
    cwd = image.mount("nothing-here")
    done = image.run(["init"], env={}, cwd=cwd)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert ".env can't be written (Permission denied)" in done.stderr
    assert list(cwd.iterdir()) == []
    with image.start(["sandbox"], env={}, cwd=cwd) as process:
        owner = Path(f"/proc/{process.pid}").stat().st_uid
        process.kill()
    assert owner == (USER if os.geteuid() == 0 else os.geteuid())


def test_a_job_migrates_and_executes_its_run_key_once(cluster):
    migrated(cluster)
    (check,) = cluster.pods.cronjob["containers"]
    first, again, next_one = (cluster.run(check, JOB_NAME=name) for name in ("job-1", "job-1", "job-2"))
    assert [each.returncode for each in (first, again, next_one)] == [0, 0, 0], (first.stderr, again.stderr)
    assert [each.stdout for each in (first, again, next_one)] == ["", "", ""], "all is well, and --quiet"
    assert [len(events(each.stderr, "run_finished")) for each in (first, again, next_one)] == [1, 0, 1]
    assert cluster.rows("SELECT run_key, status, total, completed FROM history ORDER BY run_id") == [
        ("job-1", "complete", 2, 2),
        ("job-2", "complete", 2, 2),
    ]
    assert list(cluster.cwd.iterdir()) == []


def test_a_second_migration_does_nothing(cluster):
    first, again = migrated(cluster), migrated(cluster)
    assert "upgraded: " in first.stdout
    assert "nothing to do" in again.stdout


def test_a_job_without_its_migration_names_the_command_to_run(cluster):
    (check,) = cluster.pods.cronjob["containers"]
    done = cluster.run(check, JOB_NAME="job-1")
    assert done.returncode == 3
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "ingestion-monitor db upgrade" in sentence


def test_the_daemon_runs_and_ends_in_time_on_sigterm(cluster):
    migrated(cluster)
    (container,) = cluster.pods.daemon["containers"]
    grace_s = cluster.pods.daemon["terminationGracePeriodSeconds"]
    process, listen = cluster.start(container)
    probes = [container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")]
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, "")))
    reader.start()
    try:
        until(lambda: events("".join(lines), "run_finished"), f"a run in {lines}")
        until(lambda: [ask(listen, path)[0] for path in probes] == [200, 200, 200], f"well by its probes in {lines}")
        assert healthcheck.urls(Path(f"/proc/{process.pid}")) == [f"http://{listen}/healthz"]
        assert 'ingestion_monitor_items{state="completed",target="gloo-prod"} 2.0' in ask(listen, "/metrics")[1]
        signalled_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=grace_s)
        assert time.monotonic() - signalled_s < 10
    finally:
        process.kill()
        reader.join()
        process.stdout.close()
        process.stderr.close()
    assert code == 128 + signal.SIGTERM
    assert cluster.rows("SELECT status, total FROM history") == [("complete", 2)]
    assert cluster.rows("SELECT count(*) FROM leases WHERE expires_at > now()") == [(0,)]
    assert "Traceback" not in "".join(lines)
    assert "not a setting" not in "".join(lines), "each variable of the manifest is one of the program's"
    assert list(cluster.cwd.iterdir()) == []


ON_SQLITE = {"GLOO_API_KEY": "key", "GLOO_PUBLISHER_ID": "publisher", "MONITOR_SYNC_LOG_URL": "sqlite:///pipeline.db"}


@pytest.mark.parametrize("command", ["check", "daemon", "db upgrade"])
def test_sqlite_in_a_read_only_folder_is_one_clear_sentence(image, command):
    cwd = image.mount(f"read-only-{uuid4().hex[:8]}")
    with contextlib.closing(Ended(image, command.split(), cwd)) as ended:
        sentences = ended.sentences()
    (sentence,) = set(sentences)
    assert "monitor.db" in sentence
    assert "this user may write" in sentence


class Ended:
    """A command that ends with an error message, or a daemon that logs it and keeps waiting."""

    def __init__(self, image, arguments, cwd):
        self.process = image.start(arguments, env=ON_SQLITE, cwd=cwd)

    def sentences(self):
        found = []
        for line in self.process.stderr:
            said = re.fullmatch(r"error: (.*)\n", line)
            found += [said[1]] if said else [event["reason"] for event in events(line, "database_not_ready")]
            if not said and found:
                break
        return found

    def close(self):
        self.process.kill()
        self.process.communicate()


def test_sqlite_on_a_volume_of_the_images_user_works(image, sandbox):
    volume = image.mount(f"volume-{uuid4().hex[:8]}", writable=True)
    env = {
        **ON_SQLITE,
        "GLOO_API_KEY": sandbox.settings.api_key,
        "GLOO_PUBLISHER_ID": sandbox.settings.publisher_id,
        "GLOO_BASE_URL": sandbox.url,
        "MONITOR_DATABASE": f"sqlite:///{volume}/monitor.db",
    }
    del env["MONITOR_SYNC_LOG_URL"]
    cwd = image.mount(f"cwd-{uuid4().hex[:8]}")
    done = image.run(["check"], env=env, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert (volume / "monitor.db").is_file()
    assert list(cwd.iterdir()) == []
