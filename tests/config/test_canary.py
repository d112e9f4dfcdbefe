import base64
import io
import json
import traceback
from urllib.parse import quote

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.scale import examples

from monitor.cli.doctor.channels import check_channel
from monitor.cli.doctor.locations import SettingLocation
from monitor.config import load_config
from monitor.config.effective import effective_settings, format_toml
from monitor.database.urls import location_of, parse
from monitor.errors import ConfigError
from monitor.logs import configure, register_secret

CANARY = "c4n/ry+S3cr3t="
SECRETS = (
    "database",
    "client_secret",
    "api_key",
    "aws_secret",
    "aws_token",
    "sync_log",
    "channel",
    "heartbeat",
    "dotenv",
    "variable",
    "password",
    "token",
    "apprise",
    "user_password",
    "secret_header",
)

WHOLE = """
database = "postgresql://u:{database}@db/x"
environment = "production"
[[targets]]
name = "one"
provider = "gloo"
publisher_id = "p1"
auth = {{ client_id = "id", client_secret = "{client_secret}" }}
[targets.sync_log]
url = "postgresql://u:{sync_log}@db/x"
[[targets]]
name = "two"
provider = "gloo"
publisher_id = "p2"
auth = {{ api_key = "{api_key}" }}
heartbeat = "https://hc.example/{heartbeat}"
[targets.sync_log]
url = "postgresql://u:${{DOTENV}}@db/x"
[[targets]]
name = "three"
provider = "openai"
params = {{ vector_store_id = "vs_1" }}
auth = {{ user = "me", password = "{user_password}" }}
secret_headers = {{ CF-Access-Client-Id = "{secret_header}" }}
[[targets]]
name = "four"
provider = "bedrock"
base_url = "https://bedrock-agent.eu-central-1.amazonaws.com"
params = {{ knowledge_base_id = "A", data_source_id = "B" }}
auth = {{ access_key_id = "AKIA", secret_access_key = "{aws_secret}", session_token = "{aws_token}" }}
[[channels]]
name = "hook"
type = "webhook"
url = "https://u:{channel}@hooks.example/x"
secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
[[channels]]
name = "mail"
type = "email"
host = "mail.example"
user = "me"
password = "{password}"
from = "monitor@example.com"
to = ["oncall@example.com"]
[[channels]]
name = "pager"
type = "pagerduty"
routing_key = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
[[channels]]
name = "alerts"
type = "alertmanager"
url = "https://alertmanager:9093"
token = "{token}"
[[channels]]
name = "phone"
type = "apprise"
url = "tgram://{apprise}/chat"
"""


def canary(place):
    return f"{place}-{CANARY}"


def whole(escape):
    return WHOLE.format(**{place: escape(canary(place)) for place in SECRETS})


def found(text):
    codings = [CANARY, quote(CANARY), quote(CANARY, safe=""), "S3cr3t"]
    codings += [base64.b64encode(b"\0" * pad + CANARY.encode()).decode()[pad + 1 : -4] for pad in range(3)]
    return [coding for coding in codings if coding in text]


def everything_shown(error):
    """Everything that a report of an error could contain, with its causes and their tracebacks."""
    chain = "".join(traceback.format_exception(error))
    return "\n".join([chain, str(error), repr(error), str(error.args), str(vars(error))])


def quoted(secret):
    return quote(secret, safe="")


@pytest.fixture(params=["value", "file"])
def config(request, config_dir):
    text = whole(quoted)
    if request.param == "file":
        (config_dir.folder / "key").write_text(canary("api_key"))
        text = text.replace(f'api_key = "{quoted(canary("api_key"))}"', 'api_key_file = "key"')
        for name, setting in (("user_password", "password"), ("secret_header", "CF-Access-Client-Id")):
            (config_dir.folder / name).write_text(canary(name))
            text = text.replace(f'{setting} = "{quoted(canary(name))}"', f'{setting}_file = "{name}"')
        assert text.count("_file = ") == 3
    return load_config(config_dir.write(text, dotenv=f"DOTENV={quoted(canary('dotenv'))}"), {})


def test_a_configuration_shows_no_secret_in_any_form(config):
    written = io.BytesIO()
    with io.TextIOWrapper(written, write_through=True) as stream:
        configure(stream=stream, level="DEBUG")
        structlog.get_logger().debug("loaded", config=config, dump=config.model_dump(), view=config.describe())
        logged = written.getvalue().decode()
    structlog.reset_defaults()
    shown = [
        repr(config), str(config), str(config.model_dump()), config.model_dump_json(), json.dumps(config.describe()),
        str(vars(config)), str(config.targets), f"{config.database}{config.targets[0].auth}", logged,
        format_toml(effective_settings(config.describe(), config.origins)), str(config.origins),
    ]  # fmt: skip

    assert [found(text) for text in shown if found(text)] == []
    assert config.targets[0].auth.client_secret.reveal() == quoted(canary("client_secret"))


BREAKAGES = st.sampled_from(["cut", "drop", "double", "insert", "swap"])


@settings(max_examples=examples(50), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    breakages=st.lists(
        st.tuples(
            BREAKAGES, st.integers(0, 10_000), st.sampled_from(['"', "\n", "[", "]", "=", "{", "#", "\x00", "é", "$"])
        ),
        min_size=1,
        max_size=3,
    ),
    escaped=st.booleans(),
)
def test_no_broken_configuration_shows_a_secret(config_dir, breakages, escaped):
    text = whole(quoted if escaped else str)
    for kind, seed, character in breakages:
        place = seed % (len(text) or 1)
        lines = text.splitlines()
        row = seed % (len(lines) or 1)
        match kind:
            case "cut":
                text = text[:place]
            case "drop":
                text = "\n".join(lines[:row] + lines[row + 1 :])
            case "double":
                text = "\n".join(lines[: row + 1] + lines[row:])
            case "swap":
                text = "\n".join(lines[row:] + lines[:row])
            case _:
                text = text[:place] + character + text[place:]
    path = config_dir.write(text, dotenv=f"DOTENV='{canary('dotenv')}'\n")
    environ = (
        {"MONITOR_CHANNELS": f"[{canary('variable')}"} if escaped else {"MONITOR_ROUTES": f'"{canary("variable")}"'}
    )

    with pytest.raises(ConfigError) as caught:
        load_config(path, environ)

    assert found(everything_shown(caught.value)) == []


@pytest.mark.parametrize("where", [
    "database", "sync_log", "channel", "heartbeat", "client_secret", "api_key", "signing", "password", "routing_key",
    "alerts", "token", "apprise", "user_password", "secret_header",
])  # fmt: skip
@pytest.mark.parametrize("secret", ["mysql://u:{}@h/x", "{}\n", "{}é\x00", "http://[{}", "postgresql://u:{}@h:port/x"])
def test_a_refused_secret_is_not_shown(config_dir, where, secret):
    value = json.dumps(secret.format(CANARY))
    text = whole(lambda _: "x")
    old = {
        "database": '"postgresql://u:x@db/x"\nenvironment',
        "sync_log": '"postgresql://u:x@db/x"\n[[targets]]',
        "channel": '"https://u:x@hooks.example/x"',
        "signing": '"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"',
        "password": '"x"\nfrom',
        "routing_key": f'"{"a" * 32}"',
        "alerts": '"https://alertmanager:9093"',
        "token": '"x"\n[[channels]]',
        "apprise": '"tgram://x/chat"',
        "client_secret": '"x" }\n[targets.sync_log]\nurl = "postgresql://u:x',
        "api_key": '"x" }\nheartbeat',
        "heartbeat": '"https://hc.example/x"',
        "user_password": '"x" }\nsecret_headers',
        "secret_header": '"x" }\n[[channels]]\nname = "hook"',
    }[where]
    assert text.count(old) == 1
    path = config_dir.write(text.replace(old, value + old[old.index('"', 1) + 1 :]), dotenv="DOTENV=x")
    try:
        config = load_config(path, {})
    except ConfigError as error:
        shown_text = everything_shown(error)
    else:
        shown_text = repr(config) + str(config.describe())

    assert found(shown_text) == []


UNESCAPED = ["@", ":", "/", "?", "#", "@/", "/@", "?@", "#@", "%", " ", "\u200b", "\ufeff"]
HALVES = ("Hrs3xx", "Btry7yy")
"""The parts of a secret before and after a special character."""
PLACES = {
    "database": 'database = "postgresql://u:{}@db/x"',
    "sync_log": 'url = "postgresql://u:{}@db/x"',
    "sync_log_user": 'url = "postgresql://{}@db/x"',
    "sync_log_query": 'url = "postgresql://db/x?user=u&password={}"',
    "proxy": 'proxy = "http://u:{}@proxy:3128"',
    "heartbeat": 'heartbeat = "https://u:{}@hc.example/x"',
    "heartbeat_path": 'heartbeat = "https://hc.example/{}"',
    "base_url": 'base_url = "https://u:{}@api.example"',
    "client_secret": 'auth = {{ client_id = "id", client_secret = "{}" }}',
    "api_key": 'auth = {{ api_key = "{}" }}',
    "password": 'auth = {{ user = "u", password = "{}" }}',
    "aws": 'auth = {{ service = "s", access_key_id = "AKIA", secret_access_key = "{}" }}',
    "password_user": 'auth = {{ user = "u:{}", password = "x" }}',
    "secret_headers": 'secret_headers = {{ X-Key = "{}" }}',
    "webhook": 'type = "webhook"\nurl = "https://u:{}@hooks.example/x"',
    "webhook_user": 'type = "webhook"\nurl = "https://{}@hooks.example/x"',
    "webhook_secret": 'type = "webhook"\nurl = "https://hooks.example/x"\nsecret = "whsec_{}"',
    "slack": 'type = "slack"\nurl = "https://hooks.example/{}"',
    "email": 'type = "email"\nhost = "mail"\nfrom = "a@b.c"\nto = ["a@b.c"]\nuser = "u"\npassword = "{}"',
    "email_host": 'type = "email"\nhost = "u:{}@mail"\nfrom = "a@b.c"\nto = ["a@b.c"]',
    "pagerduty": 'type = "pagerduty"\nrouting_key = "{}"',
    "pagerduty_url": f'type = "pagerduty"\nrouting_key = "{"a" * 32}"\nurl = "https://u:{{}}@events.example/x"',
    "alertmanager": 'type = "alertmanager"\nurl = "https://u:{}@alerts.example"',
    "alertmanager_token": 'type = "alertmanager"\nurl = "https://alerts.example"\ntoken = "{}"',
    "apprise": 'type = "apprise"\nurl = "mailto://u:{}@mail.example"',
}


def with_secret(place, secret):
    """A configuration with this secret in this setting, unescaped."""
    setting = PLACES[place].format(secret)
    kind = setting.partition(" ")[0]
    top, channel = ("", f'[[channels]]\nname = "c"\n{setting}') if kind == "type" else (setting, "")
    in_target = {"secret_headers", "proxy", "heartbeat", "base_url", "auth"}
    auth = "" if kind == "auth" else 'auth = { api_key = "k" }'
    target = top if kind in in_target else ""
    log = top if kind == "url" else 'url = "sqlite:///x.db"'
    return (
        f'{top if kind == "database" else ""}\nenvironment = "test"\n[[targets]]\nname = "one"\nprovider = "gloo"\n'
        f'publisher_id = "p"\n{auth}\n{target}\n[targets.sync_log]\n{log}\n{channel}\n'
    )


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("between", UNESCAPED, ids=ascii)
def test_no_part_of_a_secret_with_a_special_character_is_shown(config_dir, place, between):
    path = config_dir.write(with_secret(place, between.join(HALVES)))
    written = io.BytesIO()
    try:
        config = load_config(path, {})
    except ConfigError as error:
        shown = everything_shown(error)
    else:
        with io.TextIOWrapper(written, write_through=True) as stream:
            configure(stream=stream, level="DEBUG")
            for secret in config.secrets():
                register_secret(secret.reveal())
            structlog.get_logger().debug("loaded", config=config, dump=config.model_dump())
            logged = written.getvalue().decode()
        at = SettingLocation(setting="channels", where=None)
        channels = [str(check_channel(channel, at)) for channel in config.channels]
        shown = "\n".join([repr(config), str(config.describe()), logged, *channels, *locations(config)])

    assert [half for half in HALVES if half in shown] == []


def locations(config):
    """How the databases are named in messages."""
    urls = [config.database, *(target.sync_log.url for target in config.targets)]
    return [location_of(parse(url.reveal())) for url in urls]
