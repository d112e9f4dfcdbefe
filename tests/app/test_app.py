import os
import socket
import sqlite3
import time
import uuid
from contextlib import closing
from datetime import UTC, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import FakeProvider
from support.receiver import Receiver
from support.samples import message

from monitor.app import App, open_client, open_database, send_once
from monitor.client.auth import ApiKey, ClientCredentials
from monitor.config import RuleConfig, load_config
from monitor.config.rules import rules_for_target
from monitor.errors import ConfigError, SchemaError
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.model import Cause, Severity, Team
from monitor.model.http import Operation, Request
from monitor.notifications.channels import SendOutcome
from monitor.notifications.channels.log import LogChannel
from monitor.notifications.channels.webhook import WebhookChannel
from monitor.providers import ProviderSettings
from monitor.providers.registry import provider_for

TARGET = {
    "name": "gloo-prod",
    "provider": "gloo",
    "publisher_id": "p-1",
    "auth": {"client_id": "me", "client_secret": "s3cr3t"},
    "sync_log": {"url": "sqlite:///pipeline.db"},
}
KEY = {"api_key": "k3y"}
GLOO = provider_for("gloo", ProviderSettings(target="t", base_url="https://gloo.test", publisher_id="p-1"))


@pytest.fixture
def configured(tmp_path):
    """A configuration with these settings; `target` changes its only target."""

    file = tmp_path / "monitor.toml"
    file.touch()

    def configured(*, target=None, **settings):
        return load_config(
            file,
            environ={},
            overrides={
                "database": f"sqlite:///{tmp_path / 'monitor.db'}",
                "environment": "test",
                "targets": [{**TARGET, **(target or {})}],
                **settings,
            },
        )

    return configured


@pytest.fixture
def app(configured):
    """An App with its own database."""
    engines = []

    def app(**settings):
        config = configured(**settings)
        engines.append(open_database(config))
        return App(config=config, engine=engines[-1])

    yield app
    for engine in engines:
        engine.dispose()


def override(cause=Cause.OUTAGE, **fields):
    return RuleConfig.model_validate({"cause": cause.value, **fields})


def test_without_overrides_the_built_in_rules_apply():
    assert rules_for_target((), target="gloo-prod") == DEFAULT_RULES


def test_an_override_changes_only_the_values_it_sets():
    changes = override(severity="info", team="account", repeat_interval="1d", window="2h")
    rules = rules_for_target((changes,), target="gloo-prod")
    built_in, changed = DEFAULT_RULES[Cause.OUTAGE], rules[Cause.OUTAGE]
    assert (changed.severity, changed.team) == (Severity.INFO, Team.ACCOUNT)
    assert (changed.repeat_interval, changed.window) == (timedelta(days=1), timedelta(hours=2))
    assert (changed.runs, changed.of, changed.hold_for, changed.resolve_after) == (
        built_in.runs, built_in.of, built_in.hold_for, built_in.resolve_after,
    )  # fmt: skip
    assert {c: r for c, r in rules.items() if c is not Cause.OUTAGE} == {
        c: r for c, r in DEFAULT_RULES.items() if c is not Cause.OUTAGE
    }


RUNS_OF = [
    ("runs alone beyond the built-in `of` means all of them in a row", [{"runs": 4}], (4, 4)),
    ("runs alone below it means them in a row too", [{"runs": 1}], (1, 1)),
    ("both", [{"runs": 2, "of": 6}], (2, 6)),
    ("of alone", [{"of": 9}], (2, 9)),
    ("the later override wins", [{"runs": 3, "of": 5}, {"runs": 4}], (4, 4)),
    ("overrides add up", [{"runs": 3}, {"of": 7}], (3, 7)),
]


@pytest.mark.parametrize(("overrides", "expected"), [r[1:] for r in RUNS_OF], ids=[r[0] for r in RUNS_OF])
def test_runs_is_never_greater_than_of(overrides, expected):
    rule = rules_for_target([override(**each) for each in overrides], target="gloo-prod")[Cause.OUTAGE]
    assert (rule.runs, rule.of) == expected


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(set(Cause) - {Cause.SLO_BURN})), st.integers(1, 100), st.none() | st.integers(1, 100)
        ),
        max_size=6,
    )
)
def test_every_rule_can_open_an_incident(overrides):
    given_rules = [
        override(cause, runs=runs, **({} if of is None else {"of": max(of, runs)})) for cause, runs, of in overrides
    ]
    rules = rules_for_target(given_rules, target="gloo-prod")
    assert set(rules) == set(Cause)
    assert all(1 <= rule.runs <= rule.of for rule in rules.values())


async def test_client_credentials_reach_the_token_endpoint(configured):
    (target,) = configured().targets
    async with open_client(target, GLOO) as client:
        assert isinstance(client.auth, ClientCredentials)


async def test_an_api_key_is_read_again_from_its_file(configured, tmp_path):
    file = tmp_path / "key"
    file.write_text("first\n", encoding="utf-8")
    (target,) = configured(target={"auth": {"api_key_file": str(file)}}).targets
    async with open_client(target, GLOO) as client:
        assert isinstance(client.auth, ApiKey)
        granted = await client.auth.acquire(None, monotonic=time.monotonic)
        file.write_text("second\n", encoding="utf-8")
        renewed = await client.auth.renew(granted, None, monotonic=time.monotonic)
    assert (granted.value, renewed.value) == ("Bearer first", "Bearer second")


async def test_a_provider_without_a_token_endpoint_needs_an_api_key(configured):
    (target,) = configured().targets
    with pytest.raises(ConfigError, match=r"targets\.gloo-prod\.auth: fake has no token endpoint; give an api_key"):
        async with open_client(target, FakeProvider()):
            pass
    (target,) = configured(target={"auth": KEY}).targets
    async with open_client(target, FakeProvider()) as client:
        assert isinstance(client.auth, ApiKey)


async def test_the_settings_of_a_target_reach_its_client(configured):
    check = {"attempt_timeout": "250ms", "max_attempts": 2}
    (target,) = configured(target={"check": check}).targets
    async with open_client(target, GLOO) as client:
        assert (client.attempt_timeout_s, client.max_attempts) == (0.25, 2)
        assert not client.tripped


@pytest.mark.parametrize(("auth", "tokens"), [("client", 1), ("key", 0)], ids=["client credentials", "api key"])
async def test_the_client_of_a_target_is_authorized(configured, sandbox, auth, tokens):
    settings = sandbox.settings
    given_auth = {
        "client": {"client_id": settings.client_id, "client_secret": settings.client_secret},
        "key": {"api_key": settings.api_key},
    }[auth]
    (target,) = configured(target={"auth": given_auth, "base_url": sandbox.url}).targets
    (item_id,) = sandbox.create_items(1)
    async with open_client(target, GLOO) as client:
        answer = await client.send(GLOO.item_request(item_id), deadline_s=time.monotonic() + 10)
    assert answer.reply.status == 200
    assert sandbox.requests("token") == tokens


def test_a_job_has_the_settings_of_its_target(app):
    target = {
        "check": {"concurrency": 3, "deadline": "7s", "stuck_after": "2h", "missing_after": "1m"},
        "statuses": {"pending": ["RERANKING"]},
    }
    made = app(target=target, rules=[{"cause": "outage", "runs": 4}])
    job = made.job(made.config.targets[0])
    assert (job.target, job.environment, job.concurrency) == ("gloo-prod", "test", 3)
    assert (job.deadline, job.holder) == (timedelta(seconds=7), f"{socket.gethostname()}:{os.getpid()}")
    assert job.log_fields == {"publisher_id": "p-1", "endpoint": "/engine/v2/items/{item_id}"}
    age_limits = job.evaluator.age_limits
    assert (age_limits.stuck_after, age_limits.missing_after) == (timedelta(hours=2), timedelta(minutes=1))
    assert job.evaluator.rules[Cause.OUTAGE].runs == 4
    assert job.utcnow().tzinfo is UTC
    item_id = str(uuid.uuid4())
    status = job.provider.read_item(f'{{"item_id": "{item_id}", "status": "RERANKING"}}'.encode(), item_id)
    assert (status.state.value, status.recognised) == ("pending", True)


ROUTES = [
    ("without channels the log is used", [], [], ("log",)),
    ("without routes every channel", ["a", "b"], [], ("a", "b")),
    ("a route", ["a", "b"], [{"match": {"team": "credentials"}, "channels": ["b"]}], ("b",)),
    ("one that does not match", ["a"], [{"match": {"team": "operations"}, "channels": ["a"]}], ("log",)),
    ("one that goes on", ["a", "b"], [{"channels": ["b"], "continue": True}, {"channels": ["a"]}], ("b", "a")),
]


@pytest.mark.parametrize(("names", "routes", "expected"), [r[1:] for r in ROUTES], ids=[r[0] for r in ROUTES])
def test_routes_reach_the_evaluator(app, names, routes, expected):
    made = app(channels=[{"name": name, "type": "log"} for name in names], routes=routes)
    evaluator = made.job(made.config.targets[0]).evaluator
    assert evaluator.route({"team": "credentials", "target": "gloo-prod", "cause": "unauthorized"}) == expected


def test_rules_of_a_target_and_of_a_channel_reach_the_evaluators(app):
    other = {**TARGET, "name": "gloo-dev"}
    made = app(
        targets=[TARGET, other],
        channels=[{"name": "hook", "type": "log"}, {"name": "mail", "type": "log"}],
        rules=[
            {"cause": "outage", "target": "*-dev", "runs": 5},
            {"cause": "channel_failing", "target": "channel:mail", "team": "operations"},
        ],
    )
    runs = {target.name: made.job(target).evaluator.rules[Cause.OUTAGE].runs for target in made.config.targets}
    assert runs == {"gloo-prod": 2, "gloo-dev": 5}
    incident_hooks = made.sender()._incident_hooks
    assert {name: rule.team for name, rule in incident_hooks.rules.items()} == {
        "hook": Team.MONITOR,
        "mail": Team.OPERATIONS,
    }
    assert incident_hooks.rule == DEFAULT_RULES[Cause.CHANNEL_FAILING]


def test_every_configured_channel_exists_besides_the_log(app):
    made = app(
        channels=[{"name": "hook", "type": "webhook", "url": "https://example.com/x"}, {"name": "quiet", "type": "log"}]
    )
    channels = made.sender()._channels
    assert {name: type(configured.channel) for name, configured in channels.items()} == {
        "log": LogChannel, "hook": WebhookChannel, "quiet": LogChannel,
    }  # fmt: skip


async def test_a_configured_webhook_reaches_its_receiver(app):
    with Receiver() as receiver:
        made = app(channels=[{"name": "hook", "type": "webhook", "url": receiver.url}])
        result = await made.sender()._channels["hook"].channel.send(message(), key="k1")
        assert result.outcome is SendOutcome.DELIVERED
        ((_, headers, _),) = receiver.got
    assert "authorization" not in headers


async def test_a_single_request_is_sent_once():
    with Receiver((503, {}, b""), (200, {}, b"")) as receiver:
        request = Request(method="POST", path=receiver.url, template="webhook", operation=Operation.WRITE, body=b"{}")
        answer = await send_once(request, timeout_s=5)
        assert (answer.error.status, answer.attempts, len(receiver.got)) == (503, 1, 1)


async def test_a_single_request_ends_at_its_deadline():
    with Receiver() as receiver:
        receiver.hang = True
        request = Request(method="POST", path=receiver.url, template="webhook", body=b"{}")
        answer = await send_once(request, timeout_s=0.1)
    assert answer.timed_out
    assert answer.error.network == "timeout"


def test_the_database_is_upgraded_to_the_current_schema(configured, tmp_path):
    engine = open_database(configured())
    with engine.connect() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM runs").scalar_one() == 0
        conn.exec_driver_sql("UPDATE ingestion_monitor_version SET version_num = '9999'")
        conn.commit()
    engine.dispose()
    with pytest.raises(SchemaError):
        open_database(configured())


def test_the_sync_log_is_read_as_configured(app, tmp_path):
    path = tmp_path / "pipeline.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE uploads (doc TEXT, at TEXT, coll TEXT)")
        conn.execute("INSERT INTO uploads VALUES ('a', '2026-03-01T12:00:00', 'faq')")
        conn.commit()
    log = {
        "url": f"sqlite:///{path}", "table": "uploads", "id_column": "doc", "submitted_at_column": "at",
        "group_column": "coll", "timezone": "Europe/Paris",
    }  # fmt: skip
    made = app(target={"sync_log": log})
    (page,) = made.job(made.config.targets[0]).read_pages(time.monotonic() + 60, {}, None)
    (entry,) = page.entries
    assert (entry.item_id, entry.group) == ("a", "faq")
    assert entry.submitted_at.astimezone(UTC).hour == 11
