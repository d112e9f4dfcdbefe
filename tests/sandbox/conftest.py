"""A sandbox whose clock the test moves, and a plain HTTP client for it. A warning of the server fails the test.

`clock`      call it for the time in seconds; `clock.advance(s)` moves it
`sandbox`    serves on loopback, with that clock, reset; an item takes 80 s, 10 s per stage; a token lasts 100 s
`http`       a plain HTTP client
`granted`    the header of a fresh token
"""

import logging
import time

import httpx
import pytest

from monitor.sandbox import Sandbox, SandboxSettings


class Clock:
    def __init__(self):
        self.now_s = 5000.0

    def __call__(self):
        return self.now_s

    def advance(self, seconds):
        self.now_s += seconds


class Complaints(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())


@pytest.fixture(scope="module", autouse=True)
def _no_complaint():
    """A server may warn after its answer, so warnings are checked when the module's servers have ended."""
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    yield
    logging.getLogger().removeHandler(complaints)
    assert complaints.said == []


@pytest.fixture(scope="module")
def clock():
    return Clock()


@pytest.fixture(scope="module")
def _serving(_no_complaint, clock):
    with Sandbox(SandboxSettings(item_seconds=80.0, token_seconds=100.0), clock=clock) as serving:
        yield serving


@pytest.fixture
def sandbox(_serving):
    ends_s = time.monotonic() + 10
    while _serving._state.in_flight and time.monotonic() < ends_s:
        time.sleep(0.001)  # otherwise a call whose client disconnected would be counted in the next test
    _serving.reset()
    return _serving


@pytest.fixture(scope="module")
def _client(_serving):
    with httpx.Client(base_url=_serving.url, trust_env=False, timeout=10) as client:
        yield client


@pytest.fixture
def http(sandbox, _client):
    return _client


@pytest.fixture
def granted(http, sandbox):
    settings = sandbox.settings
    answer = http.post(
        "/oauth2/token",
        data={"grant_type": "client_credentials", "scope": "api/access"},
        auth=(settings.client_id, settings.client_secret),
    )
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}
