"""What only the transport on our own sockets has to get right: connections, addresses, certificates, event loops."""

import asyncio
import contextlib
import errno
import gc
import os
import socket
import ssl
import time
from pathlib import Path

import pytest
from client import hostile
from client.asking import get
from client.tls import tls_server

from monitor.client.transports import (
    ConnectionOptions,
    DirectTransport,
    PyreqwestTransport,
    certificates,
    fast_transport,
)
from monitor.client.transports.addresses import addresses_of, first_connected
from monitor.client.transports.faults import fault_of_error
from monitor.client.transports.options import DIRECT, may_use_proxy
from monitor.model.http import NetworkFault, Operation, Reply, Request, TransportFault


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request, monkeypatch):
    """Runs a coroutine in a loop of this kind, and shows that no socket is left open."""
    from monitor.cli import event_loop

    if request.param == "asyncio":
        monkeypatch.setattr(event_loop, "loop_factory", lambda: None)

    def run(main):
        gc.collect()  # of earlier tests
        gc.freeze()  # what is left is theirs, and would be looked at again and again
        before = open_sockets()
        result = event_loop.run(main)
        gc.collect()
        end_s = time.monotonic() + 20
        while open_sockets() > before:  # a server's thread closes its end a little later
            assert time.monotonic() < end_s
            time.sleep(0.01)
        return result

    return run


def open_sockets():
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder's own is closed again
            count += str(link.readlink()).startswith("socket:")
    return count


async def until(holds):
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  # the server has no event for it
            await asyncio.sleep(0.01)


def context_of(authority, *names):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def test_connections_in_use_are_closed_too(run):
    async def main():
        async with hostile.serving(hostile.hang) as server:
            transport = DirectTransport(base_url=server.url)
            asking = asyncio.create_task(transport.send(get(), timeout_s=60))
            await until(lambda: server.received)
            await transport.close()
            return await asking

    assert run(main()).fault is NetworkFault.RESET


def test_a_cancelled_request_closes_its_connection_and_no_other(run):
    async def main():
        answering = asyncio.Event()

        async def behave(reader, writer):
            await answering.wait()
            await hostile.replies(200, b"hi")(reader, writer)

        async with hostile.serving(behave) as server:
            transport = DirectTransport(base_url=server.url)
            asking = [asyncio.create_task(transport.send(get(), timeout_s=60)) for _ in range(4)]
            await until(lambda: len(server.received) == 4)
            asking[1].cancel()
            await asyncio.sleep(0)
            answering.set()
            found = await asyncio.gather(*asking, return_exceptions=True)
            again = [await transport.send(get(), timeout_s=60) for _ in range(3)]
            await transport.close()
        return [*found, *again], server.accepted

    found, accepted = run(main())
    assert isinstance(found.pop(1), asyncio.CancelledError)
    assert [each.body for each in found] == [b"hi"] * 6
    assert accepted == 4


def test_one_transport_serves_one_event_loop_after_the_other(run):
    transport = DirectTransport()

    async def main():
        async with hostile.serving(hostile.replies(200)) as server:
            sent = [(await transport.send(get(server.url), timeout_s=20)).status for _ in range(2)]
            transport._close_idle()
            for connection in list(transport._open):
                connection.drop()
            await asyncio.sleep(0.01)
            return sent, server.accepted

    assert [run(main()) for _ in range(2)] == [([200, 200], 1)] * 2


def test_unsolicited_bytes_end_an_idle_connection(run):
    async def main():
        async def behave(reader, writer):
            await hostile.replies(200, b"hi")(reader, writer)
            await asyncio.sleep(0.05)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong")

        async with hostile.serving(behave) as server:
            transport = DirectTransport(base_url=server.url)
            answers = []
            for _ in range(3):
                answers.append(await transport.send(get(), timeout_s=20))
                await asyncio.sleep(0.1)
            await transport.close()
        return [answer.body for answer in answers], server.accepted

    assert run(main()) == ([b"hi"] * 3, 3)


def test_a_large_request_arrives_whole(run):
    body = os.urandom(8 << 20)

    async def main():
        async with hostile.serving(hostile.replies(200, b"hi")) as server:
            transport = DirectTransport(base_url=server.url)
            request = Request(method="PUT", path="/x", template="/x", operation=Operation.WRITE, body=body)
            answer = await transport.send(request, timeout_s=60)
            await transport.close()
        return answer.status, server.received[0].endswith(b"\r\n\r\n" + body)

    assert run(main()) == (200, True)


def test_head_and_statuses_without_a_body_do_not_wait_for_one(run):
    async def main():
        head = b"HTTP/1.1 %d x\r\ncontent-length: 5\r\n\r\n"
        found = []
        for method, status in (("HEAD", 200), ("GET", 204), ("GET", 304)):
            async with hostile.serving(hostile.answers(head % status)) as server:
                transport = DirectTransport(base_url=server.url)
                request = Request(method=method, path="/", template="/")
                found += [(await transport.send(request, timeout_s=20)).status for _ in range(2)]
                await transport.close()
                # the body that a 204 announced may still come
                assert server.accepted == (2 if status == 204 else 1)
        return found

    assert run(main()) == [200, 200, 204, 204, 304, 304]


def test_a_body_that_ends_with_the_connection_is_whole_only_after_the_end_of_tls(run, authority):
    async def main():
        async def cut(reader, writer):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nhi")
            await writer.drain()
            writer.transport.abort()
            raise ConnectionAbortedError

        options = ConnectionOptions(ca_pem=authority.cert_pem.bytes())
        found = []
        for behave in (hostile.answers(b"HTTP/1.1 200 OK\r\n\r\nhi", close=True), cut):
            async with hostile.serving(behave, tls=context_of(authority, "127.0.0.1")) as server:
                transport = DirectTransport(base_url=f"https://127.0.0.1:{server.port}", connection=options)
                found.append(await transport.send(get(), timeout_s=20))
                await transport.close()
        return found

    whole, broken = run(main())
    assert whole.body == b"hi"
    assert broken.fault is NetworkFault.RESET


@pytest.fixture
def system_store(authority, tmp_path, monkeypatch):
    """A system whose folder of authorities has another one, and whose file has ours."""
    folder, file = tmp_path / "certs", tmp_path / "bundle.pem"
    folder.mkdir()
    (folder / "00000000.0").write_bytes(b"")
    file.write_bytes(authority.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


def test_connections_that_lack_the_same_authority_side_by_side_all_find_it(run, authority, system_store):
    async def main():
        context = context_of(authority, "127.0.0.1")
        async with hostile.serving(hostile.replies(200), tls=context) as server:
            transport = DirectTransport(base_url=f"https://127.0.0.1:{server.port}")
            answers = await asyncio.gather(*(transport.send(get(), timeout_s=20) for _ in range(8)))
            await transport.close()
        return {type(answer) for answer in answers}

    assert run(main()) == {Reply}


def test_an_authority_that_only_the_systems_file_has_is_trusted(run, authority, system_store):
    async def main(url):
        transport = DirectTransport(base_url=url)
        answer = await transport.send(get(), timeout_s=20)
        await transport.close()
        return answer

    with tls_server(context_of(authority, "127.0.0.1")) as server:
        assert run(main(server.url)).status == 200
    with tls_server(context_of(authority, "other.example")) as server:
        assert run(main(server.url)).fault is NetworkFault.TLS


def test_an_https_url_below_a_base_of_http_needs_authorities_only_then(run, authority, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))

    async def main(url):
        async with hostile.serving(hostile.replies(200)) as plain:
            transport = DirectTransport(base_url=plain.url)
            answers = [await transport.send(get(path), timeout_s=20) for path in ("/x", url)]
            await transport.close()
        return answers

    with tls_server(context_of(authority, "127.0.0.1")) as server:
        reply, fault = run(main(server.url))
    assert isinstance(reply, Reply)
    assert fault.fault is NetworkFault.TLS
    assert "no CA certificates" in fault.text


async def test_a_secure_base_is_never_left_for_plain_http():
    async with hostile.serving(hostile.replies(200)) as server:
        transport = DirectTransport(base_url="https://api.example")
        answer = await transport.send(get(server.url), timeout_s=5)
        await transport.close()
    assert (answer.fault, server.accepted) == (NetworkFault.PROTOCOL, 0)


@pytest.mark.parametrize(
    "url",
    [
        "http://u:p@h/",
        "http:///x",
        "http://h\\@evil.example/",
        "http://[::1/",
        "http://h:99999/",
        "http://a\u200db.example/",
    ],
)
async def test_a_url_that_could_mean_another_host_is_refused(url):
    transport = DirectTransport()
    with pytest.raises(ValueError, match="can't be read"):
        await transport.send(get(url), timeout_s=5)
    await transport.close()


NAMES = {
    "straße.example": "xn--strae-oqa.example",
    "βόλος.example": "xn--nxasmm1c.example",
    "Bücher.example": "xn--bcher-kva.example",
    "例え。example": "xn--r8jz45g.example",
}


@pytest.mark.parametrize(("name", "expected"), NAMES.items())
async def test_an_international_name_leads_to_its_own_domain(monkeypatch, name, expected):
    asked = []

    async def none(host, _port):
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr("monitor.client.transports.direct_transport.addresses_of", none)
    transport = DirectTransport(base_url=f"http://{name}")
    assert (await transport.send(get(), timeout_s=5)).fault is NetworkFault.DNS
    await transport.close()
    assert asked == [expected]


def test_a_name_with_a_dot_at_its_end_has_the_certificate_of_the_name(run, authority, monkeypatch):
    async def here(_host, _port):
        return ["127.0.0.1"]

    monkeypatch.setattr("monitor.client.transports.direct_transport.addresses_of", here)

    async def main():
        options = ConnectionOptions(ca_pem=authority.cert_pem.bytes())
        async with hostile.serving(hostile.replies(200), tls=context_of(authority, "api.example")) as server:
            transport = DirectTransport(base_url=f"https://api.example.:{server.port}", connection=options)
            answer = await transport.send(get(), timeout_s=20)
            await transport.close()
        return answer

    assert run(main()).status == 200


async def test_the_system_says_where_a_name_leads():
    assert await addresses_of("::1", 80) == ["::1"]
    assert set(await addresses_of("localhost", 80)) <= {"127.0.0.1", "::1"}
    for unknown in ("a" * 64, "nonexistent.invalid"):
        with pytest.raises(socket.gaierror):
            await addresses_of(unknown, 80)


class Made:
    """Connects as each address says: a text at once, an error, or never."""

    def __init__(self, **behaviours):
        self.behaviours, self.tried, self.cancelled, self.discarded = behaviours, [], [], []

    async def connect(self, address):
        self.tried.append(address)
        behaviour = self.behaviours[address]
        try:
            if behaviour is None:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled.append(address)
            raise
        if isinstance(behaviour, Exception):
            raise behaviour
        return behaviour

    async def first(self, *addresses, each_s=60.0):
        return await first_connected(addresses, self.connect, self.discarded.append, each_s=each_s)


async def test_a_silent_address_delays_the_next_one_only_shortly():
    made = Made(silent=None, good="good")
    started_s = time.monotonic()
    assert await made.first("silent", "good") == "good"
    assert time.monotonic() - started_s < 30
    assert (made.tried, made.cancelled, made.discarded) == (["silent", "good"], ["silent"], [])


async def test_a_refused_address_is_followed_by_the_next_at_once():
    made = Made(refused=ConnectionRefusedError(), good="good", unused="unused")
    assert await made.first("refused", "good", "unused") == "good"
    assert made.tried == ["refused", "good"]


async def test_without_a_good_address_the_last_error_counts():
    made = Made(silent=None, gone=OSError("gone"))
    with pytest.raises(TimeoutError):
        await made.first("gone", "silent", each_s=0.05)
    with pytest.raises(OSError, match="gone"):
        await made.first("gone")


async def test_cancellation_ends_every_attempt():
    made = Made(one=None, two=None)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await made.first("one", "two")
    assert sorted(made.cancelled) == ["one", "two"]


async def test_an_error_that_is_no_error_of_the_network_is_not_hidden():
    with pytest.raises(KeyError):
        await Made().first("one", "two")


@pytest.fixture
def environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


FAR, NEAR, PROXY = "https://api.example", "http://127.0.0.1:1", "http://proxy.example"
CHOICES = {
    "no proxy": (FAR, None, {}, DirectTransport),
    "none configured": (FAR, DIRECT, {"HTTPS_PROXY": PROXY}, DirectTransport),
    "configured": (NEAR, PROXY, {}, PyreqwestTransport),
    "of the environment": (FAR, None, {"https_proxy": PROXY}, PyreqwestTransport),
    "of the environment, for all": (FAR, None, {"ALL_PROXY": PROXY}, PyreqwestTransport),
    "of the environment, towards loopback": (NEAR, None, {"HTTP_PROXY": PROXY}, DirectTransport),
}


@pytest.mark.parametrize(("url", "proxy", "variables", "expected"), CHOICES.values(), ids=CHOICES)
async def test_what_may_go_through_a_proxy_goes_through_pyreqwest(environment, url, proxy, variables, expected):
    for name, value in variables.items():
        environment.setenv(name, value)
    transport = fast_transport(base_url=url, connection=ConnectionOptions(proxy=proxy))
    await transport.close()
    assert type(transport) is expected


def test_where_the_system_hides_its_proxies_pyreqwest_looks_for_them(environment):
    environment.setattr("sys.platform", "darwin")
    assert may_use_proxy(FAR, ConnectionOptions())
    assert not may_use_proxy(NEAR, ConnectionOptions())


async def test_a_connection_that_is_made_after_the_end_is_not_kept():
    async with hostile.serving(hostile.replies(200)) as server:
        transport = DirectTransport(base_url=server.url)
        asking = asyncio.create_task(transport.send(get(), timeout_s=20))
        await asyncio.sleep(0)
        await transport.close()
        answer = await asking
    assert isinstance(answer, TransportFault)
    assert not transport._open


def test_an_answer_before_the_end_of_the_request_ends_its_connection(run):
    async def main():
        async def greet(reader, writer):
            await hostile.replies(413, b"too large")(reader, writer)
            await asyncio.Event().wait()

        async with hostile.serving(hostile.hang, greet=greet) as server:
            transport = DirectTransport(base_url=server.url)
            request = Request(method="PUT", path="/x", template="/x", operation=Operation.WRITE, body=bytes(64 << 20))
            answer = await transport.send(request, timeout_s=60)
            assert not any(origin.idle for origin in transport._origins.values())
            await transport.close()
        return answer.status

    assert run(main()) == 413


def test_a_system_without_a_folder_of_authorities_reads_its_file(run, authority, tmp_path, monkeypatch):
    file = tmp_path / "bundle.pem"
    file.write_bytes(authority.cert_pem.bytes())
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    paths = ssl.get_default_verify_paths()._replace(cafile=None, capath=None)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    monkeypatch.setattr(certificates, "_USUAL_FILES", (str(tmp_path / "none"), str(file)))

    async def main(url):
        transport = DirectTransport(base_url=url)
        answer = await transport.send(get(), timeout_s=20)
        await transport.close()
        return answer.status

    with tls_server(context_of(authority, "127.0.0.1")) as server:
        assert run(main(server.url)) == 200


def test_a_key_is_handed_to_openssl_without_memory_files_too(authority, monkeypatch):
    monkeypatch.delattr("os.memfd_create")
    ours = authority.issue_cert("monitor.example").private_key_and_cert_chain_pem.bytes()
    tls = certificates.trusted_tls(ca_pem=authority.cert_pem.bytes(), identity_pem=ours)
    assert tls is certificates.trusted_tls(ca_pem=authority.cert_pem.bytes(), identity_pem=ours)


ERRORS = {
    "no such name": (socket.gaierror(), NetworkFault.DNS),
    "the end of TLS": (ssl.SSLEOFError(), NetworkFault.RESET),
    "another TLS": (ssl.SSLError(), NetworkFault.TLS),
    "the system's time limit": (OSError(errno.ETIMEDOUT, ""), NetworkFault.TIMEOUT),
    "no way": (OSError(errno.ENETUNREACH, ""), NetworkFault.REFUSED),
}


@pytest.mark.parametrize(("error", "fault"), ERRORS.values(), ids=ERRORS)
def test_errors_of_the_system_are_faults(error, fault):
    assert fault_of_error(error, connected=False) is fault


def test_any_other_error_of_a_connection_is_its_end():
    assert fault_of_error(OSError(errno.EIO, ""), connected=True) is NetworkFault.RESET


def test_a_transport_on_first_use_only():
    from monitor.client import transports

    with pytest.raises(AttributeError):
        transports.Nonsense  # noqa: B018  # it must raise
