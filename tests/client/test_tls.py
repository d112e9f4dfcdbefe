"""TLS of both transports: which certificates they trust, and client certificates."""

import asyncio
import os
import ssl
import sys
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from client import hostile
from client.asking import CANARY, get
from client.tls import tls_server

from monitor.client.client import Client
from monitor.client.transports import ConnectionOptions
from monitor.model.http import NetworkFault, Reply, TransportFault

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FAR_OFF = datetime(2999, 1, 1, tzinfo=UTC)
NO_TLS = TransportFault(fault=NetworkFault.TLS, text="no trusted TLS connection to the host")


def context_for(certificate, version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if version is not None:
        context.maximum_version = version
    return context


def self_signed(authority):
    """An authority that serves with its own certificate."""
    other = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with other.private_key_pem.tempfile() as key, other.cert_pem.tempfile() as certificate:
        context.load_cert_chain(certificate, key)
    return context


def too_old(authority):
    context = context_for(authority.issue_cert(HOST))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python warns about the protocol version that the client must refuse
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


REFUSED = {
    "expired": lambda authority: context_for(authority.issue_cert(HOST, not_after=LONG_AGO)),
    "not valid yet": lambda authority: context_for(authority.issue_cert(HOST, not_before=FAR_OFF)),
    "another host": lambda authority: context_for(authority.issue_cert("other.example")),
    "another address": lambda authority: context_for(authority.issue_cert("127.0.0.2")),
    "self-signed": self_signed,
    "an untrusted authority": lambda _: context_for(trustme.CA().issue_cert(HOST)),
    "TLS 1.1": too_old,
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
async def test_an_untrusted_server_gets_no_request_and_no_retry(transport_type, authority, make):
    with tls_server(make(authority)) as server:
        transport = transport_type(base_url=server.url, connection=ConnectionOptions(ca_pem=authority.cert_pem.bytes()))
        assert await transport.send(get(), timeout_s=5) == NO_TLS
        answer = await Client(transport=transport).send(get(), deadline_s=time.monotonic() + 20)
        await transport.close()
    assert (answer.attempts, answer.error.network) == (1, NetworkFault.TLS)
    assert server.received == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
async def test_a_configured_certificate_authority_is_trusted(send, authority, version):
    pem = authority.cert_pem.bytes()
    with tls_server(context_for(authority.issue_cert(HOST), version)) as server:
        assert await send(server.url) == NO_TLS
        assert isinstance(await send(server.url, connection=ConnectionOptions(ca_pem=pem)), Reply)
        bundle = trustme.CA().cert_pem.bytes() + pem
        assert isinstance(await send(server.url, connection=ConnectionOptions(ca_pem=bundle)), Reply)
    assert server.shook == [version.name.replace("_", ".")] * 2


ENDS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}


@pytest.mark.parametrize("version", ENDS.values(), ids=ENDS)
async def test_a_client_certificate_is_presented_on_request(send, authority, version):
    context = context_for(authority.issue_cert(HOST), version)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    pem = authority.cert_pem.bytes()
    ours = authority.issue_cert("monitor.example").private_key_and_cert_chain_pem.bytes()
    strange = trustme.CA().issue_cert("monitor.example").private_key_and_cert_chain_pem.bytes()
    with tls_server(context) as server:
        without = await send(server.url, connection=ConnectionOptions(ca_pem=pem))
        stranger = await send(server.url, connection=ConnectionOptions(ca_pem=pem, identity_pem=strange))
        answer = await send(server.url, connection=ConnectionOptions(ca_pem=pem, identity_pem=ours))
    assert (without, stranger) == (NO_TLS, NO_TLS)
    assert isinstance(answer, Reply)
    assert server.certified == ["monitor.example"]


async def test_plain_http_on_a_tls_port_is_a_tls_fault(send):
    plain = hostile.answers(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", close=True)
    async with hostile.serving(hostile.hang, greet=plain) as server:
        assert await send(f"https://127.0.0.1:{server.port}") == NO_TLS


UNUSABLE = {
    "no PEM to trust": ({"ca_pem": CANARY.encode()}, "no certificate in PEM form"),
    "nothing to trust": ({"ca_pem": b""}, "no certificate in PEM form"),
    "garbage to trust": (
        {"ca_pem": f"-----BEGIN CERTIFICATE-----\n{CANARY}\n-----END CERTIFICATE-----\n".encode()},
        "CA certificates can't be used",
    ),
    "an identity that is no PEM": ({"identity_pem": CANARY.encode()}, "can't be read as PEM"),
    "a proxy's URL that is none": ({"proxy": f"{CANARY}"}, "proxy's URL must begin with http"),
    "a proxy's URL with a slip": ({"proxy": f"htp://u:{CANARY}@proxy"}, "proxy's URL must begin with http"),
    "a proxy of another kind": ({"proxy": f"ftp://u:{CANARY}@proxy"}, "proxy's URL must begin with http"),
    "a proxy without a host": ({"proxy": f"http://u:{CANARY}@"}, "proxy's URL must begin with http"),
    "a proxy with a broken port": ({"proxy": f"http://u:{CANARY}@h:{CANARY}"}, "proxy's URL must begin with http"),
}


@pytest.mark.parametrize(("said", "words"), UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_connection_options_are_reported_without_quoting_them(transport_type, said, words):
    with pytest.raises(ValueError, match=words) as caught:
        transport_type(base_url="https://api.example", connection=ConnectionOptions(**said))
    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert CANARY not in repr(ConnectionOptions(**{**said, "ca_pem": None}))


def test_a_key_that_does_not_match_its_certificate_is_refused(transport_type, authority):
    one, other = authority.issue_cert("a.example"), authority.issue_cert("a.example")
    mixed = one.private_key_pem.bytes() + other.cert_chain_pems[0].bytes()
    with pytest.raises(ValueError, match="don't belong together"):
        transport_type(base_url="https://api.example", connection=ConnectionOptions(identity_pem=mixed))


ASK = """
import asyncio, sys
from monitor.client import transports as transports
from monitor.model.http import Request

async def main():
    try:
        sender = getattr(transports, sys.argv[1])(base_url=sys.argv[2])
    except ValueError as error:
        return str(error)
    answer = await sender.send(Request(method="GET", path="/", template="/"), timeout_s=5)
    await sender.close()
    return str(getattr(answer, "status", "") or answer.fault)

print(asyncio.run(main()))
"""
NOBODY = "this system has no CA certificates: install ca-certificates, or set SSL_CERT_FILE"


@pytest.mark.parametrize(("content", "expected"), [("ours", "200"), ("another", "tls"), ("nothing", NOBODY)])
async def test_system_authorities_are_trusted_and_ssl_cert_file_selects_them(
    transport_type, authority, tmp_path, content, expected
):
    trusted = {"ours": authority, "another": trustme.CA()}
    file = tmp_path / "authorities.pem"
    file.write_bytes(trusted[content].cert_pem.bytes() if content in trusted else b"")
    environment = {**os.environ, "SSL_CERT_FILE": str(file), "SSL_CERT_DIR": str(tmp_path / "none")}
    with tls_server(context_for(authority.issue_cert(HOST))) as server:
        assert await said_by(transport_type, server.url, environment) == expected


async def said_by(transport_type, url, environment):
    asking = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        ASK,
        transport_type.__name__,
        url,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment,
    )
    printed, _ = await asking.communicate()
    return printed.decode().strip()
