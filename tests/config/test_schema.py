from datetime import timedelta

import pytest
from pydantic import ValidationError

from monitor.config import (
    ApiKeyConfig,
    CheckConfig,
    ClientCredentialsConfig,
    Config,
    LogConfig,
    RouteConfig,
    ScheduleConfig,
    Secret,
    SyncLogConfig,
    TargetConfig,
    WebhookConfig,
)


@pytest.fixture(params=["client credentials", "api key"])
def auth(request):
    if request.param == "api key":
        return ApiKeyConfig(api_key=Secret("k3y"))
    return ClientCredentialsConfig(client_id="id", client_secret=Secret("s3cret"))


@pytest.fixture
def target(auth):
    return TargetConfig(
        name="gloo-prod",
        provider="gloo",
        publisher_id="p1",
        auth=auth,
        sync_log=SyncLogConfig(url=Secret("postgres://db/x")),
        check=CheckConfig(deadline=timedelta(seconds=10)),
        schedule=ScheduleConfig(every=timedelta(seconds=10)),
    )


def test_a_target_is_made_from_its_parts(target, auth):
    assert target.auth is auth
    assert target.sync_log.url.reveal() == "postgres://db/x"
    assert target.check.deadline == timedelta(seconds=10)
    assert target.schedule.explicit


def test_a_configuration_lists_every_secret_in_it(target, auth):
    hook = WebhookConfig(name="hook", type="webhook", url=Secret("https://hooks.example/x"))
    config = Config(targets=(target,), channels=(hook, LogConfig(name="log", type="log")))

    revealed = [secret.reveal() for secret in config.secrets()]

    credential = auth.api_key if isinstance(auth, ApiKeyConfig) else auth.client_secret
    assert revealed == ["sqlite:///monitor.db", credential.reveal(), "postgres://db/x", "https://hooks.example/x"]


def test_a_route_matches_one_or_several_patterns_and_can_continue():
    route = RouteConfig(match={"team": "pipeline", "target": ("a", "b*")}, channels=("log",), continue_=True)

    assert route.match == {"team": ("pipeline",), "target": ("a", "b*")}
    assert route.continue_


def test_a_time_span_out_of_range_is_refused_in_python_too():
    with pytest.raises(ValidationError, match="must be between 1s and 1d"):
        CheckConfig(deadline=timedelta(days=2))


def test_a_section_must_be_a_table():
    with pytest.raises(ValidationError, match="valid dictionary"):
        ScheduleConfig.model_validate("5m")
