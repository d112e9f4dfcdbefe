"""Every answer of a receiver is handled as docs/channels.md says."""

import re
from pathlib import Path

from monitor.model.http import ApiError, CallResult, NetworkFault, Reply
from monitor.notifications.channels.http_post import classify_response as of_http
from monitor.notifications.channels.smtp import SmtpStep
from monitor.notifications.channels.smtp import classify_reply as of_smtp

DOCUMENT = Path(__file__).parents[3] / "docs/channels.md"
ROW = re.compile(r"^\| (HTTP|SMTP|no answer:) (.+?) +\| (delivered|refused|suspended|retry|retry, perhaps taken) +\|$")


def rows():
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    return [match.groups() for line in lines if (match := ROW.match(line))]


def described(result):
    return result.outcome.value if result.certain else f"{result.outcome.value}, perhaps taken"


def narrowest(patterns, code):
    """An entry for a code takes precedence over one for its class, such as 4xx."""
    found = [result for pattern, result in patterns if pattern == str(code)]
    found += [result for pattern, result in patterns if pattern == f"{code // 100}xx"]
    return found[0]


def test_http_statuses_are_handled_as_documented():
    documented = [
        (each.strip().removeprefix("other "), result)
        for protocol, what, result in rows()
        if protocol == "HTTP"
        for each in what.split(",")
    ]
    for status in range(200, 600):
        reply = Reply(status=status, headers={}, body=b"")
        answer = CallResult(reply=reply) if status < 300 else CallResult(error=ApiError(status=status))
        assert described(of_http(answer)) == narrowest(documented, status), status


def test_smtp_replies_are_handled_as_documented():
    documented = []
    for protocol, what, result in rows():
        for part in what.split(";") if protocol == "SMTP" else ():
            code, _, steps = part.strip().partition(" to ")
            named = [step for step in SmtpStep if step in steps] or list(SmtpStep)
            documented += [(step, code, result) for step in named]
    for step in SmtpStep:
        patterns = [(code, result) for each, code, result in documented if each is step]
        for code in [*range(400, 600), *([250] if step is SmtpStep.CONTENT else [])]:
            assert described(of_smtp(step, code)) == narrowest(patterns, code), (step, code)


def test_network_faults_are_handled_as_documented():
    documented = {
        fault.strip(): result for protocol, what, result in rows() if protocol == "no answer:"
        for fault in what.split(",")
    }  # fmt: skip
    assert set(documented) == set(NetworkFault)
    for fault, result in documented.items():
        assert described(of_http(CallResult(error=ApiError(status=None, network=NetworkFault(fault))))) == result
