import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from monitor.config import MASK, Config, LogConfig, Secret, WebhookConfig, load_config
from monitor.config.load import decode_variables
from monitor.config.origin import SettingSource
from monitor.config.slos import objectives_of
from monitor.incidents.slo import Objective
from monitor.model import Cause, Severity, Team

FULL = """
database = "postgresql://monitor:pw@db/monitor"
environment = "staging"
[schedule]
cron = "*/5 * * * *"
timezone = "Europe/Paris"
[[targets]]
name = "gloo-prod"
provider = "gloo"
base_url = "https://gw.example/gloo/"
publisher_id = "p1"
auth = { client_id = "${ID}", client_secret_file = "secrets/gloo" }
statuses = { pending = ["RERANKING"] }
schedule = { every = "10m" }
[targets.sync_log]
url = "postgres://reader@db/pipeline"
table = "uploads"
id_column = "id"
submitted_at_column = "uploaded_at"
group_column = "collection"
timezone = "Europe/Paris"
[targets.check]
strategy = "items"
concurrency = 16
rate = "100/m"
rate_share = 1
deadline = "1h30m"
attempt_timeout = "500ms"
max_attempts = 1
http = "httpx"
stuck_after = "7d"
missing_after = "0s"
[[rules]]
cause = "unauthorized"
runs = 2
of = 3
window = "1h"
for = "0s"
resolve_after = 2
severity = "critical"
repeat_interval = "4h"
team = "credentials"
[[slos]]
name = "in time"
target = ["gloo-*", "docs"]
group = "manuals"
objective = 0.95
within = "15m"
window = "30d"
[[slos]]
name = "in a day"
objective = 0.99
within = "1d"
[[channels]]
name = "oncall"
type = "webhook"
url = "https://hooks.example/x"
[[channels]]
name = "log"
type = "log"
[[routes]]
match = { team = ["credentials", "account"], target = "gloo-*" }
channels = ["oncall"]
continue = true
[[routes]]
channels = ["log"]
"""

GENERIC = """
[[targets]]
name = "docs"
provider = "generic"
base_url = "https://api.example/v1"
publisher_id = "tenant-7"
auth = { client_id = "id", client_secret = "s3cret", token_path = "/token", scope = "read" }
headers = { X-Version = "2" }
statuses = { completed = ["done", "ready"], failed = ["cancelled"] }
[targets.item]
path = "/{publisher_id}/documents/{item_id}?full=1"
status = "document.state"
id = "document.0.id"
id_pattern = "doc_[0-9]+"
[targets.list]
path = "/{publisher_id}/documents?kind=pdf"
items = "data.rows"
id = "doc.id"
status = "doc.state"
page = { by = "offset", parameter = "start", total = "data.total", more = "more", size = 50, size_parameter = "n" }
[targets.check]
strategy = "list"
list_max_mb = 16
"""

GLOO = {
    "GLOO_CLIENT_ID": "id",
    "GLOO_CLIENT_SECRET": "s3cret",
    "GLOO_PUBLISHER_ID": "p1",
    "MONITOR_SYNC_LOG_URL": "sqlite:///pipeline.db",
}


def test_every_setting_of_a_file_is_read(config_dir):
    (config_dir.folder / "secrets").mkdir()
    (config_dir.folder / "secrets" / "gloo").write_text("s3cret\n")
    config = load_config(config_dir.write(FULL), {"ID": "client"})

    (target,) = config.targets
    assert target.auth.client_secret.reveal() == "s3cret"
    assert target.sync_log.url.reveal() == "postgres://reader@db/pipeline"
    assert config.channels[0].url.reveal() == "https://hooks.example/x"
    assert [type(channel) for channel in config.channels] == [WebhookConfig, LogConfig]
    assert config.database.reveal() == "postgresql://monitor:pw@db/monitor"
    assert (config.environment, config.schedule.cron, config.schedule.every) == ("staging", "*/5 * * * *", None)
    assert target.base_url == "https://gw.example/gloo"
    assert (target.check.deadline, target.check.attempt_timeout) == (timedelta(hours=1.5), timedelta(seconds=0.5))
    assert (target.check.rate, target.check.rate_share) == (100 / 60, 1.0)
    (rule,) = config.rules
    assert (rule.cause, rule.severity, rule.team) == (Cause.UNAUTHORIZED, Severity.CRITICAL, Team.CREDENTIALS)
    assert (rule.runs, rule.of, rule.window, rule.hold_for) == (2, 3, timedelta(hours=1), timedelta(0))
    assert objectives_of(config.slos, "gloo-prod") == (
        Objective(
            name="in time", objective=0.95, within=timedelta(minutes=15), window=timedelta(days=30), group="manuals"
        ),
        Objective(name="in a day", objective=0.99, within=timedelta(days=1), window=timedelta(days=28)),
    )
    assert [slo.name for slo in objectives_of(config.slos, "other")] == ["in a day"]
    assert config.routes[0].match == {"team": ("credentials", "account"), "target": ("gloo-*",)}
    assert [route.continue_ for route in config.routes] == [True, False]
    assert config.source == config_dir.folder / "monitor.toml"
    assert config.warnings == ()


def test_every_setting_of_a_generic_target_is_read(config_dir):
    (target,) = load_config(config_dir.write(GENERIC), {}).targets

    assert (target.base_url, target.publisher_id) == ("https://api.example/v1", "tenant-7")
    assert (target.auth.token_path, target.auth.scope) == ("/token", "read")
    assert target.headers == {"X-Version": "2"}
    assert target.statuses == {"completed": ("done", "ready"), "failed": ("cancelled",)}
    assert target.item.model_dump(exclude_defaults=True) == {
        "path": "/{publisher_id}/documents/{item_id}?full=1", "status": ("document.state",), "id": "document.0.id",
        "id_pattern": "doc_[0-9]+",
    }  # fmt: skip
    assert target.list_.model_dump(exclude_defaults=True) == {
        "path": "/{publisher_id}/documents?kind=pdf", "items": "data.rows", "id": "doc.id", "status": ("doc.state",),
        "page": {
            "by": "offset", "parameter": "start", "more": "more", "total": "data.total", "size": 50,
            "size_parameter": "n",
        },
    }  # fmt: skip
    assert (target.check.strategy, target.check.list_max_mb) == ("list", 16)
    assert (target.sync_log, target.options) == (None, {})


@pytest.mark.parametrize(
    ("by", "parameter"),
    [("none", None), ("link", None), ("cursor", "cursor"), ("offset", "offset"), ("number", "page")],
)
def test_each_kind_of_paging_has_its_usual_parameter(config_dir, by, parameter):
    text = GENERIC.partition("page = ")[0] + f'page = {{ by = "{by}" }}\n'

    page = load_config(config_dir.write(text), {}).targets[0].list_.page

    assert (page.parameter, page.next, page.first) == (parameter, "next_cursor", 1)


@pytest.mark.parametrize(
    ("header", "scheme"),
    [("", "Bearer"), ('header = "authorization"', "Bearer"), ('header = "X-API-Key"', ""),
     ('header = "X-API-Key", scheme = "Key"', "Key"), ('scheme = ""', "")],
)  # fmt: skip
def test_an_api_key_has_a_prefix_only_in_the_default_header(config_dir, header, scheme):
    auth = f'auth = {{ api_key = "k3y"{", " if header else ""}{header} }}'
    text = GENERIC.replace('auth = { client_id = "id", client_secret = "s3cret", token_path = "/token", '
                           'scope = "read" }', auth)  # fmt: skip

    assert load_config(config_dir.write(text), {}).targets[0].auth.scheme == scheme


def test_a_target_without_a_sync_log_uses_the_built_in_one(config_dir, valid):
    text = valid.replace('[targets.sync_log]\nurl = "sqlite:///pipeline.db"', "")

    assert load_config(config_dir.write(text), {}).targets[0].sync_log is None
    without_log = {name: value for name, value in GLOO.items() if name != "MONITOR_SYNC_LOG_URL"}
    assert load_config(None, without_log).targets[0].sync_log is None


def test_the_view_of_a_configuration_has_its_keys_and_no_secret(config_dir):
    (config_dir.folder / "secrets").mkdir()
    (config_dir.folder / "secrets" / "gloo").write_text("s3cret\n")
    view = load_config(config_dir.write(FULL), {"ID": "client"}).describe()

    assert json.loads(json.dumps(view)) == view
    assert view["database"] == MASK
    assert view["targets"][0]["auth"] == {"client_id": "client", "client_secret": MASK}
    assert view["targets"][0]["check"]["deadline"] == "1h30m"
    plain = {"name": "oncall", "type": "webhook", "include_api_message": False, "allow_http": False}
    assert view["channels"][0] == {**plain, "url": MASK}
    assert view["routes"][0]["continue"] is True
    assert view["schedule"] == {"cron": "*/5 * * * *", "timezone": "Europe/Paris", "jitter": "0s"}


def test_omitted_settings_have_defaults(config_dir):
    config = load_config(config_dir.write())

    (target,) = config.targets
    assert (config.environment, config.rules, config.channels, config.routes) == ("production", (), (), ())
    assert (config.schedule.every, config.schedule.cron, config.schedule.timezone) == (
        timedelta(minutes=5),
        None,
        "UTC",
    )
    assert (target.base_url, target.allow_http, target.statuses["failed"]) == (
        "https://platform.ai.gloo.com", False, ("FAILED", "ERROR"),
    )  # fmt: skip
    assert (target.sync_log.table, target.sync_log.id_column) == ("sync_log", "item_id")
    assert (target.sync_log.submitted_at_column, target.sync_log.group_column) == (None, None)
    assert target.check.model_dump(mode="json") == {
        "strategy": "auto", "concurrency": 32, "rate": None, "rate_share": 0.5, "deadline": "4m",
        "attempt_timeout": "30s", "max_attempts": 5, "recheck_completed": "auto", "item_max_mb": 1, "http": "fast",
        "stuck_after": "30m", "missing_after": "15m", "slow_after": None, "list_max_mb": 1024,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "explicit"),
    [("", False), ('timezone = "UTC"', False), ('every = "5m"', True), ('cron = "* * * * *"', True)],
)
def test_a_schedule_is_explicit_if_it_is_configured(config_dir, valid, schedule, explicit):
    assert load_config(config_dir.write(valid.replace("#schedule", schedule))).schedule.explicit is explicit


SOURCES = ("file", "dotenv", "environment", "overrides")


@pytest.mark.parametrize(
    ("given", "winner"),
    [
        ((), "production"),
        (("file",), "file"),
        (("file", "dotenv"), "dotenv"),
        (("file", "dotenv", "environment"), "environment"),
        (("file", "dotenv", "environment", "overrides"), "overrides"),
        (("file", "environment"), "environment"),
        (("dotenv", "environment"), "environment"),
        (("dotenv", "overrides"), "overrides"),
        (("file", "overrides"), "overrides"),
    ],
    ids=lambda value: "+".join(value) or "none" if isinstance(value, tuple) else value,
)
def test_the_later_source_wins(config_dir, valid, given, winner):
    path = config_dir.write(
        valid.replace("#top", 'environment = "file"' if "file" in given else ""),
        dotenv='MONITOR_ENVIRONMENT="dotenv"' if "dotenv" in given else "",
    )
    environ = {"MONITOR_ENVIRONMENT": "environment"} if "environment" in given else {}
    overrides = {"environment": "overrides"} if "overrides" in given else None

    assert load_config(path, environ, overrides).environment == winner


def test_tables_are_merged_key_by_key_and_lists_are_replaced(config_dir, valid):
    path = config_dir.write(valid.replace("#schedule", 'timezone = "Europe/Paris"'))
    targets = json.loads(json.dumps(load_config(path).describe()["targets"]))
    targets[0] |= {"name": "other", "auth": {"api_key": "k3y"}}
    targets[0]["sync_log"]["url"] = "sqlite:///x.db"

    config = load_config(
        path,
        {
            "monitor_schedule__every": "10s",
            "MONITOR_SCHEDULE": '{"every": "9s"}',
            "MONITOR_TARGETS": json.dumps(targets),
        },
    )

    assert (config.schedule.timezone, config.schedule.every) == ("Europe/Paris", timedelta(seconds=10))
    assert [target.name for target in config.targets] == ["other"]
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("written", "environ", "every", "cron"),
    [
        ('every = "5m"', {"MONITOR_SCHEDULE__CRON": "* * * * *"}, None, "* * * * *"),
        ('cron = "* * * * *"', {"MONITOR_SCHEDULE__EVERY": "10s"}, timedelta(seconds=10), None),
    ],
)
def test_a_later_schedule_replaces_one_of_the_other_kind(config_dir, valid, written, environ, every, cron):
    schedule = load_config(config_dir.write(valid.replace("#schedule", written)), environ).schedule

    assert (schedule.every, schedule.cron) == (every, cron)


def test_a_secret_replaces_an_earlier_secret_file_and_the_other_way_round(config_dir, valid):
    key = config_dir.folder / "key"
    key.write_text("postgresql://db/from-file")
    by_file = config_dir.write(valid.replace("#top", 'database_file = "key"'))
    assert load_config(by_file).database.reveal() == "postgresql://db/from-file"
    assert load_config(by_file, {"MONITOR_DATABASE": "postgresql://db/x"}).database.reveal().endswith("/x")

    by_value = config_dir.write(valid.replace("#top", 'database = "postgresql://db/x"'))
    config = load_config(by_value, {"MONITOR_DATABASE_FILE": str(key)})
    key.write_text("postgresql://db/rotated")
    assert config.database.reveal() == "postgresql://db/rotated"


def test_relative_paths_are_relative_to_their_file(config_dir, empty_cwd, valid):
    (config_dir.folder / "key").write_text("in-file")
    (empty_cwd / "key").write_text("postgresql://db/here")
    text = valid.replace('client_secret = "s3cret"', 'client_secret_file = "key"')
    path = config_dir.write(text.replace("#top", 'database = "sqlite:///data/monitor.db"'))

    config = load_config(path)
    assert config.targets[0].auth.client_secret.reveal() == "in-file"
    assert config.targets[0].sync_log.url.reveal() == f"sqlite:///{config_dir.folder}/pipeline.db"
    assert config.database.reveal() == f"sqlite:///{config_dir.folder}/data/monitor.db"

    assert load_config(path, {"MONITOR_DATABASE": "sqlite:///m.db"}).database.reveal() == f"sqlite:///{empty_cwd}/m.db"
    assert load_config(path, {"MONITOR_DATABASE_FILE": "key"}).database.reveal() == "postgresql://db/here"
    assert load_config(path, {}, {"database": "sqlite:///m.db"}).database.reveal() == f"sqlite:///{empty_cwd}/m.db"
    config_dir.write(text, dotenv="MONITOR_DATABASE=sqlite:///m.db")
    assert load_config(path, {}).database.reveal() == f"sqlite:///{config_dir.folder}/m.db"


def test_the_default_database_is_beside_the_file(config_dir, empty_cwd):
    assert load_config(config_dir.write(), {}).database.reveal() == f"sqlite:///{config_dir.folder}/monitor.db"
    assert load_config(None, GLOO).database.reveal() == f"sqlite:///{empty_cwd}/monitor.db"


def test_the_file_is_the_given_one_else_from_the_environment_else_the_default(config_dir, empty_cwd, valid):
    config_dir.write(valid.replace("#top", 'environment = "named"'))
    relative = Path("../etc/monitor.toml")
    (empty_cwd / "other.toml").write_text(valid.replace("#top", 'environment = "of the environment"'))
    (empty_cwd / "monitor.toml").write_text(valid.replace("#top", 'environment = "usual"'))

    named = {"MONITOR_CONFIG": "other.toml"}
    assert load_config(relative, named).environment == "named"
    assert load_config(None, named).environment == "of the environment"
    assert load_config(None, named).source == empty_cwd / "other.toml"
    assert load_config(None, {}).environment == "usual"


def test_variables_are_replaced_from_the_environment_and_dotenv(config_dir, valid):
    text = valid.replace('"s3cret"', '"${A}-${B}-$$-$${B}-$C"').replace("#end", '[[routes]]\nchannels = ["${L}"]')
    text += '[[channels]]\nname = "log"\ntype = "log"\n'
    path = config_dir.write(
        text.replace("#check", 'concurrency = "${N}"'), dotenv="A=x\nB='y ${A}'\nexport L=log\nUNSET\nN=7\n"
    )

    config = load_config(path, {"A": "z"})

    assert config.targets[0].auth.client_secret.reveal() == "z-y ${A}-$-${B}-$C"
    assert config.routes[0].channels == ("log",)
    assert config.targets[0].check.concurrency == 7


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_a_byte_order_mark_is_ignored(config_dir, valid, bom):
    assert load_config(config_dir.write(bom + valid, dotenv=f"{bom}MONITOR_ENVIRONMENT=x")).environment == "x"


TABLES = {name: f.annotation for name, f in Config.model_fields.items() if hasattr(f.annotation, "model_fields")}


@pytest.mark.parametrize(
    "variable", [f"MONITOR_{name}__{key}".upper() for name, table in TABLES.items() for key in table.model_fields]
)
def test_every_key_of_a_table_has_a_variable(variable):
    layers, _, warnings = decode_variables({variable: "x"}, Path("/"), SettingSource.ENVIRONMENT)
    assert warnings == []
    assert [layer.variables for layer in layers] == [{tuple(variable.lower()[8:].split("__")): variable}]


def test_unknown_variables_are_one_warning(config_dir):
    environ = {
        "MONITOR_DATABSE": "x",
        "MONITOR_SCHEDULE__EVRY": "5m",
        "MONITOR_TARGETS__0__NAME": "x",
        "MONITOR_PORT": "x",
        "MONITORING": "x",
        **GLOO,
    }
    config = load_config(config_dir.write(dotenv="MONITOR_DATABSE=y"), environ)

    (warning,) = config.warnings
    assert warning == (
        "MONITOR_DATABSE (did you mean MONITOR_DATABASE?), MONITOR_PORT, "
        "MONITOR_SCHEDULE__EVRY (did you mean MONITOR_SCHEDULE__EVERY?), MONITOR_TARGETS__0__NAME "
        "are not settings and were ignored"
    )
    assert [target.name for target in config.targets] == ["gloo-prod"]


def test_a_single_unknown_variable_is_named(config_dir):
    config = load_config(config_dir.write(), {"MONITOR_ENVIROMENT": "x"})
    assert config.warnings == (
        "MONITOR_ENVIROMENT (did you mean MONITOR_ENVIRONMENT?) is not a setting and was ignored",
    )


@pytest.mark.parametrize("service", ["MONITOR", "MONITOR_WEB", "MONITOR_DATABASE", "MONITOR_2_BLUE"])
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_variables_of_a_kubernetes_service_are_not_mentioned(config_dir, service, protocol):
    address = f"{protocol.lower()}://10.96.0.17:8990"
    environ = {
        f"{service}_SERVICE_HOST": "10.96.0.17",
        f"{service}_SERVICE_PORT": "8990",
        f"{service}_SERVICE_PORT_HTTP_METRICS": "8990",
        f"{service}_PORT": address,
        f"{service}_PORT_8990_{protocol}": address,
        f"{service}_PORT_8990_{protocol}_PROTO": protocol.lower(),
        f"{service}_PORT_8990_{protocol}_PORT": "8990",
        f"{service}_PORT_8990_{protocol}_ADDR": "10.96.0.17",
    }
    assert load_config(config_dir.write(), environ).warnings == ()


def test_the_environment_alone_can_describe_one_gloo_target(empty_cwd):
    config = load_config(None, GLOO)

    (target,) = config.targets
    assert (target.name, target.provider, target.publisher_id) == ("gloo", "gloo", "p1")
    assert (target.auth.client_id, target.auth.client_secret.reveal()) == ("id", "s3cret")
    assert target.sync_log.url.reveal() == f"sqlite:///{empty_cwd}/pipeline.db"
    assert (target.sync_log.table, target.sync_log.id_column) == ("sync_log", "item_id")
    assert (config.source, config.warnings) == (None, ())


def test_the_environment_can_set_more_options_of_its_target(empty_cwd):
    (empty_cwd / ".env").write_text("GLOO_API_KEY=k3y\nGLOO_PUBLISHER_ID=p2\nMONITOR_SYNC_LOG_URL=postgres://db/x\n")
    config = load_config(
        None,
        {
            "MONITOR_SYNC_LOG_TABLE": "uploads",
            "MONITOR_SYNC_LOG_ID_COLUMN": "id",
            "GLOO_BASE_URL": "http://127.0.0.1:9000",
            "MONITOR_SCHEDULE__EVERY": "10s",
        },
    )

    (target,) = config.targets
    assert target.auth.api_key.reveal() == "k3y"
    assert (target.publisher_id, target.base_url) == ("p2", "http://127.0.0.1:9000")
    assert (target.sync_log.table, target.sync_log.id_column) == ("uploads", "id")
    assert target.sync_log.url.reveal() == "postgres://db/x"


def test_the_environment_of_the_process_is_read_by_default(empty_cwd):
    code = "from monitor.config import load_config; print(load_config().targets[0].auth.client_secret.reveal())"
    env = {**GLOO, "PYTHONPATH": str(Path(__file__).parents[2])}

    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)

    assert done.stdout == "s3cret\n"


def test_a_configuration_can_be_made_without_any_file(config_dir, valid):
    loaded = load_config(config_dir.write(valid.replace("#end", "[[rules]]\ncause = 'outage'")))

    made = Config(targets=loaded.targets, rules=loaded.rules, database=Secret("sqlite:///x.db"))

    assert made.targets == loaded.targets
    assert (made.warnings, made.source) == ((), None)
    with pytest.raises(ValueError, match="frozen"):
        made.environment = "other"


def test_error_messages_contain_no_python(config_dir):
    path = config_dir.write("a = 1\ntargets = [1]\nrules = {}\nchannels = [[]]\nroutes = [{channels = [1]}]\n")

    for sentence in config_dir.problems(path):
        assert re.fullmatch(r"[a-z]\S* (is|must|has) [^'<>]*", sentence), sentence


def test_a_route_may_name_the_built_in_log_channel(config_dir, valid):
    config = load_config(config_dir.write(valid.replace("#end", '[[routes]]\nchannels = ["log"]')))

    assert config.routes[0].channels == ("log",)
