"""Proxies: which one is used, what it can see, and errors if it fails."""

import base64
import ssl
import time

import pytest
from client import hostile
from client.asking import CANARY, get
from client.proxy import tunnelling

from monitor.client.client import Client
from monitor.client.transports import ConnectionOptions
from monitor.client.transports.options import DIRECT
from monitor.model.http import NetworkFault, Reply, TransportFault

PASSWORD = "pr0xy-canary"
BASIC = base64.b64encode(f"user:{PASSWORD}/@".encode())


def through(port, scheme="http", **kwargs):
    """A connection through the proxy at this port; its password needs escaping."""
    return ConnectionOptions(proxy=f"{scheme}://user:{PASSWORD}%2F%40@127.0.0.1:{port}", **kwargs)


@pytest.fixture
def context(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("api.example", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(autouse=True)
def _no_proxy_of_the_machine(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def test_a_proxy_tunnels_https_and_sees_neither_credentials_nor_paths(send, authority, context):
    async with (
        hostile.serving(hostile.replies(200, b"hi"), tls=context) as api,
        hostile.serving(tunnelling(api.port)) as proxy,
    ):
        connection = through(proxy.port, ca_pem=authority.cert_pem.bytes())
        answer = await send("https://api.example", get("/secret-path"), connection=connection)
    assert isinstance(answer, Reply)
    assert answer.body == b"hi"
    (asked,) = proxy.received
    assert asked.startswith(b"CONNECT api.example:443 HTTP/1.1\r\n")
    assert b"user-agent: ingestion-monitor/" in asked.lower()
    assert b"proxy-authorization: basic " + BASIC.lower() in asked.lower()
    assert CANARY.encode() not in asked
    assert b"secret-path" not in asked
    (raw_request,) = api.received
    assert raw_request.startswith(b"GET /secret-path HTTP/1.1\r\n")
    assert b"proxy-authorization" not in raw_request.lower()
    assert BASIC not in raw_request


async def test_a_tunnel_is_kept_for_the_next_request(transport_type, authority, context):
    async with (
        hostile.serving(hostile.replies(200), tls=context) as api,
        hostile.serving(tunnelling(api.port)) as proxy,
    ):
        connection = through(proxy.port, ca_pem=authority.cert_pem.bytes())
        transport = transport_type(base_url="https://api.example", connection=connection)
        answers = [await transport.send(get(), timeout_s=5) for _ in range(5)]
        await transport.close()
    assert [answer.status for answer in answers] == [200] * 5
    assert (proxy.accepted, api.accepted) == (1, 1)


async def test_a_proxy_cannot_impersonate_the_api(send, authority, context):
    async with (
        hostile.serving(hostile.replies(200), tls=context) as api,
        hostile.serving(tunnelling(api.port)) as proxy,
    ):
        trusted = ConnectionOptions(proxy=through(proxy.port).proxy, ca_pem=authority.cert_pem.bytes())
        answer = await send("https://other.example", connection=trusted)
    assert answer == TransportFault(fault=NetworkFault.TLS, text="no trusted TLS connection to the host")
    assert api.received == []


async def test_plain_http_is_sent_to_the_proxy_with_absolute_urls(send):
    async with hostile.serving(hostile.replies(203)) as proxy:
        answer = await send("http://api.example", connection=through(proxy.port))
    assert answer.status == 203
    assert proxy.received[0].startswith(b"GET http://api.example/x HTTP/1.1\r\n")
    assert b"proxy-authorization: basic " + BASIC.lower() in proxy.received[0].lower()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_configured_proxy_is_used_towards_loopback_too(send, host):
    async with hostile.serving(hostile.replies(203)) as proxy, hostile.serving(hostile.replies(200)) as local:
        answer = await send(f"http://{host}:{local.port}", connection=through(proxy.port))
    assert (answer.status, len(proxy.received), local.accepted) == (203, 1, 0)


@pytest.fixture
async def environments(monkeypatch):
    """The proxy of the environment variables."""
    async with hostile.serving(hostile.replies(203)) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        yield proxy


async def test_the_environments_proxy_is_used_except_towards_loopback(send, environments):
    async with hostile.serving(hostile.replies(200)) as local:
        far = await send("http://api.example")
        near = [await send(local.url), await send(f"http://localhost:{local.port}")]
    assert far.status == 203
    assert [answer.status for answer in near] == [200, 200]
    assert len(environments.received) == 1


async def test_the_environments_proxy_is_asked_to_tunnel_https(send, environments):
    answer = await send("https://api.example", timeout_s=0.5)
    assert isinstance(answer, TransportFault)  # it accepts, and then there is no TLS
    assert environments.received[0].startswith(b"CONNECT api.example:443 HTTP/1.1\r\n")
    assert CANARY.encode() not in environments.received[0]


async def test_no_proxy_excludes_hosts(send, environments, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "api.invalid,.corp.invalid")
    direct = [await send("http://api.invalid"), await send("http://docs.corp.invalid")]
    assert [answer.fault for answer in direct] == [NetworkFault.DNS] * 2
    assert (await send("http://api.example")).status == 203
    assert len(environments.received) == 1


async def test_a_configured_proxy_or_none_overrides_the_environment(send, environments):
    async with hostile.serving(hostile.replies(204)) as proxy:
        configured = await send("http://api.example", connection=through(proxy.port))
    direct = await send("http://api.invalid", connection=ConnectionOptions(proxy=DIRECT))
    assert configured.status == 204
    assert direct.fault is NetworkFault.DNS
    assert environments.received == []


CREDENTIALS = "the proxy requires credentials, or rejects those it got"
WONT = "the proxy refuses to connect to the host"
REFUSALS = {
    "no credentials": (hostile.replies(407), NetworkFault.REFUSED, CREDENTIALS),
    "a bad gateway": (hostile.replies(502, b"down"), NetworkFault.REFUSED, WONT),
    "not allowed": (hostile.replies(403, b"no"), NetworkFault.REFUSED, WONT),
    "a redirect": (hostile.replies(302, location="http://evil.example"), NetworkFault.REFUSED, WONT),
    "garbage": (hostile.answers(b"\x00\x01garbage\r\n\r\n"), NetworkFault.REFUSED, WONT),
    "an end": (hostile.answers(b"", close=True), NetworkFault.REFUSED, "no connection to the proxy"),
    "silence": (hostile.hang, NetworkFault.TIMEOUT, "no complete answer in time"),
    "a drip": (hostile.drip(b"HTTP/1.1 200 OK\r\nx: "), NetworkFault.TIMEOUT, "no complete answer in time"),
}


@pytest.mark.parametrize(("behave", "fault", "text"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusing_proxy_is_distinguished_from_the_host(send, behave, fault, text):
    async with hostile.serving(behave) as proxy:
        started = time.monotonic()
        answer = await send("https://api.example", connection=through(proxy.port), timeout_s=1)
        assert time.monotonic() - started < 60
    assert answer == TransportFault(fault=fault, text=text)
    assert CANARY.encode() not in b"".join(proxy.received)


async def test_a_proxy_that_sends_too_much_is_an_error(send):
    async with hostile.serving(hostile.answers(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 1_000_000)) as proxy:
        answer = await send("https://api.example", connection=through(proxy.port), timeout_s=5)
    assert isinstance(answer, TransportFault)
    assert "proxy" in answer.text


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
@pytest.mark.parametrize("base_url", ["http://127.0.0.1", "https://127.0.0.1"])
async def test_an_unreachable_proxy_is_distinguished_from_the_host(send, scheme, base_url):
    async with hostile.serving(hostile.hang) as gone:
        pass
    answer = await send(base_url, connection=through(gone.port, scheme))
    assert answer == TransportFault(fault=NetworkFault.REFUSED, text="no connection to the proxy")


@pytest.mark.parametrize("base_url", ["http://api.example", "https://api.example"])
async def test_an_unresolvable_proxy_is_distinguished_from_the_host(send, base_url):
    answer = await send(base_url, connection=ConnectionOptions(proxy=f"http://user:{PASSWORD}@proxy.invalid:3128"))
    assert answer == TransportFault(fault=NetworkFault.DNS, text="the proxy's host name can't be resolved")


async def test_socks5_resolves_the_host_locally(send):
    async with hostile.serving(hostile.hang) as proxy:
        answer = await send("https://api.invalid", connection=through(proxy.port, "socks5"))
    assert answer == TransportFault(fault=NetworkFault.DNS, text="the host name can't be resolved")


async def test_the_certificate_of_an_https_proxy_is_verified(send, context):
    async with hostile.serving(hostile.replies(200), tls=context) as proxy:
        answer = await send("https://api.example", connection=through(proxy.port, "https"))
    assert answer == TransportFault(fault=NetworkFault.TLS, text="no trusted TLS connection to the proxy")
    assert proxy.received == []


@pytest.mark.parametrize("base_url", ["http://api.example", "https://api.example"])
async def test_no_text_and_no_log_contains_the_proxy_password(transport_type, caplog, base_url):
    caplog.set_level("DEBUG")
    async with hostile.serving(hostile.replies(407)) as proxy:
        connection = through(proxy.port)
        client = Client(transport=transport_type(base_url=base_url, connection=connection), max_attempts=1)
        answer = await client.send(get(), deadline_s=time.monotonic() + 20)
        await client.transport.close()
    assert answer.error is not None
    assert proxy.received != []
    shown = [repr(answer), str(answer.error.message), repr(connection), caplog.text]
    assert [text for text in shown if PASSWORD in text or BASIC.decode() in text] == []
