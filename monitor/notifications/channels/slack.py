"""The channel `slack`: each message is POSTed to an incoming webhook as blocks, or as text where those are refused.

What may come from outside (names, ids, codes) stands in `plain_text` objects, which Slack reads neither for markup nor
for mentions and links. There are no attachments: Slack folds those, and what to check must be seen.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import accumulate

from monitor.model import Severity
from monitor.model.http import Answer, Request
from monitor.notifications.channels import Verdict
from monitor.notifications.channels.http_post import Post
from monitor.notifications.channels.text import in_lines
from monitor.notifications.messages import Message, MessageKind, for_users, to_text

_ESCAPES: Mapping[str, str] = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
"""The three that Slack wants escaped; `<` would begin a mention (`<!channel>`, `<@U…>`) or a link."""

_CUT = "…"
_ZERO_WIDTH_SPACE = "\u200b"


def calling_nobody(text: str) -> str:
    """The text with every `@` split from what it might call: Slack needs `<!here>`, its look-alikes take `@here`."""
    return text.replace("@", f"@{_ZERO_WIDTH_SPACE}")


def fitted(text: str, limit: int) -> str:
    """The text escaped for Slack, and cut with an ellipsis where it would be longer.

    Args:
        text: without control characters but for line breaks.
        limit: the most characters (> 0), escapes included; those beyond the basic plane count twice, as in JavaScript.
    """
    pieces = [_ESCAPES.get(each, each) for each in text[: limit + 1]]
    if sum(map(_length, pieces)) <= limit:
        return "".join(pieces)
    ends = accumulate(map(_length, pieces))
    return "".join(piece for piece, end in zip(pieces, ends, strict=True) if end <= limit - len(_CUT)) + _CUT


def _length(piece: str) -> int:
    return len(piece.encode("utf-16-le")) // 2


_HEADER, _FIELD, _TEXT = 150, 2000, 3000
"""The most characters of a header, of a section's field, and of any other text (Block Kit's reference)."""
_FIELDS = 10
"""The most fields of one section: five facts, each with its label."""
_MOST_FACTS = 100
"""Twenty sections: far from the 50 blocks that a message may have."""
_MOST_INCIDENTS = 20
"""Numbers of incidents that are named where many were merged."""

_MARKS: Mapping[Severity, str] = {Severity.CRITICAL: "🔴", Severity.WARNING: "🟠", Severity.INFO: "🔵"}
_MARKS_BY_KIND: Mapping[MessageKind, str] = {
    MessageKind.ACKNOWLEDGED: "🟡", MessageKind.RESOLVED: "🟢", MessageKind.TEST: "⚪"
}  # fmt: skip

_SAID: Mapping[str, str] = {
    "action_prohibited": "the workspace does not allow this",
    "channel_is_archived": "the channel is archived",
    "channel_not_found": "the channel does not exist",
    "invalid_payload": "it can't read the message",
    "invalid_token": "the webhook is revoked",
    "no_active_hooks": "the webhook is disabled",
    "no_service": "the webhook is removed or disabled",
    "no_service_id": "the webhook does not exist",
    "no_team": "the workspace does not exist",
    "no_text": "the message is empty",
    "posting_to_general_channel_denied": "the webhook's owner may not post in the general channel",
    "team_disabled": "the workspace is disabled",
    "too_many_attachments": "the message is too long",
    "user_not_found": "the webhook's owner does not exist",
}
"""What an incoming webhook answers a refused message with, by Slack's documentation."""

Block = dict[str, object]


class SlackChannel:
    """Posts messages to one incoming webhook.

    Args:
        read_url: gives the URL, which is a secret, at the time of use.
        ask: sends one request, once, within a deadline of its own. Raises ValueError for a URL that can't be used.
    """

    threaded = False

    def __init__(self, read_url: Callable[[], str], ask: Callable[[Request], Awaitable[Answer]]) -> None:
        self._post = Post(read_url=read_url, ask=ask, template="slack", known=_SAID)

    async def send(self, message: Message, *, key: str, plain: bool = False) -> Verdict:
        """Posts the message as blocks; as plain text where those were refused."""
        return await self._post(as_text(message) if plain else as_blocks(message), key=key)


def as_blocks(message: Message) -> dict[str, object]:
    """The payload as blocks, with the whole message as text for notifications and for clients without blocks."""
    clean = in_lines(message)
    told = [*_facts(_told(clean)), *_checks(clean.what_to_check), *_for_users(clean)]
    made = [_header(clean), *told, _context(clean)]
    return {**as_text(message), "blocks": made}


def as_text(message: Message) -> dict[str, object]:
    """The payload as text alone, in which Slack shall see no markup."""
    text = fitted(calling_nobody(to_text(in_lines(message))), _TEXT)
    return {"text": text, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}


def _header(message: Message) -> Block:
    mark = _MARKS_BY_KIND.get(message.kind) or _MARKS[message.severity]
    return {"type": "header", "text": _plain(f"{mark} {message.title}", _HEADER)}


def _told(message: Message) -> Sequence[tuple[str, str]]:
    """The facts but for the command that tells more, which stands below them."""
    facts = [fact for fact in message.facts if message.parts or fact[1] != _more(message)]
    left_out = len(facts) - _MOST_FACTS
    return [*facts[: _MOST_FACTS - 1], ("…", f"{left_out + 1} more")] if left_out > 0 else facts


def _facts(facts: Sequence[tuple[str, str]]) -> list[Block]:
    fields = [field for label, value in facts for field in (_label(label), _plain(value, _FIELD))]
    return [{"type": "section", "fields": fields[start : start + _FIELDS]} for start in range(0, len(fields), _FIELDS)]


def _label(label: str) -> Block:
    """In bold, unless it could close that itself."""
    if set("*_~`") & set(label):
        return _plain(label, _FIELD)
    return {"type": "mrkdwn", "text": f"*{fitted(label, _FIELD - 2)}*", "verbatim": True}


def _checks(checks: Sequence[str]) -> list[Block]:
    if not checks:
        return []
    return _headed("What to check", "\n".join(f"• {check}" for check in checks))


def _for_users(message: Message) -> list[Block]:
    sentence = for_users(message)
    return _headed("For your users", sentence) if sentence else []


def _headed(heading: str, text: str) -> list[Block]:
    bold = {"type": "mrkdwn", "text": f"*{heading}*", "verbatim": True}
    return [{"type": "section", "text": bold}, {"type": "section", "text": _plain(text, _TEXT)}]


def _context(message: Message) -> Block:
    """The last lines, in small: what kind of incident it is, and below it one command per line."""
    parts = (
        f"{message.cause.value}, {message.severity.value}, for {message.team.value}",
        message.environment,
        f"{message.at:%Y-%m-%d %H:%M} UTC",
        *_incidents(message),
    )
    commands = [f"{what}: {command}" for what, command in message.commands]
    return {"type": "context", "elements": [_plain("\n".join([" · ".join(parts), *commands]), _TEXT)]}


def _incidents(message: Message) -> Sequence[str]:
    if message.kind is MessageKind.TEST:
        return ()
    if not message.parts:
        return (f"incident {message.incident_id}", _more(message))
    left_out = len(message.parts) - _MOST_INCIDENTS
    named = ", ".join(str(part.incident_id) for part in message.parts[:_MOST_INCIDENTS])
    return (f"incidents {named} and {left_out} more" if left_out > 0 else f"incidents {named}",)


def _more(message: Message) -> str:
    return f"ingestion-monitor incidents show {message.incident_id}"


def _plain(text: str, limit: int) -> Block:
    # without `emoji` a colon in an id stays a colon
    return {"type": "plain_text", "text": fitted(text, limit), "emoji": False}
