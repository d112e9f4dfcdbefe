"""Faults as a client sees them, over HTTP."""

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


def test_a_text_body_is_sent_unchanged(sandbox, ask):
    sandbox.add_fault(status=502, body="<html>Bad Gateway</html>")
    answer = ask()
    assert (answer.status_code, answer.text) == (502, "<html>Bad Gateway</html>")
    assert answer.headers["content-type"].startswith("text/html")


def test_a_binary_body_is_sent_unchanged(sandbox, ask):
    sandbox.add_fault(status=200, body=b"\xff\xfe", headers={"Content-Type": "application/json"})
    answer = ask()
    assert (answer.content, answer.headers["content-type"]) == (b"\xff\xfe", "application/json")


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_is_sent(sandbox, ask, status):
    sandbox.add_fault(status=status)
    assert (ask().status_code, ask().content) == (status, b"")


def test_a_fault_may_set_its_own_date_header(sandbox, ask):
    sandbox.add_fault(count=1, headers={"Date": "Thu, 01 Jan 2026 00:00:00 GMT"})
    assert ask().headers.get_list("date") == ["Thu, 01 Jan 2026 00:00:00 GMT"]
    (date,) = ask().headers.get_list("date")
    assert abs(parsedate_to_datetime(date).timestamp() - time.time()) < 60


def test_a_fault_with_a_count_ends_after_it(sandbox, ask):
    sandbox.add_fault(status=503, count=2)
    assert [ask().status_code for _ in range(4)] == [503, 503, 400, 400]


def test_a_fault_affects_a_share_of_calls(sandbox, ask):
    sandbox.add_fault(status=503, share=0.5)
    statuses = [ask().status_code for _ in range(60)]
    assert set(statuses) == {400, 503}
    assert 15 <= statuses.count(503) <= 45


def test_a_fault_on_one_path_does_not_affect_others(sandbox, ask, http):
    sandbox.add_fault(path="/oauth2", status=500)
    assert ask().status_code == 400
    assert http.post("/oauth2/token").status_code == 500


def test_cleared_faults_have_no_effect(sandbox, ask):
    sandbox.add_fault()
    sandbox.clear_faults()
    assert ask().status_code == 400


def test_an_invalid_fault_is_refused_at_once(sandbox):
    with pytest.raises(ValueError, match="unknown field `stauts`"):
        sandbox.add_fault(stauts=503)


def test_a_delayed_fault_waits_and_then_answers(sandbox, ask):
    sandbox.add_fault(status=504, delay_s=0.15)
    begun_s = time.monotonic()
    assert ask().status_code == 504
    assert time.monotonic() - begun_s >= 0.15


def test_a_fault_without_a_status_delays_the_normal_answer_and_adds_headers(sandbox, ask):
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


def test_a_disconnect_during_the_delay_ends_the_call(sandbox, ask):
    sandbox.add_fault(delay_s=3600, count=1)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(sandbox.url + URL, timeout=0.1, trust_env=False)
    wait_for(lambda: sandbox.requests("gone") == 1)
    assert ask().status_code == 400
    assert sandbox.stats()["max_in_flight"] == 1


def test_an_immediate_disconnect_ends_the_call(sandbox):
    sandbox.add_fault(delay_s=3600)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", sandbox.port)) as connection:
            connection.sendall(f"GET {URL} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    wait_for(lambda: sandbox.requests("gone") == 20)
    assert sandbox.requests() == 20


def test_the_maximum_of_calls_in_flight_is_counted(sandbox):
    sandbox.add_fault(delay_s=3600)
    with contextlib.ExitStack() as connections:
        for _ in range(4):
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", sandbox.port)))
            connection.sendall(f"GET {URL} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_for(lambda: sandbox.stats()["max_in_flight"] == 4)
    wait_for(lambda: sandbox.requests("gone") == 4)
    assert sandbox.stats()["max_in_flight"] == 4


def test_a_reset_keeps_the_count_of_calls_in_flight(sandbox):
    sandbox.add_fault(passes=True, delay_s=3600)
    with socket.create_connection(("127.0.0.1", sandbox.port)) as connection:
        connection.sendall(f"GET {URL} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_for(lambda: sandbox.stats()["max_in_flight"] == 1)
        sandbox.reset()
        assert sandbox.stats()["max_in_flight"] == 1
    wait_for(lambda: sandbox.requests("gone") == 1)


# --- drips and cut answers -------------------------------------------------------------------------------------------


class Raw:
    """The response on a connection, piece by piece, with the time of each."""

    def __init__(self, sandbox, method="GET"):
        request = f"{method} {URL} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sandbox-key\r\n\r\n"
        with socket.create_connection(("127.0.0.1", sandbox.port), timeout=30) as connection:
            connection.sendall(request.encode())
            begun_s = time.monotonic()
            self.pieces = [(piece, time.monotonic() - begun_s) for piece in iter(lambda: connection.recv(65_536), b"")]
        self.text = b"".join(piece for piece, _ in self.pieces).decode()
        self.head, _, self.body = self.text.partition("\r\n\r\n")

    @property
    def length(self):
        return int(self.head.lower().split("content-length: ")[1].split("\r\n")[0])


RIGHT = '{"detail":{"code":"Invalid item ID format","message":"Item ID must be a valid UUID format"}}'


def test_a_dripping_body_is_sent_slowly_after_its_headers(sandbox):
    sandbox.add_fault("drip:drip=400")
    raw = Raw(sandbox)
    assert raw.body == RIGHT
    assert raw.head.startswith("HTTP/1.1 400 Bad Request\r\n")
    assert raw.pieces[0][0].endswith(b"\r\n\r\n")
    assert raw.pieces[-1][1] >= len(RIGHT) / 400 * 0.9
    assert sandbox.stats()["requests"] == {"GET /engine/v2/items/{item_id} 400": 1}


def test_dripping_headers_are_sent_byte_by_byte(sandbox):
    sandbox.add_fault(status=500, body="<html>", drip=1000, drip_headers=True, headers={"X-Slow": "yes"})
    raw = Raw(sandbox)
    assert raw.head.startswith("HTTP/1.1 500 Internal Server Error\r\n")
    assert "x-slow: yes" in raw.head.lower()
    assert raw.body == "<html>"
    assert raw.pieces[-1][1] >= len(raw.text) / 1000 * 0.9


def test_a_client_can_read_a_dripping_answer_and_call_again(sandbox, ask):
    sandbox.add_fault("drip:drip=2000,count=1")
    assert ask().json() == ask().json()


def test_a_dripping_answer_to_head_has_no_body(sandbox):
    sandbox.add_fault("drip")
    assert Raw(sandbox, "HEAD").body == ""


def test_a_disconnect_during_a_drip_ends_the_call(sandbox):
    sandbox.add_fault("drip:drip=1")
    with socket.create_connection(("127.0.0.1", sandbox.port)) as connection:
        connection.sendall(f"GET {URL} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        connection.recv(10)
    wait_for(lambda: sandbox.requests("gone") == 1)
    assert sandbox.stats()["max_in_flight"] == 1


CUTS = {
    "after the headers": ("cut-headers", ""),
    "in the body": ("cut-body", RIGHT[:20]),
    "before the last byte at the latest": ("cut-body:cut=5000", RIGHT[:-1]),
    "in the body, slowly": ("cut-body:drip=1000", RIGHT[:20]),
}


@pytest.mark.parametrize(("fault", "body"), CUTS.values(), ids=CUTS)
def test_a_cut_answer_promises_more_than_it_sends(sandbox, fault, body):
    sandbox.add_fault(fault)
    raw = Raw(sandbox)
    assert (raw.body, raw.length) == (body, len(RIGHT))
    assert sandbox.stats()["requests"] == {"GET /engine/v2/items/{item_id} closed": 1}


def test_a_cut_answer_is_a_broken_connection_for_the_client(sandbox, ask):
    sandbox.add_fault("cut-body:count=1")
    with pytest.raises(httpx.RemoteProtocolError):
        ask()
    assert ask().status_code == 400


def test_a_streamed_list_can_be_cut(sandbox, http):
    sandbox.create_items(5000, status="COMPLETED")
    sandbox.add_fault("cut-body:cut=300000")
    with pytest.raises(httpx.RemoteProtocolError, match="received 300000 bytes, expected 570001"):
        http.get(f"/engine/v2/publisher/{sandbox.settings.publisher_id}/items", headers=HEADERS)


def test_a_status_without_a_reason_phrase_can_drip(sandbox):
    sandbox.add_fault(status=299, body="ok", drip=1000)
    assert Raw(sandbox).head.startswith("HTTP/1.1 299 \r\n")


# --- by name ----------------------------------------------------------------------------------------------------------


def test_a_gateways_502_is_html_that_names_the_gateway(sandbox, ask):
    sandbox.add_fault("html502")
    answer = ask()
    assert (answer.status_code, answer.headers["server"], answer.headers["via"]) == (502, "nginx", "1.1 google")
    assert answer.headers["content-type"].startswith("text/html")
    assert "<h1>502 Bad Gateway</h1>" in answer.text


def test_an_expiry_storm_expires_existing_tokens_and_a_new_one_works(sandbox, http, granted):
    sandbox.add_fault("token-storm:share=1,count=1")
    assert http.get(URL, headers=granted).json() == {"detail": "Invalid or expired access token."}
    assert http.get(URL, headers=granted).status_code == 401
    form = {"grant_type": "client_credentials"}
    fresh = http.post("/oauth2/token", data=form, auth=("sandbox-client", "sandbox-secret")).json()["access_token"]
    assert http.get(URL, headers={"Authorization": f"Bearer {fresh}"}).status_code == 400


def test_a_slow_start_ends_after_its_time(sandbox, clock, ask):
    sandbox.add_fault("slow-start:delay=1h")
    clock.advance(60)
    assert ask().status_code == 400
