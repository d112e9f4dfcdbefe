"""Throttle keys: equal for targets that share origin and credential, and useless for guessing the credential."""

import hashlib
import re

import pytest

from monitor.app.throttles import SharingTargets, http_origin, throttle_key
from monitor.config import TargetConfig

SECRET, KEY = "canary-secret-0451", "canary-key-1984"
CLIENT = {"client_id": "canary-client-77", "client_secret": SECRET, "token_path": "/token"}


def target(name="docs", base_url="https://api.example", auth=None, **settings):
    given = {"provider": "generic", "statuses": {"completed": ["done"]}, "item": {"path": "/documents/{item_id}"}}
    given |= {"name": name, "base_url": base_url, **({"auth": auth} if auth else {})}
    return TargetConfig.model_validate(given | settings)


def file(folder, name, content):
    path = folder / name
    path.write_text(content)
    return str(path)


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://api.example", "https://api.example:443"),
        ("https://API.Example:443/v1", "https://api.example:443"),
        ("HTTPS://api.example:8443", "https://api.example:8443"),
        ("http://localhost", "http://localhost:80"),
        ("http://[::1]:8080/base", "http://[::1]:8080"),
    ],
)
def test_an_origin_is_scheme_host_and_port_in_one_form(written, origin):
    assert http_origin(target(base_url=written)) == origin


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"name": "other"}, id="another name"),
        pytest.param({"publisher_id": "p2"}, id="another publisher"),
        pytest.param({"base_url": "https://API.EXAMPLE:443/v2"}, id="the host in capitals, the port written, a path"),
        pytest.param({"auth": {**CLIENT, "client_secret": "rotated"}}, id="another secret of the same client"),
        pytest.param({"auth": {**CLIENT, "scope": "read"}}, id="another scope of the same client"),
        pytest.param({"check": {"concurrency": 1, "rate": "1/s"}}, id="another pace"),
    ],
)
def test_targets_on_one_origin_and_credential_share_a_key(other):
    assert throttle_key(target(**({"auth": CLIENT} | other))) == throttle_key(target(auth=CLIENT))
    mine, others = target("mine", auth=CLIENT), target(**({"auth": CLIENT, "name": "other"} | other))
    assert SharingTargets().of(mine, [mine, target("elsewhere"), others]) == (mine, others)


def test_an_api_key_has_the_same_throttle_key_from_any_source(tmp_path):
    in_a_file = {"api_key_file": file(tmp_path, "key", f"{KEY}\n"), "header": "X-API-Key"}

    assert throttle_key(target(auth=in_a_file)) == throttle_key(target(auth={"api_key": KEY}))


def test_targets_without_credentials_share_a_key():
    assert throttle_key(target()) == throttle_key(target(name="other"))


def test_different_origins_and_credentials_have_different_keys():
    different = [
        target(),
        target(base_url="http://localhost"),
        target(base_url="https://api.example:8443"),
        target(base_url="https://api2.example"),
        target(auth=CLIENT),
        target(auth={**CLIENT, "client_id": "another"}),
        target(auth=CLIENT, base_url="https://api2.example"),
        target(auth={"api_key": KEY}),
        target(auth={"api_key": "another"}),
        target(auth={"api_key": CLIENT["client_id"]}),
        target(auth={"api_key": f"client:{CLIENT['client_id']}"}),
        target(auth={"api_key": "none"}),
    ]

    sharing = SharingTargets()
    assert all(sharing.of(each, different) == (each,) for each in different)
    keys = [throttle_key(each) for each in different]

    assert len(set(keys)) == len(different)
    assert [key for key in keys if not re.fullmatch(r"[0-9a-f]{32}", key)] == []


def test_a_rotated_api_key_has_its_own_limits(tmp_path):
    watched = target(auth={"api_key_file": file(tmp_path, "key", KEY)})
    before = throttle_key(watched)

    file(tmp_path, "key", "rotated")

    assert throttle_key(watched) != before


def test_a_target_shares_its_limits_with_those_that_have_its_key_now(tmp_path):
    keys = {name: file(tmp_path, name, KEY) for name in "ab"}
    a, b = configured = [target(name, auth={"api_key_file": path}) for name, path in keys.items()]
    sharing = SharingTargets()
    assert sharing.of(a, configured) == (a, b)

    file(tmp_path, "a", "rotated")

    assert sharing.of(a, configured) == (a,)
    assert sharing.of(b, configured) == (b,)
    assert sharing.of(b, ()) == (b,)


def test_an_unreadable_api_key_is_identified_by_its_setting(tmp_path):
    auths = [{"api_key_file": file(tmp_path, name, KEY)} for name in ("a", "b")]
    one, other = (target(name=auth["api_key_file"][-1], auth=auth) for auth in auths)
    assert throttle_key(one) == throttle_key(other)

    for name in ("a", "b"):
        (tmp_path / name).unlink()

    assert throttle_key(one) == throttle_key(one)
    assert throttle_key(one) not in {throttle_key(other), throttle_key(target(name="a"))}


@pytest.mark.parametrize("auth", [CLIENT, {"api_key": KEY}], ids=["client", "key"])
def test_a_throttle_key_contains_no_credential(auth):
    watched = target(auth=auth)
    held = f"{throttle_key(watched)} {http_origin(watched)}"

    assert [each for each in (SECRET, KEY, CLIENT["client_id"]) if each in held or each.encode().hex() in held] == []


def test_throttle_keys_of_api_keys_are_stable_and_cost_four_mebibytes_per_guess():
    work = {"n": 4096, "r": 8, "p": 1}
    expected = hashlib.scrypt(f"key:{KEY}".encode(), salt=b"https://api.example:443", dklen=16, **work).hex()

    assert 128 * work["n"] * work["r"] == 4 << 20
    assert throttle_key(target(auth={"api_key": KEY})) == expected


@pytest.mark.parametrize(
    ("auth", "named"), [(None, "none"), (CLIENT, f"client:{CLIENT['client_id']}")], ids=["none", "client"]
)
def test_throttle_keys_without_a_secret_are_stable_plain_hashes(auth, named):
    expected = hashlib.blake2b(f"https://api.example:443\n{named}".encode(), digest_size=16).hexdigest()

    assert throttle_key(target(auth=auth)) == expected
