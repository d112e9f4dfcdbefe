"""`Doctor` end to end: one part is broken at a time, and the finding is about that part."""

import asyncio
import json
import socket
import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from alembic import command
from alembic.config import Config as AlembicConfig
from support.mailserver import MailServer
from support.receiver import Receiver

from monitor.app.throttles import http_origin, throttle_key
from monitor.cli.doctor.database import HostInfo
from monitor.cli.doctor.examine import Doctor, setting_locations
from monitor.cli.doctor.findings import Level, exit_code
from monitor.cli.doctor.synclog import MAX_ROWS
from monitor.config import load_config
from monitor.database.engine import writing
from monitor.database.migrate import migration_transaction
from monitor.database.tables import metadata
from monitor.model import LearnedLimits, SyncLogEntry
from monitor.runs import throttle_store as throttles
from monitor.synclog import builtin as tracked

OUTSIDE = HostInfo(in_container=False)
HOOK = '[[channels]]\nname = "hook"\ntype = "{type}"\nurl = "{url}"\n'


@pytest.fixture
def unused_port():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield closed.getsockname()[1]


def examined(world, *, send_test=False, host=OUTSIDE):
    """All findings, in order."""
    config = load_config(world.config_path, environ={})
    return diagnosed(config, send_test=send_test, host=host)


def diagnosed(config, *, send_test=False, host=OUTSIDE):
    async def gathered():
        doctor = Doctor(config=config, host=host)
        names = [target.name for target in config.targets]
        return [finding async for finding in doctor.examine(names, test_channels=send_test)]

    return asyncio.run(gathered())


def only(findings, part):
    (found,) = [finding for finding in findings if finding.part == part]
    return found


def levels(findings):
    return {finding.part: finding.level for finding in findings}


def change(world, old, new):
    text = world.config_path.read_text(encoding="utf-8")
    assert old in text
    world.config_path.write_text(text.replace(old, new), encoding="utf-8")


def alone_readable(world):
    world.config_path.chmod(0o600)


# --- all is well -----------------------------------------------------------------------------------------------------


def test_a_healthy_setup_has_no_problem(world):
    world.track(7)
    world.configure(strategy="auto")
    alone_readable(world)
    findings = examined(world)
    said = {finding.part: finding.message for finding in findings}
    assert {finding.level for finding in findings} == {Level.OK}, said
    assert exit_code(findings) == 0
    assert list(said) == [
        "configuration", "database", "secret files", "sync log", "ids", "connection", "credentials", "item", "list",
        "clock", "routes",
    ]  # fmt: skip
    assert said["sync log"] == 'table "sync_log" is readable: 7 rows, 7 items.'
    assert said["credentials"] == "a token was issued and accepted."
    assert said["item"].endswith(" is COMPLETED.")
    assert said["list"] == "7 items could be read; runs with over 50 due items will use it."
    assert world.sandbox.requests("items/{item_id}") == 1


def test_it_changes_no_row_of_any_database(world):
    world.track(3)
    before = {table: world.rows(f"SELECT * FROM {table}") for table in metadata.tables}
    examined(world)
    assert {table: world.rows(f"SELECT * FROM {table}") for table in metadata.tables} == before


def test_an_api_key_is_accepted(small_world):
    small_world.track(1)
    small_world.configure(auth=small_world.key_auth)
    assert only(examined(small_world), "credentials").message == "the key was accepted."


def without_auth(world, base_url=None):
    world.configure(auth="X", base_url=base_url)
    change(world, 'provider = "gloo"', 'provider = "generic"\nstatuses = { completed = ["COMPLETED"] }')
    change(world, "auth = X", 'item = { path = "/engine/v2/items/{item_id}" }')


def test_an_api_that_requires_credentials_is_a_problem_if_none_are_set(small_world):
    small_world.track(1)
    without_auth(small_world)
    findings = examined(small_world)
    credentials = only(findings, "credentials")
    assert (credentials.level, credentials.setting) == (Level.PROBLEM, "targets.gloo.auth")
    assert credentials.message.startswith("none are set, but the API requires them (HTTP 401")
    assert only(findings, "item").level is Level.NOT_TRIED


def test_an_api_without_credentials_is_fine(small_world):
    small_world.track(1)
    with answering() as url:
        without_auth(small_world, url)
        findings = examined(small_world)
    assert only(findings, "credentials").message == "none are set, and the API asks for none."
    assert only(findings, "item").level is Level.OK
    assert only(findings, "list").message == "no list endpoint is known; runs ask about each item by itself."


# --- the database ----------------------------------------------------------------------------------------------------


def test_a_missing_sqlite_database_is_created(small_world):
    (small_world.folder / "monitor.db").unlink()
    assert "did not exist and was created" in only(examined(small_world), "database").message
    assert small_world.rows("SELECT * FROM runs") == []


def test_a_postgresql_database_without_a_schema_is_not_changed(small_world, new_postgres):
    url = new_postgres()
    small_world.track(1)
    small_world.configure(database=url)
    database = only(examined(small_world), "database")
    assert (database.level, database.command) == (Level.PROBLEM, "ingestion-monitor db upgrade")
    assert (database.setting, database.location) == ("database", "monitor.toml, line 1")
    assert "is empty" in database.message


def test_a_newer_schema_is_a_problem(small_world):
    with small_world.app.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE ingestion_monitor_version SET version_num = '9999'")
    database = only(examined(small_world), "database")
    assert database.level is Level.PROBLEM
    assert "newer" in database.message


def test_other_checks_run_if_the_database_server_is_down(small_world, unused_port):
    small_world.track(1)
    small_world.configure(database=f"postgresql://monitor:pw@127.0.0.1:{unused_port}/monitor")
    found = levels(examined(small_world))
    assert found["database"] is Level.PROBLEM
    assert (found["sync log"], found["item"]) == (Level.OK, Level.OK)


def test_a_built_in_log_is_not_checked_without_its_database(small_world, unused_port):
    small_world.configure(database=f"postgresql://monitor:pw@127.0.0.1:{unused_port}/monitor", built_in_log=True)
    log = only(examined(small_world), "sync log")
    assert (log.level, log.message) == (Level.NOT_TRIED, "not tried: it is in the database, which can't be used.")


def test_a_read_only_database_is_a_problem(small_world, new_postgres):
    url = new_postgres(migrated=True)
    small_world.configure(database=f"{url}?options=-c%20default_transaction_read_only%3Don")
    database = only(examined(small_world), "database")
    assert database.level is Level.PROBLEM
    assert "can't be written" in database.message


def test_a_database_on_a_containers_writable_layer_is_a_warning(small_world):
    mounts = "1 0 0:1 / / rw - overlay overlay rw"
    disk = only(examined(small_world, host=HostInfo(in_container=True, mounts=mounts)), "disk")
    assert (disk.level, disk.location) == (Level.WARNING, "monitor.toml, line 1")


def test_an_old_sqlite_database_is_upgraded(small_world):
    path = small_world.folder / "old.db"
    settings = AlembicConfig()
    settings.set_main_option("script_location", str(Path(__file__).parents[3] / "migrations"))
    settings.set_main_option("path_separator", "os")
    with migration_transaction(f"sqlite:///{path}") as conn:
        settings.attributes["connection"] = conn
        command.upgrade(settings, "0001")
    small_world.configure(database=f"sqlite:///{path}")
    database = only(examined(small_world), "database")
    assert database.level is Level.OK
    assert "was upgraded from schema 0001 to " in database.message


# --- configuration ---------------------------------------------------------------------------------------------------


def test_ignored_settings_are_a_warning(small_world):
    config = load_config(small_world.config_path, environ={"MONITOR_ENVIROMENT": "test"})
    reported = [finding for finding in diagnosed(config) if finding.part == "configuration"]
    assert [finding.level for finding in reported] == [Level.OK, Level.WARNING]
    assert "MONITOR_ENVIROMENT" in reported[1].message


def test_settings_that_a_provider_refuses_are_a_configuration_problem(small_world, tmp_path, monkeypatch):
    (tmp_path / "picky_provider.py").write_text(
        "from monitor.errors import ConfigError\n"
        "def make(settings):\n    raise ConfigError(['targets.gloo.options.tenant is missing: give it'])\n"
    )
    metadata_of = tmp_path / "picky-1.0.dist-info"
    metadata_of.mkdir()
    (metadata_of / "METADATA").write_text("Metadata-Version: 2.1\nName: picky\nVersion: 1.0\n")
    (metadata_of / "entry_points.txt").write_text("[ingestion_monitor.providers]\npicky = picky_provider:make\n")
    monkeypatch.syspath_prepend(tmp_path)
    change(small_world, 'provider = "gloo"', 'provider = "picky"')
    findings = examined(small_world)
    provider = only(findings, "provider")
    assert provider.message == "targets.gloo.options.tenant is missing: give it."
    assert exit_code(findings) == 2
    assert "sync log" not in levels(findings)


def test_a_deleted_configuration_file_has_no_line_numbers(small_world):
    config = load_config(small_world.config_path, environ={})
    small_world.config_path.unlink()
    assert setting_locations(config).of("database").where == "monitor.toml"


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_a_file_with_secrets_that_everyone_can_read_is_a_warning(small_world):
    dotenv = small_world.folder / ".env"
    dotenv.write_text("X=1\n", encoding="utf-8")
    dotenv.chmod(0o644)
    alone_readable(small_world)
    secrets = only(examined(small_world), "secret files")
    assert (secrets.level, secrets.command) == (Level.WARNING, f"chmod 600 {dotenv}")


# --- the sync log ----------------------------------------------------------------------------------------------------

WRONG_NAMES = {
    "table": ('table = "synk_log"', "table", 'has no table "synk_log"; did you mean "sync_log"?'),
    "id": ('id_column = "item"', "id_column", 'it has no column "item"; did you mean "item_id"?'),
    "group": ('group_column = "team"', "group_column", 'it has no column "team"'),
}


@pytest.mark.parametrize(("line", "key", "said"), WRONG_NAMES.values(), ids=WRONG_NAMES)
def test_a_wrong_name_is_reported_with_its_line(small_world, line, key, said):
    change(small_world, "submitted_at_column", f"{line}\nsubmitted_at_column")
    findings = examined(small_world)
    log = only(findings, "sync log")
    assert log.level is Level.PROBLEM
    assert said in log.message
    assert (log.setting, log.location) == (f"targets.gloo.sync_log.{key}", "monitor.toml, line 14")
    assert only(findings, "item").message == "not tried: there is no usable id."
    assert only(findings, "credentials").level is Level.OK, "a token can be had all the same"


def test_a_wrong_time_column_is_reported_with_its_line(small_world):
    change(small_world, '"uploaded_at"', '"uploaded"')
    assert only(examined(small_world), "sync log").setting == "targets.gloo.sync_log.submitted_at_column"


def test_a_missing_sync_log_is_reported_at_its_url_setting(small_world):
    small_world.configure(sync_log=f"sqlite:///{small_world.folder}/no.db")
    log = only(examined(small_world), "sync log")
    assert (log.level, log.setting) == (Level.PROBLEM, "targets.gloo.sync_log.url")


def test_odd_rows_are_counted(small_world):
    (one, _) = small_world.track(2)
    small_world.record(None, "", one)
    log = only(examined(small_world), "sync log")
    assert log.level is Level.WARNING
    assert log.message == (
        'table "sync_log" is readable: 5 rows, 2 items, 1 without an id, 1 with a blank id, 1 with a duplicate id.'
    )


def test_ids_that_the_api_cannot_accept_are_a_problem(small_world):
    small_world.record("report-1.pdf", "x" * 80)
    findings = examined(small_world)
    ids = only(findings, "ids")
    assert (ids.level, ids.setting) == (Level.PROBLEM, "targets.gloo.sync_log.id_column")
    assert ids.message.startswith(
        f"2 of 2 can't be ids of target gloo, such as report-1.pdf, {'x' * 80}. A right id is "
    )
    assert "a UUID, such as" in ids.message
    assert only(findings, "item").level is Level.NOT_TRIED
    assert small_world.sandbox.requests("items") == 0


def test_an_empty_log_is_a_warning(small_world):
    log = only(examined(small_world), "sync log")
    assert (log.level, log.message) == (
        Level.WARNING, 'table "sync_log" is readable, but empty: has the pipeline recorded anything yet?',
    )  # fmt: skip


def test_rows_without_a_usable_id_are_a_problem(small_world):
    small_world.record(None, " ")
    assert only(examined(small_world), "sync log").level is Level.PROBLEM


def test_an_empty_built_in_log_says_how_to_fill_it(small_world):
    small_world.configure(built_in_log=True)
    log = only(examined(small_world), "sync log")
    assert (log.level, log.command) == (Level.WARNING, "ingestion-monitor items import FILE --target gloo")


def test_the_built_in_log_is_read(world):
    ids = world.sandbox.create_items(3, status="COMPLETED")
    now = datetime.now(UTC)
    tracked.add(world.app.engine, target="gloo", batches=[[SyncLogEntry(item_id=item_id) for item_id in ids]], now=now)
    world.configure(built_in_log=True)
    findings = examined(world)
    assert only(findings, "sync log").message == "the built-in log is readable: 3 rows, 3 items."
    assert only(findings, "item").level is Level.OK


def test_only_the_beginning_of_a_long_log_is_read(small_world):
    rows = MAX_ROWS + 1500
    small_world.log(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < "
        f"{rows}) INSERT INTO sync_log SELECT printf('%08x-0000-4000-8000-000000000000', i), NULL FROM n"
    )
    log = only(examined(small_world), "sync log")
    assert log.message == f'table "sync_log" is readable: the first {MAX_ROWS} rows, {MAX_ROWS} items.'


# --- the API ---------------------------------------------------------------------------------------------------------


def test_a_revoked_client_is_reported_with_what_to_check(small_world):
    small_world.track(1)
    small_world.sandbox.revoke_client()
    findings = examined(small_world)
    credentials = only(findings, "credentials")
    assert (credentials.level, credentials.setting) == (Level.PROBLEM, "targets.gloo.auth")
    assert credentials.message.startswith("the token endpoint: ")
    assert "(HTTP 401" in credentials.message
    assert "key rotation" in credentials.remedy
    assert only(findings, "item").message == "not tried: no credentials work."
    assert exit_code(findings) == 3


def test_a_rejected_token_is_reported_once(small_world):
    small_world.track(1)
    small_world.configure(strategy="auto")
    small_world.sandbox.add_fault(path="/engine", status=401, body={"code": "invalid_token"})
    findings = examined(small_world)
    assert "(HTTP 401, code invalid_token)" in only(findings, "credentials").message
    assert {only(findings, part).message for part in ("item", "list")} == {"not tried: the credentials are rejected."}


@pytest.mark.parametrize(("status", "last"), [
    (503, "; the configured base_url, the network and the proxy, if there is no response at all"),
    (429, "here and in the pipeline that shares the key; add backoff; inspect traffic spikes"),
])  # fmt: skip
def test_what_to_check_is_whole_on_one_line(small_world, status, last):
    small_world.track(1)
    small_world.sandbox.add_fault(path="/engine", status=status)
    item = only(examined(small_world), "item")
    assert item.remedy.startswith("check: ")
    assert item.remedy.endswith(last)


def test_a_revoked_key_may_be_credentials_or_access(small_world):
    small_world.track(1)
    small_world.configure(auth=small_world.key_auth)
    small_world.sandbox.revoke_key()
    findings = examined(small_world)
    item = only(findings, "item")
    assert (item.level, item.setting) == (Level.PROBLEM, "targets.gloo.auth")
    assert item.remedy.startswith("check: credentials; ")
    credentials = only(findings, "credentials")
    assert (credentials.level, credentials.setting) == (Level.WARNING, "targets.gloo.auth")
    assert credentials.message.startswith("nothing was accepted (HTTP 403")
    assert credentials.remedy.startswith("check first for a rejected, malformed or rotated key")


PAGES = {
    "a client certificate is missing": (400, "<title>400 No required SSL certificate was sent</title>"),
    "no route": (404, "<h1>404 Not Found</h1>"),
    "a deny rule": (403, "<title>403 Forbidden</title>"),
    "a login page": (200, "<title>Log in</title>"),
}


@pytest.mark.parametrize(("status", "body"), PAGES.values(), ids=PAGES)
def test_a_gateways_page_is_shown_with_its_title_and_sender_and_shows_nothing_about_key_or_id(
    small_world, status, body
):
    small_world.track(1)
    small_world.configure(auth=small_world.key_auth)
    small_world.sandbox.add_fault(path="/engine", status=status, body=body, headers={"server": "edge/7"})
    findings = examined(small_world)
    item = only(findings, "item")
    assert (item.level, item.setting) == (Level.PROBLEM, "targets.gloo.base_url")
    assert body[body.index(">") + 1 :].partition("<")[0] in item.message
    assert "edge/7" in item.message
    assert only(findings, "credentials").message == "no answer shows whether the key is accepted."


def test_a_cached_answer_does_not_show_that_the_key_is_accepted(small_world):
    (item_id,) = small_world.track(1)
    small_world.configure(auth=small_world.key_auth)
    cached = {"item_id": item_id, "status": "COMPLETED"}
    small_world.sandbox.add_fault(path="/engine", status=200, body=cached, headers={"age": "60"})
    findings = examined(small_world)
    assert only(findings, "item").level is Level.OK
    assert only(findings, "credentials").message == "no answer shows whether the key is accepted."


def test_a_forbidden_item_is_reported_as_another_publishers(small_world):
    (item_id,) = small_world.track(1)
    small_world.sandbox.assign_to_other_publisher(item_id)
    item = only(examined(small_world), "item")
    assert (item.level, item.setting) == (Level.PROBLEM, "targets.gloo.publisher_id")
    assert "plan level" in item.remedy


def test_a_client_secret_that_cannot_be_sent_is_reported(small_world):
    small_world.track(1)
    secret = small_world.folder / "secret"
    secret.write_text("\u2603", encoding="utf-8")
    small_world.configure(auth='{ client_id = "x", client_secret_file = "secret" }')
    findings = examined(small_world)
    credentials = only(findings, "credentials")
    assert credentials.level is Level.PROBLEM
    assert "client secret" in credentials.message
    assert only(findings, "connection").message == "not tried: no credentials work."


def test_an_item_that_the_api_does_not_know_is_no_problem(small_world):
    (item_id,) = small_world.track(1)
    small_world.sandbox.remove(item_id)
    item = only(examined(small_world), "item")
    assert (item.level, item.message) == (Level.OK, f"the API answers, but does not know {item_id} (HTTP 404).")


def test_ids_are_requested_until_the_api_knows_one(small_world):
    ids = small_world.track(5)
    for item_id in ids[:-1]:
        small_world.sandbox.remove(item_id)
    assert only(examined(small_world), "item").message == f"{ids[-1]} is COMPLETED."


def test_a_sample_without_known_items_suggests_a_wrong_scope(small_world):
    for item_id in small_world.track(9):
        small_world.sandbox.remove(item_id)
    item = only(examined(small_world), "item")
    assert (item.level, item.setting) == (Level.WARNING, "targets.gloo.publisher_id")
    assert item.message.startswith(
        "the API knows none of 5 ids from the sync log (HTTP 404). A right id is the item_id"
    )


def test_an_id_that_the_api_refuses_is_a_problem(small_world):
    (item_id,) = small_world.track(1)
    small_world.sandbox.add_fault(path="/engine/v2/items", status=422, body={"detail": [{"loc": ["x"], "msg": "no"}]})
    item = only(examined(small_world), "item")
    assert (item.level, item.setting) == (Level.PROBLEM, "targets.gloo.sync_log.id_column")
    assert item_id in item.message


def test_an_unknown_status_is_a_warning(small_world):
    small_world.track(1, status="RERANKING")
    item = only(examined(small_world), "item")
    assert (item.level, item.setting) == (Level.WARNING, "targets.gloo.statuses")
    assert "RERANKING" in item.message


def test_a_pending_item_says_what_its_status_means(small_world):
    (item_id,) = small_world.track(1, status="CHUNKING")
    assert only(examined(small_world), "item").message == f"{item_id} is CHUNKING (pending)."


def test_a_body_that_can_t_be_read_is_a_problem(small_world):
    small_world.track(1)
    small_world.sandbox.add_fault(path="/engine/v2/items", status=200, body="<html>hello</html>")
    item = only(examined(small_world), "item")
    assert (item.level, item.setting) == (Level.PROBLEM, "targets.gloo.base_url")
    assert "not JSON" in item.message


def test_an_error_in_a_200_of_an_api_of_your_own_wants_a_description(small_world):
    small_world.track(1)
    with answering(body=b'{"ok": false}') as url:
        without_auth(small_world, url)
        item = only(examined(small_world), "item")
    assert (item.level, item.setting) == (Level.PROBLEM, "targets.gloo.item")
    assert "errors with 200" in item.remedy


def test_a_failing_api_is_a_problem(small_world):
    small_world.track(1)
    small_world.sandbox.add_fault(path="/engine", status=503)
    findings = examined(small_world)
    assert only(findings, "item").level is Level.PROBLEM
    assert "(HTTP 503)" in only(findings, "item").message
    assert only(findings, "connection").level is Level.OK


def test_an_api_that_drops_connections_behind_its_token_endpoint_is_reported(small_world):
    small_world.track(1)
    small_world.sandbox.add_fault(path="/engine", close=True)
    item = only(examined(small_world), "item")
    assert "(it drops the connection)" in item.message


def test_an_api_that_is_down_is_reported_once(small_world):
    small_world.track(1)
    small_world.configure(strategy="auto")
    small_world.sandbox.stop()
    findings = examined(small_world)
    connection = only(findings, "connection")
    assert (connection.level, connection.setting) == (Level.PROBLEM, "targets.gloo.base_url")
    assert "refuses connections" in connection.message
    assert {only(findings, part).message for part in ("credentials", "item", "list")} == {"not tried: nothing answers."}
    assert only(findings, "clock").level is Level.NOT_TRIED


def test_an_api_that_is_down_is_reported_once_with_an_api_key_too(small_world):
    small_world.track(1)
    small_world.configure(strategy="auto", auth=small_world.key_auth)
    small_world.sandbox.stop()
    findings = examined(small_world)
    assert only(findings, "connection").level is Level.PROBLEM
    assert {only(findings, part).message for part in ("credentials", "item", "list")} == {"not tried: nothing answers."}


def test_a_request_that_hangs_times_out(small_world):
    small_world.track(1)
    small_world.configure(check="")
    change(small_world, 'attempt_timeout = "5s"', 'attempt_timeout = "100ms"')
    small_world.sandbox.add_fault(path="/oauth2", delay_s=60)
    assert "did not answer in time" in only(examined(small_world), "connection").message


@contextmanager
def answering(headers=(), *, context=None, body=b'{"status": "COMPLETED"}'):
    """A separate server for behaviour that the sandbox lacks; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response_only(200)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Keeps stderr quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_certificate_that_is_not_trusted_is_explained(small_world):
    small_world.track(1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with answering(context=context) as url:
        small_world.configure(auth=small_world.key_auth, base_url=url)
        connection = only(examined(small_world), "connection")
    assert connection.level is Level.PROBLEM
    assert "certificate is not trusted" in connection.message
    assert "SSL_CERT_FILE" in connection.remedy


@pytest.mark.parametrize(("off_s", "level"), [(3600, Level.WARNING), (-3600, Level.WARNING), (0, Level.OK)])
def test_a_clock_that_is_off_is_a_warning(small_world, off_s, level):
    small_world.track(1)
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=off_s), usegmt=True)
    with answering([("Date", date)]) as url:
        small_world.configure(auth=small_world.key_auth, base_url=url)
        assert only(examined(small_world), "clock").level is level


def test_the_clock_is_compared_with_refusals_too(small_world):
    small_world.track(1)
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    small_world.sandbox.add_fault(path="/oauth2", status=401, headers={"Date": date})
    assert only(examined(small_world), "clock").level is Level.WARNING


# --- what earlier runs learned ---------------------------------------------------------------------------------------


def test_inherited_limits_are_reported_before_the_api_is_asked(world):
    world.track(1)
    now = datetime.now(UTC).replace(microsecond=0)
    config = load_config(world.config_path, environ={})
    learned = LearnedLimits(at=now, not_before=now + timedelta(minutes=30), status=429, code="SLOW_DOWN", down=True)
    with writing(world.app.engine) as conn:
        key = throttle_key(config.targets[0])
        throttles.write(conn, key=key, origin=http_origin(config.targets[0]), limits=learned)
    findings = diagnosed(config)
    parts = [finding.part for finding in findings]
    assert f"until {learned.not_before:%Y-%m-%d %H:%M:%S} UTC" in only(findings, "retry-after").message
    assert f"the last run ({now:%Y-%m-%d %H:%M:%S} UTC)" in only(findings, "breaker").message
    assert parts.index("ids") < parts.index("retry-after") < parts.index("breaker") < parts.index("connection")
    assert {only(findings, part).about for part in ("retry-after", "breaker")} == {"target gloo"}
    assert exit_code(findings) == 0


# --- the list --------------------------------------------------------------------------------------------------------

LIST = "/engine/v2/publisher"


def test_a_forbidden_list_is_a_warning_if_items_can_be_requested(small_world):
    small_world.track(1)
    small_world.configure(strategy="auto")
    settings = small_world.sandbox.settings
    change(small_world, settings.publisher_id, settings.foreign_publisher_id)
    found = only(examined(small_world), "list")
    assert (found.level, found.setting) == (Level.WARNING, "targets.gloo.publisher_id")
    assert found.message.endswith("Runs will ask item by item.")


def test_a_publisher_that_does_not_exist_is_a_problem(small_world):
    small_world.track(1)
    small_world.configure(strategy="auto")
    change(small_world, small_world.sandbox.settings.publisher_id, "33333333-3333-4333-8333-333333333333")
    found = only(examined(small_world), "list")
    assert (found.level, found.setting, found.location) == (
        Level.PROBLEM, "targets.gloo.publisher_id", "monitor.toml, line 9",
    )  # fmt: skip


def test_a_forbidden_list_is_a_problem_with_strategy_list(small_world):
    small_world.track(1)
    small_world.configure(strategy="list")
    small_world.sandbox.add_fault(path=LIST, status=403)
    assert only(examined(small_world), "list").level is Level.PROBLEM


@pytest.mark.parametrize(("strategy", "level"), [("auto", Level.WARNING), ("list", Level.PROBLEM)])
def test_an_unreadable_list_is_reported(small_world, strategy, level):
    small_world.track(1)
    small_world.configure(strategy=strategy)
    small_world.sandbox.add_fault(path=LIST, status=200, body={"items": []})
    found = only(examined(small_world), "list")
    assert found.level is level
    assert found.message.startswith("it can't be read: ")


def test_a_list_whose_body_says_no_is_not_taken_for_an_empty_one(small_world):
    small_world.track(1)
    with answering(body=b'{"code": 109, "message": "the key is invalid"}') as url:
        small_world.configure(strategy="list", auth="X", base_url=url)
        change(small_world, 'provider = "gloo"', 'provider = "generic"\nstatuses = { completed = ["COMPLETED"] }')
        change(small_world, "auth = X", 'auth = { api_key = "k" }\nlist = { path = "/all", items = "data" }\nerrors = '
               '[{ cause = "unauthorized", path = "code", values = [109] }]')  # fmt: skip
        findings = examined(small_world)
    assert only(findings, "credentials").level is Level.PROBLEM
    assert only(findings, "list").level is Level.NOT_TRIED


def test_a_target_without_a_publisher_is_told_to_look_at_its_base_url(small_world):
    for item_id in small_world.track(2):
        small_world.sandbox.remove(item_id)
    without_auth(small_world)
    change(small_world, "item = {", 'auth = { api_key = "sandbox-key" }\nitem = {')
    change(small_world, f'publisher_id = "{small_world.sandbox.settings.publisher_id}"\n', "")
    assert only(examined(small_world), "item").setting == "targets.gloo.base_url"


def test_a_list_without_the_logs_items_is_a_warning(small_world):
    small_world.track(2)
    small_world.configure(strategy="auto")
    other = {"item_id": "99999999-9999-4999-8999-999999999999", "status": "COMPLETED"}
    small_world.sandbox.add_fault(path=LIST, status=200, body=[other])
    found = only(examined(small_world), "list")
    assert (found.level, found.message) == (
        Level.WARNING, "it has 1 item, but none of 2 ids from the sync log.",
    )  # fmt: skip


def test_only_the_beginning_of_a_long_list_is_read(small_world):
    small_world.track(1)
    small_world.configure(strategy="list")
    rows = [{"item_id": f"{n:08x}-0000-4000-8000-000000000000", "status": "COMPLETED"} for n in range(60_000)]
    small_world.sandbox.add_fault(path=LIST, status=200, body=json.dumps(rows))
    found = only(examined(small_world), "list")
    assert found.level is Level.OK
    assert found.message.startswith("the first ")
    assert found.message.endswith(" items of it could be read; every run will use it.")
    assert "60000" not in found.message


def test_without_ids_the_list_shows_that_the_credentials_work(small_world):
    small_world.sandbox.create_items(2, status="COMPLETED")
    small_world.configure(strategy="auto", auth=small_world.key_auth)
    findings = examined(small_world)
    assert only(findings, "credentials").message == "the key was accepted."
    assert only(findings, "list").level is Level.OK


# --- channels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", ["webhook", "slack"])
def test_a_test_message_is_sent_only_on_request(small_world, type_):
    with Receiver() as receiver:
        small_world.configure(more=HOOK.format(type=type_, url=receiver.url))
        looked = only(examined(small_world), "hook")
        assert (looked.level, receiver.got) == (Level.OK, [])
        assert "127.0.0.1" in looked.message
        assert only(examined(small_world, send_test=True), "hook").message == "a test message was sent and accepted."
        ((_, _, body),) = receiver.got
    assert "Test message: nothing is wrong" in json.dumps(body)


def test_a_test_message_on_a_webhook_is_marked_as_one(small_world):
    with Receiver() as receiver:
        small_world.configure(more=HOOK.format(type="webhook", url=receiver.url))
        examined(small_world, send_test=True)
        ((_, _, body),) = receiver.got
    assert (body["kind"], body["incident_id"], body["severity"]) == ("test", 0, "info")


REFUSALS = {
    "suspended": ((404, {}, b"no_service"), "or its address is wrong: HTTP 404: the webhook is removed or disabled."),
    "refused": (
        (400, {}, b"invalid_payload"),
        "the receiver refuses the message: HTTP 400: Slack can't read the message.",
    ),
    "later": ((503, {}, b""), "a later attempt may succeed: HTTP 503."),
}


@pytest.mark.parametrize(("answer", "said"), REFUSALS.values(), ids=REFUSALS)
def test_a_refused_test_message_is_a_problem(small_world, answer, said):
    with Receiver(answer) as receiver:
        small_world.configure(more=HOOK.format(type="slack", url=receiver.url))
        hook = only(examined(small_world, send_test=True), "hook")
    assert (hook.level, hook.setting) == (Level.PROBLEM, "channels.hook.url")
    assert hook.message.endswith(said)


def test_a_deleted_url_file_is_a_problem(small_world):
    file = small_world.folder / "hook"
    file.write_text("https://hooks.example/x", encoding="utf-8")
    small_world.configure(more='[[channels]]\nname = "hook"\ntype = "slack"\nurl_file = "hook"\n')
    config = load_config(small_world.config_path, environ={})
    file.unlink()
    hook = only(diagnosed(config), "hook")
    assert (hook.level, hook.setting) == (Level.PROBLEM, "channels.hook.url")
    assert str(file) in hook.message


def test_the_log_channel_accepts_a_test_message(small_world):
    small_world.configure(more='[[channels]]\nname = "mine"\ntype = "log"\n')
    assert only(examined(small_world), "mine").message == "writes to the monitor's own log."
    assert only(examined(small_world, send_test=True), "mine").message == "a test message was written to the log."


MAIL = (
    '[[channels]]\nname = "mail"\ntype = "email"\nhost = "127.0.0.1"\nport = {port}\nsecurity = "none"\n'
    'from = "monitor@example.com"\nto = ["oncall@example.com", "pipeline@example.com"]\n'
)
PAGER = '[[channels]]\nname = "pager"\ntype = "pagerduty"\nrouting_key_file = "key"\nurl = "{url}"\n'
ALERTS = '[[channels]]\nname = "alerts"\ntype = "alertmanager"\nurl = "{url}"\n'
PHONE = '[[channels]]\nname = "phone"\ntype = "apprise"\nurl = "{url}"\n'


def test_the_destination_of_a_channel_is_printed_without_secrets(small_world):
    (small_world.folder / "key").write_text("a" * 32, encoding="utf-8")
    written = MAIL.format(port=2525) + PAGER.format(url="https://events.eu.pagerduty.com/v2/enqueue")
    written += ALERTS.format(url="http://alertmanager:9093") + PHONE.format(url="ntfy://s3cret-topic")
    small_world.configure(more=written)
    findings = examined(small_world)
    assert {each.part: each.message for each in findings if each.about == "channels" and each.part != "routes"} == {
        "mail": "its mails to 2 addresses go to 127.0.0.1:2525 (none); --send-test sends a message there.",
        "pager": "its events go to events.eu.pagerduty.com; --send-test sends a message there.",
        "alerts": "its URL leads to alertmanager; --send-test sends a message there.",
        "phone": "its URL is one of ntfy; --send-test sends a message there.",
    }


def test_a_test_message_is_sent_by_mail(small_world):
    with MailServer() as server:
        small_world.configure(more=MAIL.format(port=server.port))
        assert only(examined(small_world, send_test=True), "mail").message == "a test message was sent and accepted."
        assert server.read()["Subject"] == "[test] channel mail: test message"


def test_a_test_message_is_an_event_and_an_alert(small_world):
    (small_world.folder / "key").write_text("a" * 32, encoding="utf-8")
    with Receiver() as receiver:
        url = receiver.url
        small_world.configure(
            more=PAGER.format(url=url) + ALERTS.format(url=url) + PHONE.format(url=url.replace("http:", "json:"))
        )
        findings = examined(small_world, send_test=True)
        assert len(receiver.got) == 3
    for name in ("pager", "alerts", "phone"):
        assert only(findings, name).message == "a test message was sent and accepted."


def test_a_mail_server_that_refuses_is_reported_with_the_setting(small_world):
    with MailServer({"RCPT": "550 no such user"}) as server:
        small_world.configure(more=MAIL.format(port=server.port))
        mail = only(examined(small_world, send_test=True), "mail")
    assert (mail.level, mail.setting) == (Level.PROBLEM, "channels.mail.host")
    assert mail.message.endswith("or its address is wrong: SMTP 550 to the recipients.")


def test_a_service_that_apprise_does_not_know_is_a_problem(small_world):
    small_world.configure(more=PHONE.format(url="nonsense://s3cret"))
    phone = only(examined(small_world), "phone")
    assert (phone.level, phone.setting) == (Level.PROBLEM, "channels.phone.url")
    assert "names no service that Apprise knows" in phone.message


def test_a_deleted_key_file_is_a_problem(small_world):
    file = small_world.folder / "key"
    file.write_text("a" * 32, encoding="utf-8")
    small_world.configure(more=PAGER.format(url="https://events.pagerduty.com/v2/enqueue"))
    config = load_config(small_world.config_path, environ={})
    file.unlink()
    pager = only(diagnosed(config), "pager")
    assert (pager.level, pager.setting) == (Level.PROBLEM, "channels.pager.routing_key")
    assert str(file) in pager.message


def test_routes_are_checked(small_world):
    small_world.configure(
        more='[[channels]]\nname = "mine"\ntype = "log"\n[[routes]]\nmatch.target = "gl*"\nchannels = ["log"]\n'
    )
    routes = only(examined(small_world), "routes")
    assert (routes.level, routes.setting) == (Level.WARNING, "channels.mine")


def test_a_heartbeat_is_listed_and_never_sent(small_world):
    with Receiver() as switch:
        small_world.configure(auth=f'{small_world.client_auth}\nheartbeat = "{switch.url}"')
        small_world.track(1)
        findings = examined(small_world, send_test=True)
    found = only(findings, "heartbeat")
    assert (found.level, found.about) == (Level.NOT_TRIED, "target gloo")
    assert (switch.got, exit_code(findings)) == ([], 0)
