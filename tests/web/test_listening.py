"""The address of the endpoints: an unusable address does not end the daemon, and a reload changes it."""

import asyncio
import contextlib
import errno
import socket
import time
from http.client import HTTPException

import pytest
from support.observed import until
from web.served import Served, ask, config, free_port

from monitor.app import utcnow
from monitor.config import load_config
from monitor.config.web import WebConfig
from monitor.errors import ConfigError
from monitor.web import endpoints
from monitor.web.server import ListenError, address_of, bind_socket, open_listener
from monitor.web.state import DaemonState, StateTracker


@contextlib.contextmanager
def taken(host="127.0.0.1"):
    with socket.socket() as other:
        other.bind((host, 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("127.0.0.1:8990", ("127.0.0.1", 8990)),
        ("[::1]:8990", ("::1", 8990)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("localhost:65535", ("localhost", 65535)),
        ("off", None),
    ],
)
def test_addresses_are_parsed(written, address):
    assert WebConfig(listen=written).address == address


def test_the_default_address_is_loopback():
    assert WebConfig().address == ("127.0.0.1", 8990)


def test_an_environment_variable_sets_the_address(tmp_path):
    path = tmp_path / "monitor.toml"
    config(tmp_path, database="sqlite:///monitor.db", listen="127.0.0.1:1")
    assert load_config(path, environ={"MONITOR_WEB__LISTEN": "[::1]:8991"}).web.address == ("::1", 8991)
    with pytest.raises(ConfigError, match=r"^MONITOR_WEB__LISTEN must be a host and a port"):
        load_config(path, environ={"MONITOR_WEB__LISTEN": "8991"})


def test_a_free_port_is_chosen_and_named():
    with contextlib.closing(open_listener(("127.0.0.1", 0))) as listener:
        host, port = listener.getsockname()
        assert (host, address_of(listener)) == ("127.0.0.1", f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (("192.0.2.1", 8990), "192.0.2.1:8990 is not an address of this machine; set web.listen to one that is"),
        (("no-such-host.invalid", 8990), "no-such-host.invalid:8990 can't be listened on; set web.listen"),
    ],
)
def test_an_address_of_another_machine_is_refused_with_a_remedy(address, said):
    with pytest.raises(ListenError, match=r".") as caught:
        open_listener(address)
    assert str(caught.value).startswith(said)


def test_a_port_in_use_is_refused_with_a_remedy():
    with taken() as port, pytest.raises(ListenError, match="is used by another program") as caught:
        bind_socket(("127.0.0.1", port))
    assert "port 0" in str(caught.value)
    assert caught.value.errno == errno.EADDRINUSE


def test_endpoints_that_are_closed_while_they_open_leave_no_socket_open(tmp_path, monkeypatch):
    opened = []

    def slowly(address):
        opened.append(open_listener(address))
        time.sleep(0.2)
        return opened[-1]

    async def open_and_close():
        state = DaemonState(config=config(tmp_path, database=f"sqlite:///{tmp_path / 'monitor.db'}"))
        up = endpoints.Endpoints(StateTracker(state, utcnow=utcnow))
        up.open()
        while not opened:  # noqa: ASYNC110  # a list has no event
            await asyncio.sleep(0.01)
        await up.close()

    monkeypatch.setattr(endpoints, "open_listener", slowly)
    asyncio.run(open_and_close())
    assert [listener.fileno() for listener in opened] == [-1]


def test_a_port_in_use_is_logged_once_and_taken_when_it_is_free(tmp_path):
    database = f"sqlite:///{tmp_path / 'monitor.db'}"
    with contextlib.ExitStack() as others:
        port = others.enter_context(taken())
        with Served(config(tmp_path, database=database, listen=f"127.0.0.1:{port}"), retry_s=0.05) as served:
            until(lambda: served.logged_events("web_not_listening"), "the warning")
            served.do(lambda: None)
            others.close()
            until(lambda: served.logged_events("web_listening"), "endpoints that listen")
            assert ask(served.address, "/healthz").status == 200
            (logged_events,) = served.logged_events("web_not_listening")
    assert (f"127.0.0.1:{port} is used" in logged_events["reason"], logged_events["log_level"]) == (True, "warning")


def test_a_reload_moves_the_endpoints_and_switches_them_off_and_on(tmp_path):
    database = f"sqlite:///{tmp_path / 'monitor.db'}"
    first, second = (config(tmp_path, database=database, listen=f"127.0.0.1:{free_port()}") for _ in range(2))
    off = config(tmp_path, database=database, listen="off")
    with Served(first) as served:
        until(lambda: served.logged_events("web_listening"), "the first address")
        before = served.address
        served.do(lambda: setattr(served.state, "config", second))
        until(lambda: served.address == second.web.address, "the second address")
        assert ask(served.address, "/healthz").status == 200
        with pytest.raises(ConnectionRefusedError):
            ask(before, "/healthz")
        served.do(lambda: setattr(served.state, "config", off))
        until(lambda: refused(second.web.address), "silence")
        served.do(lambda: setattr(served.state, "config", first))
        until(lambda: served.address == first.web.address, "the first address again")


def refused(address):
    try:
        ask(address, "/healthz", timeout=1)
    except ConnectionRefusedError:
        return True
    except (OSError, HTTPException):
        return False  # it arrived just when they were closed
    return False


def test_endpoints_that_are_off_load_no_web_framework(small_world):
    small_world.configure(more='[schedule]\nevery = "1h"\n')
    ran = small_world.cli("check", "--quiet", env={"PYTHONVERBOSE": "1", "MONITOR_WEB__LISTEN": "127.0.0.1:0"})
    assert ran.returncode == 0, ran.stdout
    loaded = [name for name in ("fastapi", "uvicorn", "prometheus_client") if f"import '{name}'" in ran.stderr]
    assert loaded == []
