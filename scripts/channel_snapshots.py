"""Writes what each channel sends for nine messages into the snapshots of the tests: `make docs`."""

import asyncio
import json
import sys
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from structlog.testing import capture_logs
from support.mailserver import MailServer as Server
from support.receiver import Receiver
from support.samples import NOW, incident

from monitor.app import send_once
from monitor.model import Cause, Evidence, IncidentState, RunStatus, Severity, Team
from monitor.notifications.batching import merge
from monitor.notifications.channels.alertmanager import AlertmanagerChannel
from monitor.notifications.channels.apprise import AppriseChannel
from monitor.notifications.channels.email import EmailChannel
from monitor.notifications.channels.log import LogChannel
from monitor.notifications.channels.mail_headers import Mailbox
from monitor.notifications.channels.pagerduty import PagerDutyChannel
from monitor.notifications.channels.slack import SlackChannel
from monitor.notifications.channels.smtp import MailServer, Security
from monitor.notifications.channels.webhook import WebhookChannel
from monitor.notifications.messages import MessageKind, ReportContent, RunFacts, render, report_message, with_links

FOLDER = Path(__file__).parents[1] / "tests/notifications/channels/snapshots"
KEY = "3f1c0d5e8a2b4c6f9e7d1a0b2c3d4e5f"
THREAD = "9b74c9897bac770ffc029102a200c5de"
PAGE = "https://monitor.example.com"
ROUTING_KEY = "0123456789abcdef0123456789ABCDEF"
ask_briefly = partial(send_once, timeout_s=5)
WHOLE_RUN = RunFacts(run_id=17, status=RunStatus.COMPLETE, total=120, unknown=0, answered=120)
RUN = RunFacts(run_id=17, status=RunStatus.ABORTED, total=120, unknown=120, answered=0)


def refusal(number, target, **fields):
    """An incident about a rejected key."""
    piece = Evidence(
        cause=Cause.UNAUTHORIZED, count=2, breakdown={"401 from the token endpoint": 2}, code="invalid_client",
        request_ids=(f"req-{number}",),
    )  # fmt: skip
    return incident(id=number, target=target, environment="production", evidence=piece, **fields)


def failures(**fields):
    """An incident about failed documents of one group."""
    piece = Evidence(cause=Cause.ITEMS_FAILED, count=3, breakdown={"FAILED": 2, "ERROR": 1}, sample_ids=("a", "b", "c"))
    return incident(
        id=8, cause=Cause.ITEMS_FAILED, severity=Severity.WARNING, team=Team.PIPELINE, environment="production",
        evidence=piece, member_count=41, peak_count=43, member_ids=("doc-0017", "doc-0018", "doc-0404"),
        group="contracts", **fields,
    )  # fmt: skip


def merged():
    """The opening of three incidents with one cause."""
    targets = ("gloo-de", "gloo-fr", "gloo-uk")
    parts = tuple(
        render(MessageKind.OPENED, refusal(number, target), RUN, now=NOW) for number, target in enumerate(targets, 1)
    )
    return replace(merge(parts), thread=KEY)


def report():
    """A report in its short form, and stand-ins for the whole."""
    content = ReportContent(
        lines=(
            ("gloo-prod", "986 completed, 12 pending (2 stuck), 2 failed, 0 not found · completed 89% ▂▅█▇█ 98.6%"),
            ("open incidents", "#7 gloo-prod: 2 documents failed to ingest"),
        ),
        text="Report on production, 2026-03-01 12:00 UTC, over the last 7 d\n\ngloo-prod\n  …",
        html="<!doctype html>\n<title>Report</title>\n",
        data={"targets": [{"target": "gloo-prod", "condition": "complete"}], "targets_total": 1},
    )
    title = "Report over the last 7 d: 1 target, 1 open incident"
    return with_links(report_message(title, content, environment="production", at=NOW), PAGE)


def messages():
    """The messages by file name."""
    one = refusal(7, "gloo-prod")
    acknowledged = replace(one, state=IncidentState.ACKNOWLEDGED)
    resolved = replace(one, state=IncidentState.RESOLVED, resolved_at=NOW + timedelta(minutes=47))
    rendered = {
        "opened": render(MessageKind.OPENED, one, RUN, now=NOW),
        "merged": merged(),
        "items": render(MessageKind.OPENED, failures(), WHOLE_RUN, now=NOW),
        "reminder": render(MessageKind.REMINDER, one, RUN, now=NOW + timedelta(hours=4)),
        "acknowledged": render(MessageKind.ACKNOWLEDGED, acknowledged, None, now=NOW + timedelta(minutes=9)),
        "linked": with_links(
            render(MessageKind.OPENED, failures(), WHOLE_RUN, now=NOW, trend="failed 0 ▁▁▂▅█ 41 over 6 h"), PAGE
        ),
        "linked_merged": with_links(merged(), PAGE),
        "report": report(),
        "resolved": render(MessageKind.RESOLVED, resolved, RUN, now=NOW + timedelta(minutes=47)),
    }
    later = {"reminder", "acknowledged", "resolved"}
    return {name: replace(each, thread=THREAD if name in later else KEY) for name, each in rendered.items()}


async def capture_posts(make, message):
    """The bodies that a channel posts, as JSON."""
    with Receiver() as receiver:
        await make(receiver.url).send(message, key=KEY)
        return json.dumps([body for _, _, body in receiver.got], indent=2, ensure_ascii=False) + "\n"


async def capture_logs_of(message):
    with capture_logs() as logs:
        await LogChannel().send(message, key=KEY)
    return json.dumps(logs, indent=2, ensure_ascii=False) + "\n"


async def capture_mail(message):
    """A mail's headers, its text and its HTML, decoded."""
    with Server() as server:
        mail_server = MailServer(host="127.0.0.1", port=server.port, security=Security.NONE)
        channel = EmailChannel(
            mail_server,
            sender=Mailbox("Ingestion Monitor", "monitor@example.com"),
            recipients=["oncall@example.com"],
            timeout_s=60,
        )
        await channel.send(message, key=KEY)
        mail = server.read()
    headers = [f"{name}: {value}" for name, value in mail.items()]
    contents = [part for part in mail.walk() if not part.is_multipart()]
    parts = [f"----- {_described(part)}\n{part.get_content()}" for part in contents]
    return "\n".join([*headers, "", *parts]).replace("\r\n", "\n")


def _described(part):
    name = part.get_filename()
    return f"{part.get_content_type()}, {name}" if name else part.get_content_type()


def webhook(url):
    return WebhookChannel(lambda: url, ask_briefly)


def slack(url):
    return SlackChannel(lambda: url, ask_briefly)


def pagerduty(url):
    return PagerDutyChannel(lambda: url, lambda: ROUTING_KEY, ask_briefly)


def alertmanager(url):
    return AlertmanagerChannel(lambda: url, ask_briefly, resolve_timeout=timedelta(minutes=15))


def apprise(url):
    return AppriseChannel(lambda: url.replace("http:", "json:"), timeout_s=60)


CHANNELS = {
    "log": capture_logs_of,
    "webhook": partial(capture_posts, webhook),
    "slack": partial(capture_posts, slack),
    "email": capture_mail,
    "pagerduty": partial(capture_posts, pagerduty),
    "alertmanager": partial(capture_posts, alertmanager),
    "apprise": partial(capture_posts, apprise),
}


def file_of(channel, name):
    return FOLDER / channel / f"{name}.{'txt' if channel == 'email' else 'json'}"


def main():
    """Writes every file."""
    for channel, capture in CHANNELS.items():
        for name, message in messages().items():
            file = file_of(channel, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(asyncio.run(capture(message)), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
