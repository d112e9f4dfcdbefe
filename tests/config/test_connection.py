"""The settings `tls` and `proxy`, down to the transport."""

import json

import pytest
import trustme
from config.mistakes import GLOO
from cryptography.hazmat.primitives import serialization

from monitor.app.clients import build_connection, open_transport
from monitor.cli.doctor.secret_files import literal_secrets, secret_files
from monitor.client.transports import ConnectionOptions, DirectTransport, HttpxTransport
from monitor.config import load_config
from monitor.config.effective import effective_settings, format_toml
from monitor.errors import ConfigError

CANARY = "c4nary-5ecret"
PROXY = f"http://user:{CANARY}@proxy.example:3128"


@pytest.fixture
def identity():
    return trustme.CA().issue_cert("monitor.example")


@pytest.fixture
def pem(config_dir, identity):
    """Files beside the configuration: a certificate and its key, and broken variants."""
    authority, other = trustme.CA(), trustme.CA().issue_cert("monitor.example")
    key, certificate = identity.private_key_pem.bytes(), identity.cert_chain_pems[0].bytes()
    encrypted = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(CANARY.encode()),
    )
    contents = {
        "ca.pem": authority.cert_pem.bytes(),
        "cert.pem": certificate,
        "key.pem": key,
        "both.pem": certificate + key,
        "other.key": other.private_key_pem.bytes(),
        "encrypted.key": encrypted,
        "cut.pem": certificate[:300] + b"\n-----END CERTIFICATE-----\n",
        "text.pem": CANARY.encode(),
        "der.pem": bytes(range(256)),
    }
    for name, content in contents.items():
        (config_dir.folder / name).write_bytes(content)
    return contents


def target_of(config_dir, written, environ=None):
    (target,) = load_config(config_dir.write(GLOO.replace("#target", written)), environ or {}).targets
    return target


def test_unset_options_are_the_systems_defaults(config_dir):
    assert build_connection(target_of(config_dir, "")) == ConnectionOptions()


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ('cert_file = "cert.pem", key_file = "key.pem"', ("cert.pem", "key.pem")),
        ('cert_file = "both.pem", key_file = "both.pem"', ("both.pem",)),
        ('cert_file = "both.pem", key_file = "key.pem"', ("both.pem", "key.pem")),
    ],
)
@pytest.mark.parametrize("http", ["fast", "httpx"])
async def test_certificates_reach_the_transport(config_dir, pem, files, names, http):
    path = config_dir.write(
        GLOO.replace("#target", f'tls = {{ ca_file = "ca.pem", {files} }}').replace("#check", f'http = "{http}"')
    )
    (target,) = load_config(path, {}).targets

    connection = build_connection(target)
    transport = open_transport(target)
    await transport.close()

    assert connection.ca_pem == pem["ca.pem"]
    assert connection.identity_pem == b"\n".join(pem[name] for name in names)
    assert type(transport) is {"fast": DirectTransport, "httpx": HttpxTransport}[http]


MAY_NOT = {
    "no certificate": ('cert_file = "text.pem"', "cert_file", "which contains no PEM certificate", "text.pem"),
    "DER": ('ca_file = "der.pem"', "ca_file", "which contains no PEM certificate", "der.pem"),
    "a key to trust": ('ca_file = "key.pem"', "ca_file", "which contains no PEM certificate", "key.pem"),
    "a certificate cut short": (
        'ca_file = "cut.pem"', "ca_file", "which contains a broken certificate", "cut.pem"
    ),
    "no key": (
        'cert_file = "cert.pem", key_file = "text.pem"',
        "key_file",
        "which contains no PEM private key",
        "text.pem",
    ),
    "an encrypted key": (
        'cert_file = "cert.pem", key_file = "encrypted.key"',
        "key_file",
        "which is encrypted: give the key without a password",
        "encrypted.key",
    ),
    "another's key": (
        'cert_file = "cert.pem", key_file = "other.key"',
        "key_file",
        "not the key of the certificate in cert_file",
        "other.key",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "key", "words", "name"), MAY_NOT.values(), ids=MAY_NOT)
def test_an_unusable_certificate_file_is_one_sentence(config_dir, pem, files, key, words, name):
    problems = config_dir.problems(config_dir.write(GLOO.replace("#target", f"tls = {{ {files} }}")))

    (problem,) = problems
    assert problem.startswith(f"targets.gloo-prod.tls.{key} names {config_dir.folder}/{name}, ")
    assert words in problem


@pytest.mark.parametrize("path", ["", "a\\u0000b"])
def test_a_value_that_is_not_a_path_is_refused(config_dir, path):
    assert config_dir.problems(config_dir.write(GLOO.replace("#target", f'tls = {{ ca_file = "{path}" }}'))) == [
        "targets.gloo-prod.tls.ca_file must be the path of a file"
    ]


def test_a_certificate_without_its_key_is_refused(config_dir, pem):
    assert config_dir.problems(config_dir.write(GLOO.replace("#target", 'tls = { cert_file = "cert.pem" }'))) == [
        "targets.gloo-prod.tls.key_file is missing: give the private key that belongs to cert_file"
    ]


def test_a_path_may_come_from_a_variable_and_is_shown_with_its_origin(config_dir, pem):
    path = config_dir.write(
        GLOO.replace("#target", 'tls = { ca_file = "${CORP}", cert_file = "cert.pem", key_file = "key.pem" }')
    )
    config = load_config(path, {"CORP": str(config_dir.folder / "ca.pem")})

    text = format_toml(effective_settings(config.describe(), config.origins))

    assert build_connection(config.targets[0]).ca_pem == pem["ca.pem"]
    said = {
        line.split(" = ")[0]: after for after, line in zip(["", *text.splitlines()], text.splitlines(), strict=False)
    }
    assert said["ca_file"] == "# monitor.toml, with CORP in the environment"
    assert said["cert_file"] == "# monitor.toml"
    assert config_dir.folder / "key.pem" in secret_files(config)
    assert config_dir.folder / "ca.pem" not in secret_files(config)


async def test_a_file_is_read_again_each_time(config_dir, pem):
    target = target_of(config_dir, 'tls = { ca_file = "ca.pem" }')
    renewed = trustme.CA().cert_pem.bytes()
    (config_dir.folder / "ca.pem").write_bytes(renewed)

    assert build_connection(target).ca_pem == renewed

    (config_dir.folder / "ca.pem").unlink()
    with pytest.raises(ConfigError, match=r"targets\.gloo-prod\.tls\.ca_file names .* can't be read"):
        build_connection(target)


async def test_a_file_that_became_unusable_is_reported_with_its_target(config_dir, pem):
    target = target_of(config_dir, 'tls = { ca_file = "ca.pem" }')
    (config_dir.folder / "ca.pem").write_bytes(CANARY.encode())

    with pytest.raises(ConfigError) as caught:
        open_transport(target)

    assert str(caught.value) == "targets.gloo-prod can't be connected to: the CA file has no certificate in PEM form"


@pytest.mark.parametrize("written", [f'proxy = "{PROXY}"', 'proxy = "${PROXY}"', 'proxy_file = "proxy"'])
async def test_a_proxy_is_a_secret_from_any_source(config_dir, written):
    (config_dir.folder / "proxy").write_text(f"{PROXY}\n")
    config = load_config(config_dir.write(GLOO.replace("#target", written)), {"PROXY": PROXY})

    await open_transport(config.targets[0]).close()

    assert build_connection(config.targets[0]).proxy == PROXY
    assert PROXY in [secret.reveal() for secret in config.secrets()]
    shown = [
        repr(config),
        json.dumps(config.describe()),
        format_toml(effective_settings(config.describe(), config.origins)),
    ]
    assert [text for text in shown if CANARY in text] == []


@pytest.mark.parametrize("url", ["http://proxy", "https://proxy:1/", "socks5://u:p@proxy", "socks5h://[::1]:1080"])
async def test_every_kind_of_proxy_makes_a_transport(config_dir, url):
    target = target_of(config_dir, f'proxy = "{url}"')
    await open_transport(target).close()
    assert build_connection(target).proxy == url


def test_direct_is_not_a_secret(config_dir):
    config = load_config(config_dir.write(GLOO.replace("#target", 'proxy = "direct"')), {})

    assert build_connection(config.targets[0]).proxy == "direct"
    assert "direct" not in [secret.reveal() for secret in config.secrets()]
    assert config.describe()["targets"][0]["proxy"] == "direct"


@pytest.mark.parametrize(("url", "is_secret"), [(PROXY, True), ("http://proxy.example:3128", False)])
def test_a_proxy_without_a_password_is_not_masked(config_dir, url, is_secret):
    config = load_config(config_dir.write(GLOO.replace("#target", f'proxy = "{url}"')), {})

    assert ("targets[0].proxy" in literal_secrets(config)) is is_secret
