"""The channel `log`: each message becomes one structured log event."""

import structlog

from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.messages import Message, MessageKind


class LogChannel:
    """Writes each message as the event `incident_message`, at warning level."""

    threaded = False

    async def send(self, message: Message, *, key: str, plain: bool = False) -> SendResult:  # noqa: ARG002  # Channel's signature
        """Logs the message; always delivered."""
        if message.kind is MessageKind.REPORT:
            _log_report(message, key)
            return SendResult(outcome=SendOutcome.DELIVERED, reason="logged")
        structlog.get_logger().warning(
            "incident_message",
            kind=message.kind.value,
            incident_id=message.incident_id,
            integration=message.target,
            environment=message.environment,
            cause=message.cause.value,
            severity=message.severity.value,
            team=message.team.value,
            also_teams=[team.value for team in message.also_teams],
            title=message.title,
            what_to_check=list(message.what_to_check),
            safe_message=message.safe_message,
            facts=dict(message.facts),
            commands=dict(message.commands),
            group=message.group,
            thread=message.thread,
            incidents=[part.incident_id for part in message.parts],
            key=key,
            **({"url": message.url} if message.url else {}),
        )
        return SendResult(outcome=SendOutcome.DELIVERED, reason="logged")


def _log_report(message: Message, key: str) -> None:
    structlog.get_logger().info(
        "report",
        environment=message.environment,
        title=message.title,
        facts=dict(message.facts),
        key=key,
        **({"url": message.url} if message.url else {}),
    )
