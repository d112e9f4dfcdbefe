import base64
import io
import json
import logging
import re
import sys
from functools import partial
from urllib.parse import quote, quote_plus

import httpx
import pytest
import structlog
from client import hostile
from hypothesis import given
from hypothesis import strategies as st
from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import ConnectError
from pyreqwest.logging import flush_logs

from monitor.client.transports import DirectTransport, HttpxTransport, PyreqwestTransport
from monitor.errors import ConfigError
from monitor.logs import MASK, Redactor, configure, register_secret
from monitor.model.http import Request

CANARY = "cAn4ry/+ =é~key"
URL = "postgresql://reader:cAn4ryPa55@db.example/pipeline"
LIBRARIES = ("httpx", "httpcore.connection", "pyreqwest", "uvicorn.access", "alembic", "sqlalchemy.engine")


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def logging_as_before():
    root = logging.getLogger()
    yield
    for handler in [each for each in root.handlers if type(each).__module__ == "monitor.log"]:
        root.removeHandler(handler)
    logging.disable(logging.NOTSET)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def written():
    return io.BytesIO()


@pytest.fixture
def stream(written):
    with io.TextIOWrapper(written, write_through=True) as text:
        yield text


@pytest.fixture
def log(stream):
    register_secret(CANARY)
    register_secret(URL)
    configure(stream=stream, level="DEBUG")
    return structlog.get_logger()


def events(written):
    return [json.loads(line) for line in written.getvalue().decode().splitlines()]


def forms(secret):
    raw = secret.encode()
    basic = [base64.b64encode(b"id" + b"x" * pad + b":" + raw + b":y").decode() for pad in range(3)]
    return {
        "plain": secret,
        "quoted": quote(secret),
        "quoted whole": quote(secret, safe=""),
        "quoted by JavaScript": quote(secret, safe="!'()*"),
        "form": quote_plus(secret),
        "lower-case escapes": quote(secret, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
        "base64": base64.b64encode(raw).decode(),
        "url-safe base64": base64.urlsafe_b64encode(raw).decode(),
        **{f"inside base64, offset {pad}": text for pad, text in enumerate(basic)},
    }


def gives_away(text):
    """Whether text contains any encoding of the canaries, including base64 at any offset."""
    known = [CANARY, quote(CANARY), quote(CANARY, safe=""), "cAn4ryPa55"]
    inner = [base64.b64encode(b"\0" * pad + CANARY.encode()).decode()[pad + 1 : -4] for pad in range(3)]
    return [each for each in known + inner if each in text]


def test_each_event_is_one_json_object_with_time_level_and_name_first(log, written):
    log.info("run_started", run_id=7, integration="gloo-prod", share=0.5, partial=False, code=None)

    (event,) = events(written)
    assert list(event)[:3] == ["timestamp", "level", "event"]
    assert event["timestamp"].endswith("Z")
    fields = {"run_id": 7, "integration": "gloo-prod", "share": 0.5, "partial": False, "code": None}
    assert event | fields | {"level": "info", "event": "run_started"} == event


def test_bound_context_is_added(log, written):
    with structlog.contextvars.bound_contextvars(run_id=9, token=CANARY):
        log.info("run_started")

    assert events(written)[0]["run_id"] == 9
    assert events(written)[0]["token"] == MASK


@pytest.mark.parametrize(("level", "expected"), [("DEBUG", 3), ("info", 2), ("ERROR", 1)])
def test_events_below_the_level_are_dropped(stream, written, level, expected):
    configure(stream=stream, level=level)

    for name in ("debug", "info", "error"):
        getattr(structlog.get_logger(), name)("tick")

    assert len(events(written)) == expected


def test_an_unknown_level_is_refused(stream):
    with pytest.raises(ConfigError, match="the log level must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"):
        configure(stream=stream, level="LOUD")


def test_the_default_stream_is_stderr(capsysbinary):
    configure()

    structlog.get_logger().info("tick")

    captured = capsysbinary.readouterr()
    assert captured.out == b""
    assert json.loads(captured.err)["event"] == "tick"


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)], ids=["colours", "NO_COLOR"])
def test_a_terminal_gets_readable_text(monkeypatch, written, no_color, coloured):
    monkeypatch.setenv("NO_COLOR", no_color)
    register_secret(CANARY)
    with Terminal(written, write_through=True) as terminal:
        configure(stream=terminal)
        structlog.get_logger().error("run_failed", target="gloo\x1b]0;prod", exc_info=ValueError(f"bad {CANARY}"))
        text = written.getvalue().decode()

    assert "run_failed" in text
    assert "ValueError: bad **********" in text
    assert "\x1b]" not in text
    assert ("\x1b[" in text) is coloured


@pytest.mark.parametrize("form", forms(CANARY))
@pytest.mark.parametrize("place", ["event", "value", "key", "nested", "list", "object", "exception", "library"])
def test_a_registered_secret_is_masked_in_every_encoding_and_field(log, written, form, place):
    text = f"before {forms(CANARY)[form]} after"
    match place:
        case "event":
            log.debug(text)
        case "value":
            log.debug("tick", said=text)
        case "key":
            log.debug("tick", **{text: 1})
        case "nested":
            log.debug("tick", a={"b": {text: [text]}})
        case "list":
            log.debug("tick", a=[text, (text, {text})])
        case "object":
            log.debug("tick", a=ValueError(text), b=text.encode())
        case "exception":
            log.debug("tick", exc_info=ValueError(text))
        case _:
            logging.getLogger("httpx").warning("sent %s", text)

    assert len(events(written)) == 1
    assert gives_away(written.getvalue().decode()) == []
    assert "before" in written.getvalue().decode()


@pytest.mark.parametrize(
    "key",
    [
        "authorization", "Proxy-Authorization", "token", "access_token", "accessToken", "api_key", "X-API-Key",
        "client_secret", "password", "cookie", "url", "sync_log_url", "database", "dsn", "message", "api_message",
        "body", "content", "document", "headers",
    ],
)  # fmt: skip
def test_the_value_of_a_sensitive_key_is_masked_at_any_depth(log, written, key):
    log.info("tick", **{key: "harmless", "inner": [{key: {"a": 1}}]}, other={key: None})

    (event,) = events(written)
    assert event[key] == MASK
    assert event["inner"] == [{key: MASK}]
    assert event["other"] == {key: None}


@pytest.mark.parametrize("key", ["base_url", "endpoint", "retry_count", "http_status", "code", "request_id", "tokens"])
def test_fields_of_the_logging_contract_are_not_masked(log, written, key):
    log.info("tick", **{key: "harmless"})

    assert events(written)[0][key] == "harmless"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("GET https://me:pw@host/x", "GET https://**********@host/x"),
        ("at postgresql://me:p@ss/wo:rd@host/db", "at postgresql://**********@host/db"),
        ("redis://:pw@host", "redis://**********@host"),
        ("/token?api_key=abc&page=2", "/token?api_key=**********&page=2"),
        ("Authorization: Bearer abc.def", "Authorization: ********** **********"),
        ("got Basic aWQ6c2VjcmV0", "got Basic **********"),
        ('{"client_secret": "abc", "a": 1}', '{"client_secret": "**********", "a": 1}'),
        ("password=abc", "password=**********"),
        ("2 tokens left", "2 tokens left"),
        ("for url (https://host/x?q=abc), twice", "for url (https://host/x?********** twice"),
        ("https://host/x?q=(abc)#d <https://host/?e>", "https://host/x?********** <https://host/?**********>"),
        ("why? see https://host/x", "why? see https://host/x"),
    ],
)
def test_text_that_looks_like_a_credential_is_masked(log, written, said, shown):
    log.info("tick", said=said)

    assert events(written)[0]["said"] == shown


def test_a_traceback_has_types_and_lines_but_no_secret_or_local_variable(log, written):
    def connect(key):
        held = "l0cal-value"
        try:
            {}[f"{key}{URL}"]
        except KeyError as error:
            error.add_note(f"while using {key}")
            raise RuntimeError(f"{len(held)} bytes to {URL}") from error

    try:
        connect(CANARY)
    except RuntimeError as failure:
        log.exception("request_failed")
        log.exception("request_failed", exc_info=failure)
        log.exception("request_failed", exc_info=ExceptionGroup("several", [failure]))

    for event in events(written):
        assert "RuntimeError" in event["exception"]
        assert "KeyError" in event["exception"]
        assert "in connect" in event["exception"]
        assert "\n" in event["exception"]
        assert "l0cal-value" not in event["exception"]
    assert len(events(written)) == 3
    assert gives_away(written.getvalue().decode()) == []


def test_an_event_without_an_exception_has_no_traceback(log, written):
    log.exception("tick")  # noqa: LOG004  # a slip that must not cost the event
    log.error("tick", exc_info=(None, None, None))

    assert ["exception" in event or "exc_info" in event for event in events(written)] == [False, False]


def test_a_long_traceback_keeps_its_end(log, written):
    log.error("tick", exc_info=ValueError("x" * 9_000 + "the end"))

    assert events(written)[0]["exception"].startswith("…")
    assert events(written)[0]["exception"].endswith("the end")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp\u2066", "\\u202egnp\\u2066"),
        ("\u2028", "\\u2028"),
        ("\udc80", "\\udc80"),
        ("été ✓ 日本", "été ✓ 日本"),
        ("x" * 2_001, "x" * 2_000 + "…"),
        (b"raw", "<3 bytes>"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (1 << 70, hex(1 << 70)),
        ([[[[[[["deep"]]]]]]], [[[[[["…"]]]]]]),
        (list(range(60)), list(range(50))),
    ],
    ids=str,
)
def test_a_value_becomes_bounded_printable_json(log, written, value, shown):
    log.info("tick", value=value)

    assert events(written)[0]["value"] == shown


def test_an_object_without_a_json_form_is_named_by_its_type(log, written):
    class Silent:
        def __str__(self):
            raise RuntimeError(CANARY)

    log.info("tick", value=Silent())

    assert events(written)[0]["value"] == "<Silent: str() raised RuntimeError>"


@pytest.mark.parametrize("name", LIBRARIES)
def test_libraries_log_only_warnings_and_above(log, written, name):
    library = logging.getLogger(name)
    library.debug("GET %s", URL)
    library.info("GET %s", URL)
    library.warning("failed %s", URL, exc_info=ValueError(URL))

    (event,) = events(written)
    assert event["event"] == "library"
    assert event["level"] == "warning"
    assert event["logger"] == name
    assert event["text"] == "failed **********"
    assert "ValueError: **********" in event["exception"]


async def over_our_transport(make, url):
    transport = make()
    await transport.send(Request(method="GET", path=url, template="/x"), timeout_s=5)
    await transport.close()


async def over_httpx(url):
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(url)


async def over_reqwest(url):
    async with ClientBuilder().no_proxy().connection_verbose(enable=True).build() as client:
        await client.get(url).build().send()


WAYS = {
    "HttpxTransport": (partial(over_our_transport, HttpxTransport), "httpx"),
    "PyreqwestTransport": (partial(over_our_transport, PyreqwestTransport), None),
    "DirectTransport": (partial(over_our_transport, DirectTransport), None),
    "httpx on httpcore": (over_httpx, "httpx"),
    "pyreqwest at its loudest": (over_reqwest, "reqwest::connect::verbose"),
}


class CapturingHandler(logging.Handler):
    def __init__(self):
        super().__init__(logging.NOTSET)
        self.records = []

    def emit(self, record):
        self.records.append((record.name, record.getMessage()))

    def loggers_of(self, text):
        return {name for name, said in self.records if text in said}


@pytest.fixture
def capture():
    """An additional handler, with every logger of an HTTP library set to DEBUG."""
    names = ("", "httpx", "httpcore", "httpcore.http11", "httpcore.connection", "reqwest::connect::verbose")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    handler = CapturingHandler()
    logging.disable(logging.NOTSET)  # an earlier configuration of the log disabled it
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("way", WAYS)
async def test_a_real_request_logs_no_url_at_any_level(capture, stream, written, way):
    send, logger_name = WAYS[way]
    async with hostile.serving(hostile.replies(200)) as server:
        await send(f"{server.url}/x?q=unregistered-canary-1")
        flush_logs()
        assert capture.loggers_of("unregistered-canary-1") == ({logger_name} if logger_name else set()), (
            "the library logs the URL unless we prevent it"
        )
        capture.records.clear()

        configure(stream=stream, level="DEBUG")
        await send(f"{server.url}/x?q=unregistered-canary-2")
        flush_logs()

    assert [each for each in capture.records if each[0].startswith(("http", "reqwest"))] == []
    assert b"unregistered-canary" not in written.getvalue()


async def test_a_traceback_of_a_real_failure_does_not_show_the_query(log, written, unused_tcp_port):
    with pytest.raises(ConnectError) as refused:
        await over_reqwest(f"http://127.0.0.1:{unused_tcp_port}/x?q=unregistered-canary")
    assert "unregistered-canary" in str(refused.value)

    log.error("request_failed", exc_info=refused.value)
    logging.getLogger("reqwest::connect").warning("gave up", exc_info=refused.value)

    assert len(events(written)) == 2
    assert b"unregistered-canary" not in written.getvalue()


def test_library_events_with_wrong_formats_or_custom_levels_are_logged(stream, written, capsys):
    logging.getLogger().handlers.clear()  # pytest's own handler would fail the test because of the wrong format
    configure(stream=stream)

    logging.getLogger("alembic").warning("%d items", CANARY)
    logging.getLogger("alembic").log(35, "between")
    logging.getLogger("alembic").log(99, "beyond")

    assert [(event["level"], event["text"]) for event in events(written)] == [
        ("warning", "%d items (its arguments do not fit: TypeError)"),
        ("warning", "between"),
        ("critical", "beyond"),
    ]
    assert capsys.readouterr().err == ""


def test_configuring_again_replaces_the_earlier_configuration(stream, written):
    configure(stream=stream)
    later = io.BytesIO()
    with io.TextIOWrapper(later, write_through=True) as second:
        configure(stream=second)
        structlog.get_logger().info("tick")
        logging.getLogger("alembic").warning("once")
        assert len(events(later)) == 2
    assert events(written) == []


@given(secret=st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=8, max_size=40),
       around=st.text(max_size=20), pad=st.binary(max_size=5))  # fmt: skip
def test_no_text_shows_a_registered_secret(secret, around, pad):
    redactor = Redactor()
    redactor.register(secret)
    inside = base64.b64encode(pad + secret.encode() + pad).decode()
    core = base64.b64encode(b"\0" * (len(pad) % 3) + secret.encode()).decode()[4:-4]

    shown = redactor.text(f"{around}{secret}|{quote(secret, safe='')}|{inside}")

    assert secret not in shown.replace(around, "") or secret in MASK
    assert not core or core not in shown
    assert redactor.text(around).isprintable()


def test_a_secret_that_is_registered_after_a_text_was_cleared_is_masked_from_then_on():
    redactor = Redactor()
    redactor.register("first-secret")
    assert redactor.text("first-secret, second-secret") == f"{MASK}, second-secret"
    redactor.register("second-secret")
    assert redactor.text("first-secret, second-secret") == f"{MASK}, {MASK}"


def test_many_secrets_are_compiled_into_one_pattern_once():
    """A configuration of 1,000 targets registers 2,000 secrets: compiling after each took half a minute."""
    redactor, compiled = Redactor(), []

    def count(frame, event, _argument):
        if event == "call" and frame.f_code is re.compile.__code__:
            compiled.append(frame.f_back.f_code.co_name)

    sys.setprofile(count)
    try:
        for number in range(300):
            redactor.register(f"canary-secret-{number:04}")
        shown = [redactor.text(f"key canary-secret-{number:04}") for number in (0, 299)]
    finally:
        sys.setprofile(None)
    assert shown == [f"key {MASK}"] * 2
    assert len(compiled) == 2, compiled  # the secrets, and their beginnings


def test_a_value_that_is_not_a_url_or_too_short_registers_only_itself():
    redactor = Redactor()
    redactor.register("abc")
    redactor.register("http://[bad")

    assert redactor.text("abc, YWJj and http://[bad") == f"abc, YWJj and {MASK}"


TOKENS = {
    "tgram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/chat": "AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
    "slack://T1JJ3T3L2-token/x": "T1JJ3T3L2-token",
}


@pytest.mark.parametrize(("url", "token"), TOKENS.items(), ids=["in the password's place", "in the host's place"])
def test_the_tokens_in_an_apprise_url_are_masked_separately(url, token):
    redactor = Redactor()
    redactor.register(url)

    assert redactor.text(f"refused {token}") == f"refused {MASK}"


def test_the_name_of_a_database_is_not_masked():
    redactor = Redactor()
    redactor.register("postgresql://db/longdatabasename")

    assert redactor.text("longdatabasename") == "longdatabasename"
