"""Signing for AWS: what is signed, the region, the machine's keys, and a machine without botocore."""

import sys
from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from support.loopback import AnsweringHandler, LoopbackServer

from monitor.app import validate_providers
from monitor.app.aws import MachineKeys, region_of, signer
from monitor.app.throttles import throttle_key
from monitor.client.signing import SigningKeys
from monitor.config import load_config
from monitor.errors import ConfigError
from monitor.model.http import UNUSABLE_CREDENTIALS, Request

KEYS = SigningKeys(key_id="AKID", secret="the-secret-access-key", token="the-token")
TARGET = """
[[targets]]
name = "handbook"
provider = "bedrock"
base_url = "{base_url}"
params = {{ knowledge_base_id = "ABCDEFGHIJ", data_source_id = "KLMNOPQRST" }}
{auth}
"""
ENDPOINT = "https://bedrock-agent.eu-central-1.amazonaws.com"


@pytest.fixture
def load(tmp_path):
    def loaded(auth="", base_url=ENDPOINT):
        path = tmp_path / "monitor.toml"
        path.write_text(TARGET.format(auth=auth, base_url=base_url))
        return load_config(path, {}).targets

    return loaded


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine without any key: no variables, no files, no instance."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return monkeypatch


# --- signatures ------------------------------------------------------------------------------------------------------


def request(path="/a/b?x=1", body=b'{"a":1}', **headers):
    return Request(
        method="POST", path=path, template="/", body=body,
        headers={"content-type": "application/json", "x-gateway": "g", **headers},
    )  # fmt: skip


def recomputed(url, sent):
    """The signature that botocore makes of what was sent."""
    headers = {name: sent.headers[name] for name in ("content-type", "x-amz-date", "x-amz-security-token")}
    aws = AWSRequest(method=sent.method, url=url, data=sent.body, headers=headers)
    aws.context["timestamp"] = sent.headers["x-amz-date"]
    sig = SigV4Auth(Credentials(KEYS.key_id, KEYS.secret, KEYS.token), "bedrock", "eu-central-1")
    return sig.signature(sig.string_to_sign(aws, sig.canonical_request(aws)), aws)


def signature(sent):
    return sent.headers["authorization"].rpartition("Signature=")[2]


@pytest.mark.parametrize("base_url", [ENDPOINT, f"{ENDPOINT}/", "http://127.0.0.1:8080/base"])
@pytest.mark.parametrize("path", ["/a/b", "/a%3Ab/%C3%A9?x=1&a=2"])
def test_a_signature_is_botocores_and_covers_body_path_and_host(base_url, path):
    sign = signer(base_url, service="bedrock", region="eu-central-1")
    sent = sign(request(path), KEYS)
    url = base_url.rstrip("/") + path

    assert signature(sent) == recomputed(url, sent)
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token" in sent.headers["authorization"]
    assert sent.headers["x-gateway"] == "g"
    assert signature(sent) != recomputed(url + "x", sent)
    assert signature(sent) != recomputed(url.replace("://", "://x"), sent)
    assert signature(sent) != recomputed(url, request(path, b"{}").with_headers(sent.headers))


def test_a_request_without_a_body_and_keys_without_a_token_are_signed_too():
    sent = signer(ENDPOINT, service="bedrock", region="eu-central-1")(
        Request(method="GET", path="/a", template="/"), SigningKeys(key_id="AKID", secret="s" * 20)
    )
    assert sent.headers.keys() == {"authorization", "x-amz-date"}
    assert sent.body is None


@pytest.mark.parametrize(("host", "region"), [
    ("bedrock-agent.eu-central-1.amazonaws.com", "eu-central-1"),
    ("bedrock-agent-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
    ("bedrock-agent.cn-north-1.amazonaws.com.cn", "cn-north-1"),
    ("vpce-1a2b-3c.bedrock-agent.ap-southeast-2.vpce.amazonaws.com", "ap-southeast-2"),
    ("proxy.example", None), ("127.0.0.1", None), ("bedrock-agent-1.example", None),
])  # fmt: skip
def test_the_region_is_the_one_in_the_host(host, region):
    assert region_of(f"https://{host}/base") == region


def test_without_a_region_it_is_asked_for(load):
    validate_providers(load())
    validate_providers(load('auth = { region = "eu-west-1" }', "https://proxy.example"))
    with pytest.raises(ConfigError, match=r"targets\.handbook\.auth\.region is missing: base_url names no region"):
        validate_providers(load(base_url="https://proxy.example"))


def test_another_service_is_signed_for_by_a_description_of_ones_own(tmp_path):
    path = tmp_path / "monitor.toml"
    path.write_text(
        '[[targets]]\nname = "own"\nprovider = "generic"\nbase_url = "https://x.execute-api.eu-west-1.amazonaws.com"\n'
        'auth = { service = "execute-api" }\nstatuses = { completed = ["done"] }\nitem = { path = "/{item_id}" }\n'
    )
    (target,) = load_config(path, {}).targets
    validate_providers([target])
    assert target.auth.service == "execute-api"


# --- without botocore ------------------------------------------------------------------------------------------------


def test_without_the_extra_the_command_that_installs_it_is_named(load, monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore", None)
    monkeypatch.setitem(sys.modules, "botocore.auth", None)

    with pytest.raises(ConfigError) as caught:
        validate_providers(load())

    (problem,) = caught.value.problems
    assert problem.startswith("targets.handbook.auth signs requests for AWS, which needs botocore: install it by ")
    assert problem.endswith('pip install "ingestion-monitor[bedrock]"')


def test_config_check_says_so_with_exit_code_2_and_other_targets_need_no_botocore(world):
    hidden = world.folder / "hidden" / "botocore"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('not here')")
    here = {"PYTHONPATH": str(hidden.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    assert world.cli("config", "check", env=here).returncode == 0

    world.configure(more=TARGET.format(base_url=ENDPOINT, auth=""))
    done = world.cli("config", "check", env=here)

    assert (done.returncode, done.stdout) == (2, "")
    assert 'pip install "ingestion-monitor[bedrock]"' in done.stderr
    assert "Traceback" not in done.stderr


# --- the machine's keys ----------------------------------------------------------------------------------------------


async def test_no_keys_anywhere_is_one_sentence(machine):
    found = await MachineKeys().read(0.0, renew=False)

    assert found.code == UNUSABLE_CREDENTIALS
    assert found.message.startswith("no AWS credentials were found: set access_key_id and secret_access_key in auth")


async def test_variables_are_used(machine):
    machine.setenv("AWS_ACCESS_KEY_ID", "AKVAR")
    machine.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-variables")
    keys = MachineKeys()

    assert await keys.read(5.0, renew=False) == SigningKeys(key_id="AKVAR", secret="secret-of-variables")
    assert keys.next_check_s == 65.0


async def test_a_profile_is_read_again_after_a_refusal(machine, tmp_path):
    def write(secret):
        (tmp_path / "credentials").write_text(
            f"[other]\naws_access_key_id = AKFILE\naws_secret_access_key = {secret}\n"
        )

    write("secret-one")
    keys = MachineKeys("other")
    assert (await keys.read(0.0, renew=False)).secret == "secret-one"
    write("secret-two")
    assert (await keys.read(61.0, renew=False)).secret == "secret-one"
    assert (await keys.read(62.0, renew=True)).secret == "secret-two"


async def test_a_profile_that_does_not_exist_is_named(machine):
    found = await MachineKeys("nobody").read(0.0, renew=False)

    assert found.code == UNUSABLE_CREDENTIALS
    assert "nobody" in found.message


class Role(LoopbackServer):
    """The endpoint of a container's role. Each answer has new keys, which end in `lifetime`."""

    def __init__(self, lifetime):
        self.status, self.answers = 200, 0
        role = self

        class Handler(AnsweringHandler):
            def get(self):
                role.answers += 1
                ends = (datetime.now(UTC) + lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
                body = {"AccessKeyId": f"AK{role.answers}", "SecretAccessKey": "s" * 20, "Token": "t" * 20}
                self.reply(role.status, {}, {**body, "Expiration": ends})

        super().__init__(Handler)


@pytest.mark.parametrize(("lifetime", "renewed"), [(timedelta(hours=6), False), (timedelta(minutes=5), True)], ids=str)
async def test_a_roles_keys_are_renewed_before_they_end(machine, lifetime, renewed):
    with Role(lifetime) as role:
        machine.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{role.url}/keys")
        keys = MachineKeys()
        first, second = await keys.read(0.0, renew=False), await keys.read(60.0, renew=False)

    assert (first != second) == renewed
    assert first.token == "t" * 20


def test_targets_with_the_same_key_share_a_throttle(load):
    keys = 'auth = {{ access_key_id = "{}", secret_access_key = "s3cret-key" }}'
    ((one,), (same,), (other,), (machines,)) = (
        load(keys.format("AK1")), load(keys.format("AK1")), load(keys.format("AK2")), load(),
    )  # fmt: skip
    assert throttle_key(one) == throttle_key(same)
    assert len({throttle_key(each) for each in (one, other, machines)}) == 3
