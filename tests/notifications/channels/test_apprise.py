import resource
import subprocess
import sys
import threading

import pytest
from structlog.testing import capture_logs
from support.receiver import Receiver
from support.samples import message
from support.talker import repeat, talking
from support.thinned import first_only

from monitor.config.secret import Secret
from monitor.model import Severity
from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.channels.apprise import MAX_MEMORY_BYTES, AppriseChannel, as_text, known_service
from monitor.notifications.messages import MessageKind
from monitor.threads import run_in_thread

KEY = "3f1c0d5e8a2b4c6f9e7d1a0b2c3d4e5f"
CANARY = "T0K3N-canary"
TIMEOUT_S = 60
"""Each attempt starts a process, which takes seconds on a busy machine."""


def to(receiver, *, scheme="json", timeout_s=60, path=""):
    url = receiver.url.replace("http:", f"{scheme}:") + path
    return AppriseChannel(lambda: url, timeout_s=timeout_s)


async def sent(given, *answers, **settings):
    with Receiver(*answers) as receiver:
        result = await to(receiver, **settings).send(given, key=KEY)
        return result, [body for _, _, body in receiver.got]


async def test_a_message_arrives_as_title_and_lines():
    result, (body,) = await sent(message())
    assert result == SendResult(outcome=SendOutcome.DELIVERED, reason="accepted")
    assert body["title"] == "gloo-prod: the API rejects the credentials"
    first, *others = body["message"].split("\n")
    assert first == "severity: critical, team: credentials, environment: production"
    assert others[0] == "check: key rotation"


TYPES = [
    (MessageKind.OPENED, Severity.CRITICAL, "failure"), (MessageKind.UPDATED, Severity.WARNING, "warning"),
    (MessageKind.REMINDER, Severity.INFO, "info"), (MessageKind.RESOLVED, Severity.CRITICAL, "success"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "severity", "type_"), first_only(TYPES), ids=[kind for kind, _, _ in TYPES])
async def test_the_notify_type_follows_the_severity(kind, severity, type_):
    _, (body,) = await sent(message(kind=kind, severity=severity))
    assert body["type"] == type_


@pytest.mark.parametrize("status", first_only([302, 400, 404, 500]))
async def test_a_failure_is_retried(status):
    result, bodies = await sent(message(), (status, {"Location": "/elsewhere"}, CANARY.encode()))
    assert result == SendResult(outcome=SendOutcome.RETRY, reason="the service did not accept it", certain=False)
    assert len(bodies) == 1, "no redirect is followed"


@pytest.mark.parametrize("url", first_only(["nonsense://host/x", "slack://x", "https://", "tgram://"]))
async def test_a_url_that_apprise_rejects_suspends_the_channel(url):
    result = await AppriseChannel(lambda: url, timeout_s=TIMEOUT_S).send(message(), key=KEY)
    assert result.outcome is SendOutcome.SUSPENDED
    assert url not in result.reason
    assert known_service(url) is None


def test_a_service_has_a_name():
    assert known_service("ntfy://topic") == "ntfy"


async def test_a_url_that_can_t_be_read_suspends_the_channel_and_names_the_file(tmp_path):
    missing = Secret.from_file(tmp_path / "url").reveal
    result = await AppriseChannel(missing, timeout_s=TIMEOUT_S).send(message(), key=KEY)
    assert result.outcome is SendOutcome.SUSPENDED
    assert str(tmp_path / "url") in result.reason


async def test_nothing_that_apprise_prints_or_logs_is_heard(capfd, caplog):
    """It quotes URLs, and answers."""
    with caplog.at_level(1):
        for answer in ((200, {}, b""), (500, {}, CANARY.encode())):
            await sent(message(), answer, path=f"/{CANARY}")
        await AppriseChannel(lambda: f"slack://{CANARY}", timeout_s=TIMEOUT_S).send(message(), key=KEY)
        known_service(f"slack://{CANARY}")
    shown = capfd.readouterr()
    assert "apprise" not in {record.name for record in caplog.records}
    assert CANARY not in shown.out + shown.err


async def test_an_unreachable_service_is_tried_again():
    with Receiver() as receiver, capture_logs() as logs:
        channel = to(receiver)
        receiver.stop()
        result = await channel.send(message(), key=KEY)
    assert (result.outcome, result.certain) == (SendOutcome.RETRY, False)
    assert logs == []


async def test_a_process_that_dies_is_a_failure(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    result = await AppriseChannel(lambda: f"json://127.0.0.1/{CANARY}", timeout_s=TIMEOUT_S).send(message(), key=KEY)
    assert (result.outcome, result.certain) == (SendOutcome.RETRY, False)
    assert CANARY not in result.reason


@pytest.mark.process
async def test_a_service_that_hangs_is_given_up_and_leaves_no_process():
    with Receiver() as receiver:
        receiver.hang = True
        channel = to(receiver, timeout_s=3)
        results = [await channel.send(message(), key=KEY) for _ in range(2)]
    assert results == [SendResult(outcome=SendOutcome.RETRY, reason="no answer (timeout)", certain=False)] * 2
    assert [each for each in threading.enumerate() if each.name == "channel"] == []


async def test_an_answer_without_end_fills_no_memory():
    """The limit of the process is what ends the answer: the service would go on for ever."""

    async def talk(_reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
        await repeat(writer, b"x" * (1 << 20))

    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    async with talking(talk) as port:
        result = await AppriseChannel(lambda: f"json://127.0.0.1:{port}/", timeout_s=60).send(message(), key=KEY)
    assert (result.outcome, result.certain) == (SendOutcome.RETRY, False)
    assert "timeout" not in result.reason
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(before, (MAX_MEMORY_BYTES >> 10) * 2)


HOSTILE = {
    "mention": "<!channel>", "user": "<@U012AB3CD>", "everyone": "@everyone", "tag": "<script>alert(1)</script>",
    "escaped": "&lt;!here&gt;", "lines": "a\r\nfake: fact", "terminal": "a\x1b[31mb\x00", "bidi": "abc\u202egpj.exe",
}  # fmt: skip


@pytest.mark.parametrize("hostile", first_only(HOSTILE.values()), ids=HOSTILE)
async def test_external_text_mentions_nobody_and_is_no_markup(hostile):
    _, (body,) = await sent(message(title=hostile, target=hostile, facts=((hostile, hostile),)))
    for text in (body["title"], body["message"]):
        assert not [each for each in ("<!", "<@", "@e", "<s", "</", "&l", "&g", "\r", "\x1b", "\u202e") if each in text]
    assert not [line for line in body["message"].split("\n") if line.startswith("fake")]


def test_the_body_does_not_repeat_the_title():
    assert message().title not in as_text(message())


# --- beside the event loop -------------------------------------------------------------------------------------------


async def test_a_thread_returns_results_and_exceptions():
    assert await run_in_thread(lambda: 42, timeout_s=5) == 42
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda: 1 / 0, timeout_s=TIMEOUT_S)


async def test_a_thread_that_ends_after_its_timeout_is_harmless():
    let_go, ended = threading.Event(), threading.Event()

    def work():
        let_go.wait(10)
        ended.set()

    with pytest.raises(TimeoutError):
        await run_in_thread(work, timeout_s=0.01)
    let_go.set()
    assert ended.wait(10)


def test_a_thread_that_never_ends_does_not_keep_the_process_alive():
    script = (
        "import asyncio, threading\nfrom monitor.threads import run_in_thread\n"
        "async def main():\n"
        "    try:\n        await run_in_thread(threading.Event().wait, timeout_s=0.05)\n"
        "    except TimeoutError:\n        print('left')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")
