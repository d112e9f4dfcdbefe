"""A canary in every secret setting must not appear anywhere, under any fault, at the most verbose log level."""

import base64
import contextlib
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, quote_plus

import psycopg
import pytest
from sqlalchemy import make_url
from support.mailserver import MailServer
from support.observed import events, until
from support.world import World

pytestmark = pytest.mark.process

CANARIES = {
    place: f"{place}-c4n4ry/S3+x="
    for place in ("client", "apikey", "dbpass", "logpass", "hookuser", "hookpath", "ping", "password", "gateway")
}


def codings(secret):
    """Encodings of the canary: plain, URL-encoded, and base64 at any offset."""
    raw = secret.encode()
    found = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), "c4n4ry"}
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(b"\0" * offset + raw).decode()[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6])
    return found


SOUGHT = sorted({coding for secret in CANARIES.values() for coding in codings(secret)})


def leaks(*texts):
    """Canaries in any of the texts."""
    return sorted({sought for sought in SOUGHT for text in texts if sought in text})


class Echo:
    """A receiver whose answer repeats the whole request, including the path."""

    def __init__(self, status):
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                seen.append(self.path)
                echoed = f"{self.path}\n{self.headers}\n".encode() + body
                self.send_response(status)
                self.send_header("x-echo", self.path)
                self.send_header("x-request-id", self.path)
                self.send_header("location", f"http://127.0.0.1:1{self.path}")
                self.send_header("content-length", str(len(echoed)))
                self.end_headers()
                self.wfile.write(echoed)

            def log_message(self, *_):
                """Keeps stderr quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.port = self._server.server_address[1]

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def echo():
    with contextlib.ExitStack() as started:

        def make(status):
            made = Echo(status)
            started.callback(made.close)
            return made

        yield make


@pytest.fixture
def closed_port():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield closed.getsockname()[1]


def postgres(port, secret, name="x"):
    return f"postgresql://monitor:{quote(CANARIES[secret], safe='')}@127.0.0.1:{port}/{name}"


def with_canaries(world, *, auth="client", hook_port=1, **changes):
    """Configures the world with a canary in every secret."""
    forms = {
        "client": f'{{ client_id = "sandbox-client", client_secret = "{CANARIES["client"]}" }}',
        "apikey": f'{{ api_key = "{CANARIES["apikey"]}" }}',
        "password": f'{{ user = "me", password = "{CANARIES["password"]}" }}',
        "right": world.client_auth,
    }
    gateway = f'secret_headers = {{ X-Gateway = "{CANARIES["gateway"]}" }}'
    token = quote(CANARIES["hookpath"], safe="")
    user = quote(CANARIES["hookuser"], safe="")
    hook = (
        '[[channels]]\nname = "hook"\ntype = "webhook"\n'
        f'url = "http://me:{user}@127.0.0.1:{hook_port}/services/{token}?key={token}"\n'
    )
    ping = quote(CANARIES["ping"], safe="")
    heartbeat = f'heartbeat = "http://127.0.0.1:{hook_port}/ping/{ping}?key={ping}"'
    for cause in ("unauthorized", "forbidden", "outage"):
        hook += f'[[rules]]\ncause = "{cause}"\nruns = 1\nof = 1\nfor = "0s"\n'
    world.configure(auth=f"{forms[auth]}\n{heartbeat}\n{gateway}", more=hook, check="max_attempts = 1", **changes)


def everything_stored(world):
    """The content of the files beside the configuration, or of the tables of the server."""
    files = [path for path in world.folder.iterdir() if path.is_file() and path != world.config_path]
    stored = [path.read_bytes().decode("latin-1") for path in files]
    if not world.database.startswith("sqlite"):
        with psycopg.connect(world.database) as conn:
            tables = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            stored += [str(conn.execute(f"SELECT t::text FROM {name} t").fetchall()) for (name,) in tables]
    return stored


def messages(receiver):
    """The requests for the channel; the others were for the dead man's switch."""
    return [path for path in receiver.seen if path.startswith("/services/")]


def run_verbosely(world, *arguments, call=World.cli):
    """Runs a command at the most verbose level, with `here` in this process; returns it and its whole output."""
    done = call(world, *arguments, "--log-level", "debug")
    assert "Traceback" not in done.stderr
    return done, done.stdout + done.stderr


@pytest.mark.smoke
def test_the_search_finds_a_canary_in_every_encoding():
    secret = CANARIES["client"]
    basic = base64.b64encode(f"sandbox-client:{secret}".encode()).decode()
    for text in (secret, quote(secret, safe=""), f"Basic {basic}", f"x{secret}y", repr(secret)):
        assert leaks(text), text
    assert leaks("nothing to see", "sandbox-client") == []


@pytest.mark.parametrize(
    ("auth", "fault", "hook_status"),
    [
        ("client", None, 500),
        ("apikey", None, 404),
        ("password", None, 500),
        ("apikey", {"path": "/engine", "status": 401}, 302),
        ("right", {"path": "/engine", "status": 403}, 400),
        ("right", {"path": "/engine", "status": 500, "body": "<html>garbage"}, 200),
        ("client", {"path": "/oauth2", "close": True}, 429),
    ],
    ids=[
        "401-hook-500",
        "403-hook-404",
        "password-hook-500",
        "expired-hook-302",
        "forbidden-hook-400",
        "garbage-hook-200",
        "dropped-429",
    ],
)
def test_a_refusal_or_a_failing_api_reveals_no_secret(here, small_world, echo, auth, fault, hook_status):
    receiver = echo(hook_status)
    with_canaries(small_world, auth=auth, hook_port=receiver.port)
    small_world.track(6)
    if fault:
        small_world.sandbox.add_fault(**fault)
    done, said = run_verbosely(small_world, "check", call=here)
    assert (done.returncode, len(messages(receiver))) == (4, 2 if hook_status == 400 else 1)
    assert len(receiver.seen) > 2, "the switch got the start and the end"
    assert events(done.stderr, "request_finished"), "the log is wide open"
    assert leaks(said, *everything_stored(small_world)) == []


OTHER_CHANNELS = """\
[[channels]]
name = "mail"
type = "email"
host = "127.0.0.1"
port = {mail}
security = "none"
user = "me"
password = "{apikey}"
from = "monitor@example.com"
to = ["oncall@example.com"]
[[channels]]
name = "pager"
type = "pagerduty"
routing_key = "{routing_key}"
url = "http://127.0.0.1:{port}/v2"
[[channels]]
name = "alerts"
type = "alertmanager"
url = "http://127.0.0.1:{port}"
token = "{client}"
[[channels]]
name = "signed"
type = "webhook"
url = "http://127.0.0.1:{port}/x"
secret = "{signing}"
[[channels]]
name = "phone"
type = "apprise"
url = "json://me:{user}@127.0.0.1:{port}/{token}"
[[rules]]
cause = "outage"
runs = 1
of = 1
for = "0s"
"""


@pytest.mark.parametrize("status", [200, 400, 500])
def test_no_channel_type_reveals_its_secrets(here, small_world, echo, status):
    receiver, routing_key = echo(status), "c4n4ry" + "A" * 26
    signing = "whsec_" + base64.b64encode(b"c4n4ry" * 5).decode()
    with MailServer({"RCPT": f"550 {CANARIES['apikey']}"}) as server:
        small_world.configure(
            more=OTHER_CHANNELS.format(
                mail=server.port, port=receiver.port, routing_key=routing_key, signing=signing,
                user=quote(CANARIES["hookuser"], safe=""), token=quote(CANARIES["hookpath"], safe=""), **CANARIES,
            ),
            check="max_attempts = 1",
        )  # fmt: skip
        small_world.track(6)
        small_world.sandbox.stop()
        _, said = run_verbosely(small_world, "check", call=here)
        _, looked = run_verbosely(small_world, "doctor", "--send-test", call=here)
    assert "outage" in said
    assert "channels" in looked
    stored = everything_stored(small_world)
    assert leaks(said, looked, *stored) == []
    assert not [text for text in (said, looked, *stored) if signing in text]


def test_a_key_that_the_api_repeats_is_masked_everywhere(here, small_world):
    with_canaries(small_world, auth="apikey")
    small_world.track(6)
    key = CANARIES["apikey"]
    small_world.sandbox.add_fault(
        path="/engine",
        status=403,
        headers={"x-request-id": f"req-{key}", "via": f"1.1 {key}"},
        body={"code": key, "message": f"Incorrect API key provided: {key}", "error": key, "trace_id": key},
    )
    _, said = run_verbosely(small_world, "check", "--json")
    shown = here(small_world, "incidents", "show", "1").stdout
    assert "forbidden" in said
    assert "Incorrect API key provided" in shown
    assert leaks(said, shown, *everything_stored(small_world)) == []


@pytest.mark.smoke
def test_a_run_on_postgresql_reveals_no_secret(here, world, echo):
    receiver = echo(500)
    with_canaries(world, hook_port=receiver.port)
    world.track(6)
    world.sandbox.stop()
    _, said = run_verbosely(world, "check", "--json")
    shown = here(world, "incidents", "show", "1").stdout
    assert "outage" in shown
    assert leaks(said, shown, *everything_stored(world)) == []


def test_an_unreachable_database_or_sync_log_reveals_no_secret(here, small_world, closed_port):
    small_world.track(1)
    with_canaries(small_world, database=postgres(closed_port, "dbpass"))
    done, said = run_verbosely(small_world, "check")
    assert (done.returncode, leaks(said)) == (3, [])
    for command in (["db", "current"], ["db", "upgrade"], ["history"]):
        done = here(small_world, *command)
        assert (done.returncode, leaks(done.stdout + done.stderr)) == (3, [])
    with_canaries(small_world, auth="right", sync_log=postgres(closed_port, "logpass"))
    done, said = run_verbosely(small_world, "check")
    assert (done.returncode, "sync log" in said) == (3, True)
    assert leaks(said, *everything_stored(small_world)) == []


def test_a_wrong_password_is_not_repeated(small_world, new_postgres):
    server = make_url(new_postgres(migrated=True))
    small_world.track(1)
    with_canaries(small_world, database=postgres(server.port, "dbpass", server.database))
    done, said = run_verbosely(small_world, "check")
    assert (done.returncode, leaks(said)) == (3, [])
    with_canaries(small_world, auth="right", sync_log=postgres(server.port, "logpass", server.database))
    done, said = run_verbosely(small_world, "check")
    assert "refused the user or the password" in done.stderr
    assert leaks(said, *everything_stored(small_world)) == []


@pytest.mark.smoke
def test_a_running_daemon_shows_no_secret_in_its_log_its_files_or_its_command_line(small_world, echo):
    receiver = echo(500)
    with_canaries(small_world, hook_port=receiver.port)
    small_world.track(6)
    daemon = small_world.start("daemon", "--log-level", "debug")
    try:
        until(lambda: messages(receiver), "a message to the receiver")
        process = Path(f"/proc/{daemon.pid}")
        shown = [(process / name).read_bytes().decode("latin-1") for name in ("cmdline", "environ", "comm")]
        shown += everything_stored(small_world)
    finally:
        daemon.send_signal(signal.SIGTERM)
        out, err = daemon.communicate(timeout=120)
    assert daemon.returncode == 143
    assert events(err, "notification_not_delivered"), err
    assert leaks(out, err, *shown) == []
