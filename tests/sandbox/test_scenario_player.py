"""Plays the example scenarios of the documentation on a clock that the test moves."""

from pathlib import Path

import httpx
import pytest

from monitor.sandbox import Sandbox, SandboxSettings, ScenarioPlayer
from monitor.sandbox.scenario import read_scenario

KEY = SandboxSettings().api_key
EXAMPLES = Path(__file__).resolve().parents[2] / "docs/scenarios"


class Stage:
    """A sandbox on which an example is played."""

    def __init__(self, sandbox, client, clock, name):
        self.sandbox, self.client, self.clock, self.elapsed_s = sandbox, client, clock, 0
        text = (EXAMPLES / f"{name}.toml").read_text(encoding="utf-8")
        self.player = ScenarioPlayer(sandbox, read_scenario(text, name=name))

    def to(self, minute):
        """Lets time pass in steps of half a minute; returns what the scenario did."""
        done = []
        while True:
            elapsed_s = min(self.elapsed_s + 30, 60 * minute)
            self.clock.now_s += elapsed_s - self.elapsed_s
            self.elapsed_s = elapsed_s
            done += [step.action for step in self.player.advance(elapsed_s)]
            if elapsed_s == 60 * minute:
                return done

    def ask(self, path="/engine/v2/publisher/11111111-1111-4111-8111-111111111111/items", token=KEY):
        headers = {"Authorization": f"Bearer {token}"}
        return self.client.get(path, headers=headers)

    def token(self):
        form = {"grant_type": "client_credentials"}
        return self.client.post("/oauth2/token", data=form, auth=("sandbox-client", "sandbox-secret"))

    def statuses(self):
        rows = self.ask().json()
        return {status: [row["status"] for row in rows].count(status) for status in {row["status"] for row in rows}}


@pytest.fixture
def stage(_no_complaint, clock):
    with (
        Sandbox(SandboxSettings(item_seconds=60.0, token_seconds=100_000.0), clock=clock) as sandbox,
        httpx.Client(base_url=sandbox.url, trust_env=False) as client,
    ):
        yield lambda name: Stage(sandbox, client, clock, name)


def test_the_player_waits_for_the_next_step(stage):
    playing = stage("key-rotation")
    assert playing.player.wait_s(0.0) == 0.0
    assert playing.to(0) == ["make"]
    assert playing.to(1) == []
    assert playing.player.wait_s(60.0) == 60.0
    assert playing.to(6) == ["revoke", "revoke"]
    assert playing.player.wait_s(9999.0) == 0.0
    assert playing.to(8) == ["restore", "restore"]
    assert playing.player.wait_s(9999.0) is None


def test_the_key_rotation_revokes_and_restores_all_credentials(stage):
    playing = stage("key-rotation")
    playing.to(0)
    assert playing.statuses() == {"COMPLETED": 20}
    token = playing.token().json()["access_token"]
    playing.to(2)
    assert [playing.ask().status_code, playing.ask(token=token).status_code] == [403, 401]
    assert playing.token().status_code == 401
    playing.to(7)
    assert [playing.ask().status_code, playing.ask(token=token).status_code] == [200, 200]


def test_the_flaky_night_has_waves_of_faults_and_ends_healthy(stage):
    playing = stage("flaky-night")
    playing.to(0)
    assert playing.statuses() == {"COMPLETED": 50}
    playing.to(1)
    assert {playing.ask().status_code for _ in range(40)} == {200, 503}
    playing.to(3)
    assert {playing.ask().status_code for _ in range(20)} == {200}
    playing.to(4)
    answers = [playing.ask() for _ in range(11)]
    assert [answer.status_code for answer in answers] == [502] * 10 + [200]
    assert answers[0].headers["server"] == "nginx"
    assert answers[0].text.startswith("<html>")
    playing.to(9)
    token = playing.token().json()["access_token"]
    assert 401 in {playing.ask(token=token).status_code for _ in range(40)}
    playing.to(14)
    assert [playing.ask().status_code for _ in range(6)] == [200] * 5 + [429]
    playing.to(17)
    assert {playing.ask().status_code for _ in range(10)} == {200}


def test_the_flaky_nights_restart_refuses_connections_and_then_accepts_them(stage):
    playing = stage("flaky-night")
    playing.to(18)
    with pytest.raises(httpx.ConnectError):
        playing.ask()
    assert playing.to(19.0) == ["fault", "start"]
    playing.to(20)
    assert playing.ask().status_code == 200
    assert playing.to(21) == ["clear"]
    assert playing.statuses() == {"COMPLETED": 50}


def test_the_stuck_documents_fail_one_by_one_and_are_fixed(stage):
    playing = stage("stuck-documents")
    playing.to(0)
    assert playing.statuses() == {"STARTED": 37}
    playing.to(1.5)
    assert playing.statuses() == {"COMPLETED": 30, "CHUNKING": 5, "FAILED": 2}
    playing.to(2)
    assert playing.statuses() == {"COMPLETED": 27, "CHUNKING": 5, "FAILED": 2}
    playing.to(10)
    assert playing.statuses() == {"COMPLETED": 32, "FAILED": 2}
    playing.to(12)
    assert playing.statuses() == {"COMPLETED": 32, "QUEUED": 2}
    playing.to(13)
    assert playing.statuses() == {"COMPLETED": 34}


def test_every_example_is_tested():
    played = Path(__file__).read_text(encoding="utf-8")
    assert [path.stem for path in EXAMPLES.iterdir() if f'stage("{path.stem}")' not in played] == []


def test_tokens_expire_when_a_scenario_says_so(stage):
    playing = stage("key-rotation")
    token = playing.token().json()["access_token"]
    text = '[[steps]]\nat = "5s"\nexpire_tokens = true\n'
    ScenarioPlayer(playing.sandbox, read_scenario(text, name="x")).advance(5.0)
    assert playing.ask(token=token).status_code == 401
