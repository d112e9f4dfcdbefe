"""Wrong tokens: so many in a minute, for each address and for all."""

from monitor.web.access.attempts import MAX_CLIENTS, MAX_IN_ALL, MAX_PER_CLIENT, WINDOW_S, Attempts


def failing(attempts, client, times, *, now_s=0.0):
    for _ in range(times):
        attempts.failed(client, now_s=now_s)


def test_an_address_may_fail_a_few_times_a_minute():
    attempts = Attempts()
    failing(attempts, "192.0.2.1", MAX_PER_CLIENT - 1)
    assert attempts.wait_s("192.0.2.1", now_s=1) == 0
    attempts.failed("192.0.2.1", now_s=10)
    assert attempts.wait_s("192.0.2.1", now_s=20) == WINDOW_S - 20
    assert attempts.wait_s("192.0.2.2", now_s=20) == 0
    assert attempts.wait_s("192.0.2.1", now_s=WINDOW_S) == 0
    attempts.failed("192.0.2.1", now_s=WINDOW_S)
    assert attempts.wait_s("192.0.2.1", now_s=WINDOW_S + 1) == 0  # one was 10 s later than the others


def test_many_addresses_together_are_limited_but_not_one_that_has_the_token():
    attempts = Attempts()
    attempts.succeeded("198.51.100.1")
    for number in range(MAX_IN_ALL):
        attempts.failed(f"192.0.2.{number}", now_s=0)
    assert attempts.wait_s("203.0.113.9", now_s=1) == WINDOW_S - 1
    assert attempts.wait_s("198.51.100.1", now_s=1) == 0
    failing(attempts, "198.51.100.1", MAX_PER_CLIENT)
    assert attempts.wait_s("198.51.100.1", now_s=1) > 0


def test_a_network_of_ipv6_counts_as_one_address():
    attempts = Attempts()
    for number in range(MAX_PER_CLIENT):
        attempts.failed(f"2001:db8::{number:x}", now_s=0)
    assert attempts.wait_s("2001:db8::ffff", now_s=1) > 0
    assert attempts.wait_s("2001:db8:0:1::1", now_s=1) == 0
    assert attempts.wait_s("an unknown address", now_s=1) == 0


def test_addresses_of_ipv4_on_a_socket_of_ipv6_are_no_network():
    """On Linux, one that listens on [::] takes IPv4, too, as ::ffff:192.0.2.1."""
    attempts = Attempts()
    attempts.succeeded("::ffff:192.0.2.3")
    failing(attempts, "::ffff:192.0.2.1", MAX_PER_CLIENT)
    assert attempts.wait_s("::ffff:192.0.2.1", now_s=1) == attempts.wait_s("192.0.2.1", now_s=1) > 0
    assert attempts.wait_s("::ffff:192.0.2.2", now_s=1) == 0
    for number in range(MAX_IN_ALL):
        attempts.failed(f"::ffff:198.51.100.{number}", now_s=0)
    assert [attempts.wait_s(f"::ffff:192.0.2.{n}", now_s=1) > 0 for n in (2, 3)] == [True, False]


def test_a_flood_of_addresses_is_forgotten_oldest_first():
    attempts = Attempts()
    failing(attempts, "first", MAX_PER_CLIENT)
    attempts.succeeded("first")
    for number in range(MAX_CLIENTS):
        attempts.failed(f"client {number}", now_s=0)
        attempts.succeeded(f"client {number}")
    assert len(attempts._failures) == len(attempts._known) == MAX_CLIENTS
    assert attempts.wait_s("client 1", now_s=WINDOW_S + 1) == 0
