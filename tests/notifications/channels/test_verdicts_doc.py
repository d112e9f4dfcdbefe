"""docs/channels.md says of every answer how it is taken; the code has to do the same."""

import re
from pathlib import Path

from monitor.model.http import Answer, ApiError, NetworkFault, Reply
from monitor.notifications.channels.http_post import verdict as of_http
from monitor.notifications.channels.smtp import Step
from monitor.notifications.channels.smtp import verdict as of_smtp

DOCUMENT = Path(__file__).parents[3] / "docs/channels.md"
ROW = re.compile(r"^\| (HTTP|SMTP|no answer:) (.+?) +\| (delivered|refused|parked|retry|retry, perhaps taken) +\|$")


def rows():
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    return [match.groups() for line in lines if (match := ROW.match(line))]


def said(verdict):
    return verdict.ending.value if verdict.certain else f"{verdict.ending.value}, perhaps taken"


def narrowest(patterns, code):
    """What stands for a code itself goes before what stands for its class, such as 4xx."""
    found = [verdict for pattern, verdict in patterns if pattern == str(code)]
    found += [verdict for pattern, verdict in patterns if pattern == f"{code // 100}xx"]
    return found[0]


def test_every_http_status_is_taken_as_the_table_says():
    told = [
        (each.strip().removeprefix("other "), verdict)
        for protocol, what, verdict in rows()
        if protocol == "HTTP"
        for each in what.split(",")
    ]
    for status in range(200, 600):
        reply = Reply(status=status, headers={}, body=b"")
        answer = Answer(reply=reply) if status < 300 else Answer(error=ApiError(status=status))
        assert said(of_http(answer)) == narrowest(told, status), status


def test_every_answer_of_a_mail_server_is_taken_as_the_table_says():
    told = []
    for protocol, what, verdict in rows():
        for part in what.split(";") if protocol == "SMTP" else ():
            code, _, steps = part.strip().partition(" to ")
            named = [step for step in Step if step in steps] or list(Step)
            told += [(step, code, verdict) for step in named]
    for step in Step:
        patterns = [(code, verdict) for each, code, verdict in told if each is step]
        for code in [*range(400, 600), *([250] if step is Step.CONTENT else [])]:
            assert said(of_smtp(step, code)) == narrowest(patterns, code), (step, code)


def test_every_fault_of_the_network_is_taken_as_the_table_says():
    told = {
        fault.strip(): verdict for protocol, what, verdict in rows() if protocol == "no answer:"
        for fault in what.split(",")
    }  # fmt: skip
    assert set(told) == set(NetworkFault)
    for fault, verdict in told.items():
        assert said(of_http(Answer(error=ApiError(status=None, network=NetworkFault(fault))))) == verdict
