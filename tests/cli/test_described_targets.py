"""A described API over real HTTP: nothing in its configuration or its sync log leads elsewhere or reveals a secret."""

import base64
import contextlib
import json
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

import pytest
from support.thinned import ends_only

from monitor.cli import main

PASSWORD, GATEWAY, GATEWAY_FILE = "pässw0rd-c4n4ry", "g4teway-c4n4ry", "f1le-c4n4ry"
HOSTILE = [
    "../../admin", "..%2f..%2fadmin", "//evil.example/x", "@evil.example", "http://evil.example/",
    "\\\\evil.example\\x", "a?b=c", "a#b", "a&b=c", "%2e%2e%2fx", "a b", "{item_id}", '"}], "x": [{"', "é中",
]  # fmt: skip


class Engine:
    """Answers each question with its state, or with an error that repeats the whole request."""

    def __init__(self):
        self.seen, self.status = [], 200
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                headers = {name.lower(): value for name, value in self.headers.items()}
                engine.seen.append((self.command, self.path, headers, body))
                echoed = {"state": "done", "message": f"{self.path} {self.headers} {body}", "code": str(self.headers)}
                content = json.dumps(echoed).encode()
                self.send_response(engine.status)
                self.send_header("content-type", "application/json")
                self.send_header("x-request-id", str(self.headers["X-Gateway"]))
                self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer  # noqa: N815  # http.server's names

            def log_message(self, *_):
                """Keeps stderr quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def engine():
    with contextlib.closing(Engine()) as started:
        yield started


CONFIG = """
[[targets]]
name = "docs"
provider = "generic"
base_url = "{url}/base"
params = {params}
auth = {{ user = "usér", password = "{password}" }}
headers = {{ X-Plain = "plain" }}
secret_headers = {{ X-Gateway = "{gateway}", X-Second_file = "second" }}
statuses = {{ completed = ["done"] }}
[targets.item]
{item}
status = "state"
[targets.sync_log]
url = "sqlite:///pipeline.db"
{columns}
[targets.check]
max_attempts = 1
"""
GET = 'path = "/spaces/{space}/{item_id}?in={space}"'
POST = 'method = "POST"\npath = "/ask/{space}"\nbody = { id = "{item_id}", about = { space = "the {space}" } }'


@pytest.fixture
def command(tmp_path, capsys, monkeypatch, engine):
    """Commands on a configuration with secrets everywhere, and a sync log of (item id, space)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "second").write_text(GATEWAY_FILE + "\n")
    (tmp_path / "second").chmod(0o600)

    def configured(item, rows, *, space=None):
        params, columns = ("{}", 'param_columns = { space = "room" }')
        if space is not None:
            params, columns = f"{{ space = {json.dumps(space)} }}", ""
        text = CONFIG.format(
            url=engine.url, params=params, item=item, columns=columns, password=PASSWORD, gateway=GATEWAY
        )
        (tmp_path / "monitor.toml").write_text(text)
        (tmp_path / "monitor.toml").chmod(0o600)
        with contextlib.closing(sqlite3.connect(tmp_path / "pipeline.db")) as conn, conn:
            conn.execute("CREATE TABLE sync_log (item_id TEXT, room TEXT)")
            conn.executemany("INSERT INTO sync_log VALUES (?, ?)", rows)

    def call(*arguments):
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out + err

    call.configure = configured
    call.folder = tmp_path
    return call


@pytest.mark.parametrize("item", [GET, POST], ids=["GET", "POST"])
def test_parameters_and_ids_of_rows_reach_only_their_place_in_the_request(command, engine, item):
    command.configure(item, [(f"{n}{value}", value) for n, value in enumerate(HOSTILE)])
    code, said = command("check")

    assert code == 0, said
    assert f"Health: {len(HOSTILE)} completed" in said
    assert len(engine.seen) == len(HOSTILE)
    for method, path, _, body in engine.seen:
        route, _, query = path.partition("?")
        segments = [unquote(each) for each in route.split("/")]
        if method == "GET":
            assert segments[:3] == ["", "base", "spaces"]
            _, _, _, space, item_id = segments
            assert (query, item_id[item_id.index(space) :]) == (f"in={quote(space, safe='')}", space)
        else:
            assert segments[:3] == ["", "base", "ask"]
            asked = json.loads(body)
            assert asked.keys() == {"id", "about"}
            assert (asked["about"], len(segments)) == ({"space": f"the {segments[3]}"}, 4)
        assert "{" not in route


@pytest.mark.parametrize("space", ends_only(HOSTILE))
def test_a_parameter_of_the_target_reaches_only_its_place_in_the_request(command, engine, space):
    command.configure(GET, [("a", None)], space=space)
    command("check")

    ((_, path, _, _),) = engine.seen
    assert path == f"/base/spaces/{quote(space, safe='')}/a?in={quote(space, safe='')}"


@pytest.mark.parametrize("space", ["..", "."])
def test_a_dot_segment_is_no_parameter(command, engine, space):
    command.configure(GET, [("a", None)], space=space)
    code, said = command("config", "check")

    assert (code, engine.seen) == (2, [])
    assert "targets.docs.params.space must be a value that can be sent" in said


def test_user_password_and_secret_headers_are_sent_with_each_request(command, engine):
    command.configure(GET, [("a", "s")])
    command("check")

    ((_, _, headers, _),) = engine.seen
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode() == f"usér:{PASSWORD}"
    assert (headers["x-gateway"], headers["x-second"], headers["x-plain"]) == (GATEWAY, GATEWAY_FILE, "plain")


@pytest.mark.parametrize("status", ends_only([200, 302, 400, 401, 403, 404, 422, 500]))
def test_an_answer_that_repeats_the_request_reveals_no_secret(command, engine, status):
    command.configure(GET, [(f"i{n}", "s") for n in range(3)])
    engine.status = status

    said = [
        command(*line.split())[1]
        for line in (
            "check --log-level debug", "check --json", "doctor", "doctor --json", "items list --json",
            "items show docs i0", "incidents list --json", "config show", "config show --json", "report --json",
        )
    ]  # fmt: skip

    stored = [path.read_bytes().decode("latin-1") for path in command.folder.glob("monitor.db*")]
    pair = base64.b64encode(f"usér:{PASSWORD}".encode()).decode()
    for secret in (PASSWORD, GATEWAY, GATEWAY_FILE, "c4n4ry", pair, quote(PASSWORD)):
        assert [text for text in (*said, *stored) if secret in text] == [], secret
    assert all(path.startswith("/base/") for _, path, _, _ in engine.seen), "a redirect is not followed"


def test_a_row_without_its_parameter_is_counted_and_named(command, engine):
    command.configure(GET, [("a", "s"), ("b", None), ("c", " ")])
    code, said = command("check")
    _, examined = command("doctor")

    assert (code, len([path for _, path, _, _ in engine.seen[:2]])) == (0, 2)
    assert "2 rows without a path parameter (param_columns), not asked about: b, c" in said
    assert "2 without a path parameter (param_columns), not asked about: b, c" in " ".join(examined.split())
    assert [path for _, path, _, _ in engine.seen] == ["/base/spaces/s/a?in=s"] * 2


def test_a_row_that_moves_to_another_store_is_asked_about_there(command, engine):
    command.configure(GET, [("a", "one")])
    command("check")
    with contextlib.closing(sqlite3.connect(command.folder / "pipeline.db")) as conn, conn:
        conn.execute("UPDATE sync_log SET room = 'two'")
    command("check")

    assert [path for _, path, _, _ in engine.seen] == ["/base/spaces/one/a?in=one", "/base/spaces/two/a?in=two"]
