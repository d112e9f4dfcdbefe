"""Faults as a client meets them, over HTTP."""

import contextlib
import socket
import time
from email.utils import parsedate_to_datetime

import httpx
import pytest

URL = "/engine/v2/items/not-a-uuid"
HEADERS = {"Authorization": "Bearer sandbox-key"}


@pytest.fixture
def ask(http):
    return lambda: http.get(URL, headers=HEADERS)


def wait_for(holds):
    ends_s = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < ends_s, "it never came to pass"
        time.sleep(0.005)


def test_a_fault_answers_with_its_status_headers_and_body(sandbox, ask):
    body = {"error": "Rate limit exceeded", "code": "too_many_requests"}
    sandbox.add_fault(path="/engine", status=429, body=body, headers={"Retry-After": "7", "X-RateLimit-Remaining": "0"})
    answer = ask()
    assert (answer.status_code, answer.reason_phrase, answer.json()) == (429, "Too Many Requests", body)
    assert (answer.headers["retry-after"], answer.headers["x-ratelimit-remaining"]) == ("7", "0")
    assert answer.headers["content-type"] == "application/json"


def test_a_text_is_sent_as_it_is(sandbox, ask):
    sandbox.add_fault(status=502, body="<html>Bad Gateway</html>")
    answer = ask()
    assert (answer.status_code, answer.text) == (502, "<html>Bad Gateway</html>")
    assert answer.headers["content-type"].startswith("text/html")


def test_bytes_that_are_no_text_are_sent_as_they_are(sandbox, ask):
    sandbox.add_fault(status=200, body=b"\xff\xfe", headers={"Content-Type": "application/json"})
    answer = ask()
    assert (answer.content, answer.headers["content-type"]) == (b"\xff\xfe", "application/json")


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_is_sent(sandbox, ask, status):
    sandbox.add_fault(status=status)
    assert (ask().status_code, ask().content) == (status, b"")


def test_a_fault_may_bring_its_own_date(sandbox, ask):
    sandbox.add_fault(count=1, headers={"Date": "Thu, 01 Jan 2026 00:00:00 GMT"})
    assert ask().headers.get_list("date") == ["Thu, 01 Jan 2026 00:00:00 GMT"]
    (date,) = ask().headers.get_list("date")
    assert abs(parsedate_to_datetime(date).timestamp() - time.time()) < 60


def test_a_counted_fault_ends_by_itself(sandbox, ask):
    sandbox.add_fault(status=503, count=2)
    assert [ask().status_code for _ in range(4)] == [503, 503, 400, 400]


def test_a_share_of_the_calls_is_hit(sandbox, ask):
    sandbox.add_fault(status=503, share=0.5)
    statuses = [ask().status_code for _ in range(60)]
    assert set(statuses) == {400, 503}
    assert 15 <= statuses.count(503) <= 45


def test_a_fault_on_one_path_leaves_the_others_alone(sandbox, ask, http):
    sandbox.add_fault(path="/oauth2", status=500)
    assert ask().status_code == 400
    assert http.post("/oauth2/token").status_code == 500


def test_cleared_faults_hit_nothing(sandbox, ask):
    sandbox.add_fault()
    sandbox.clear_faults()
    assert ask().status_code == 400


def test_what_is_no_fault_is_refused_at_once(sandbox):
    with pytest.raises(ValueError, match="unknown field `stauts`"):
        sandbox.add_fault(stauts=503)


def test_a_delayed_call_is_kept_waiting_and_then_answered_wrongly(sandbox, ask):
    sandbox.add_fault(status=504, delay_s=0.15)
    begun_s = time.monotonic()
    assert ask().status_code == 504
    assert time.monotonic() - begun_s >= 0.15


def test_a_call_that_passes_is_answered_rightly_after_the_delay_with_the_headers(sandbox, ask):
    sandbox.add_fault(passes=True, delay_s=0.15, headers={"X-RateLimit-Remaining": "3"})
    begun_s = time.monotonic()
    answer = ask()
    assert (answer.status_code, answer.json()["detail"]["code"]) == (400, "Invalid item ID format")
    assert answer.headers["x-ratelimit-remaining"] == "3"
    assert time.monotonic() - begun_s >= 0.15


def test_a_closing_fault_drops_the_connection_without_an_answer(sandbox, ask):
    sandbox.add_fault(close=True, count=1)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        ask()
    assert ask().status_code == 400
    assert sandbox.stats()["requests"] == {
        "GET /engine/v2/items/{item_id} 400": 1,
        "GET /engine/v2/items/{item_id} closed": 1,
    }


def test_a_client_that_leaves_while_it_waits_ends_its_call(sandbox, ask):
    sandbox.add_fault(delay_s=3600, count=1)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(sandbox.url + URL, timeout=0.1, trust_env=False)
    wait_for(lambda: sandbox.requests("gone") == 1)
    assert ask().status_code == 400
    assert sandbox.stats()["most_in_flight"] == 1


def test_a_client_that_leaves_at_once_ends_its_call(sandbox):
    sandbox.add_fault(delay_s=3600)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", sandbox.port)) as connection:
            connection.sendall(f"GET {URL} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    wait_for(lambda: sandbox.requests("gone") == 20)
    assert sandbox.requests() == 20


def test_the_calls_in_flight_are_counted_at_their_most(sandbox):
    sandbox.add_fault(delay_s=3600)
    with contextlib.ExitStack() as connections:
        for _ in range(4):
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", sandbox.port)))
            connection.sendall(f"GET {URL} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_for(lambda: sandbox.stats()["most_in_flight"] == 4)
    wait_for(lambda: sandbox.requests("gone") == 4)
    assert sandbox.stats()["most_in_flight"] == 4


def test_a_reset_keeps_count_of_the_calls_in_flight(sandbox):
    sandbox.add_fault(passes=True, delay_s=3600)
    with socket.create_connection(("127.0.0.1", sandbox.port)) as connection:
        connection.sendall(f"GET {URL} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_for(lambda: sandbox.stats()["most_in_flight"] == 1)
        sandbox.reset()
        assert sandbox.stats()["most_in_flight"] == 1
    wait_for(lambda: sandbox.requests("gone") == 1)
