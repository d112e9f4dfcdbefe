"""Doctor's findings about the address of the page and the health endpoints, and about who may see the page."""

import json
import socket
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from support.observed import until
from web.served import Served, config

from monitor.cli.doctor import web
from monitor.cli.doctor.findings import Level
from monitor.cli.doctor.locations import SettingLocation

AT = SettingLocation(setting="web.listen", where="monitor.toml, line 3")


@contextmanager
def somebody_else():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.fixture
def database(tmp_path):
    return f"sqlite:///{tmp_path / 'monitor.db'}"


@pytest.mark.parametrize("listen", ["off", "127.0.0.1:0"])
def test_a_free_address_has_no_finding(tmp_path, database, listen):
    assert web.check_listen_address(config(tmp_path, database=database, listen=listen), AT) is None


def test_a_port_in_use_is_a_warning_with_a_remedy(tmp_path, database, monkeypatch):
    monkeypatch.setattr(web, "_TIMEOUT_S", 0.1)
    with somebody_else() as port:
        found = web.check_listen_address(config(tmp_path, database=database, listen=f"127.0.0.1:{port}"), AT)
    assert (found.level, found.setting, found.location) == (Level.WARNING, "web.listen", "monitor.toml, line 3")
    assert f"127.0.0.1:{port} is used by another program" in found.message
    assert "the daemon runs without its page and its health endpoints" in found.message


def test_an_address_of_another_machine_is_a_warning(tmp_path, database):
    found = web.check_listen_address(config(tmp_path, database=database, listen="192.0.2.1:8990"), AT)
    assert (found.level, "an address of this machine" in found.message) == (Level.WARNING, True)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_by_the_daemon_is_no_warning(tmp_path, database, host):
    with Served(config(tmp_path, database=database, listen=f"{host}:0")) as served:
        until(lambda: served.logged_events("web_listening"), "endpoints that listen")
        again = config(tmp_path, database=database, listen=f"{host}:{served.address[1]}")
        assert web.check_listen_address(again, AT) is None


ANYWHERE, TOKEN, PUBLIC = "0.0.0.0:0", 'token = "a-token-of-this-page"', 'public_url = "https://monitor.example.com"'


@pytest.mark.parametrize(
    ("listen", "lines", "said"),
    [
        ("127.0.0.1:0", "", None),
        ("off", "", None),
        (ANYWHERE, TOKEN, None),
        (ANYWHERE, "", "the page answers 403 to everybody: set web.token_file"),
        ("127.0.0.1:0", PUBLIC, "whoever reaches the proxy may use the page"),
        ("127.0.0.1:0", f"{PUBLIC}\n{TOKEN}", None),
        ("127.0.0.1:0", 'public_url = "http://localhost:8080"', None),
    ],
)
def test_a_page_that_nobody_or_everybody_can_use_is_a_warning(tmp_path, database, listen, lines, said):
    found = list(web.check_access(config(tmp_path, database=database, listen=listen, web=lines), AT))
    assert [each.level for each in found] == ([] if said is None else [Level.WARNING])
    assert said is None or said in found[0].message


def test_config_check_warns_of_a_page_that_nobody_can_use(tmp_path, database, here):
    config(tmp_path, database=database, listen=ANYWHERE)
    written = SimpleNamespace(config_path=tmp_path / "monitor.toml")
    ran = here(written, "config", "check")
    assert (ran.returncode, ran.stderr.count("web.token_file")) == (0, 1)
    (warning,) = json.loads(here(written, "config", "check", "--json").stdout)["warnings"]
    assert warning.startswith("web.listen is no loopback address")
