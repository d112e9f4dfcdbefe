from structlog.testing import capture_logs
from support.samples import message

from monitor.model import Cause
from monitor.notifications.channels import SendOutcome
from monitor.notifications.channels.log import LogChannel
from monitor.notifications.texts import SAFE_MESSAGES


async def test_a_message_becomes_one_event_with_all_its_fields():
    with capture_logs() as logs:
        given = message(
            7,
            commands=(("silence", "ingestion-monitor silences add --incident 7 --for 4h"),),
            group="contracts",
            thread="k0",
            parts=(message(7), message(8)),
        )
        result = await LogChannel().send(given, key="k1")
    assert result.outcome is SendOutcome.DELIVERED
    assert logs == [
        {
            "event": "incident_message",
            "log_level": "warning",
            "kind": "opened",
            "incident_id": 7,
            "integration": "gloo-prod",
            "environment": "production",
            "cause": "unauthorized",
            "severity": "critical",
            "team": "credentials",
            "also_teams": [],
            "title": "gloo-prod: the API rejects the credentials",
            "what_to_check": ["key rotation", "deployment configuration", "revoked keys"],
            "safe_message": SAFE_MESSAGES[Cause.UNAUTHORIZED],
            "facts": {
                "since": "2026-03-01 11:55:00 UTC",
                "evidence": "1 × 401 from the token endpoint",
                "run 17": "aborted: 120 items tracked, 0 answered, 120 unknown",
                "details": "ingestion-monitor incidents show 1",
            },
            "commands": {"silence": "ingestion-monitor silences add --incident 7 --for 4h"},
            "group": "contracts",
            "thread": "k0",
            "incidents": [7, 8],
            "key": "k1",
        }
    ]
