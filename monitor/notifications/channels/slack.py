"""The channel `slack`: each message is POSTed to an incoming webhook as blocks, or as text where those are refused.

What may come from outside (names, ids, codes) stands in `plain_text` objects, which Slack reads neither for markup nor
for mentions and links. There are no attachments: Slack folds those, and what to check must be seen.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import accumulate

from monitor.model import Severity
from monitor.model.http import CallResult, Request
from monitor.notifications.channels import SendResult
from monitor.notifications.channels.http_post import HttpPost
from monitor.notifications.channels.text import to_single_lines
from monitor.notifications.messages import Message, MessageKind, shown_safe_message, to_text

_ESCAPES: Mapping[str, str] = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
"""The three that Slack wants escaped; `<` would begin a mention (`<!channel>`, `<@U…>`) or a link."""

_ELLIPSIS = "…"
_ZERO_WIDTH_SPACE = "\u200b"


def without_mentions(text: str) -> str:
    """The text with every `@` split from what it might call: Slack needs `<!here>`, its look-alikes take `@here`."""
    return text.replace("@", f"@{_ZERO_WIDTH_SPACE}")


def escape_and_cut(text: str, limit: int) -> str:
    """The text escaped for Slack, and cut with an ellipsis where it would be longer.

    Args:
        text: without control characters but for line breaks.
        limit: the most characters (> 0), escapes included; those beyond the basic plane count twice, as in JavaScript.
    """
    pieces = [_ESCAPES.get(each, each) for each in text[: limit + 1]]
    if sum(map(_utf16_length, pieces)) <= limit:
        return "".join(pieces)
    ends = accumulate(map(_utf16_length, pieces))
    return "".join(piece for piece, end in zip(pieces, ends, strict=True) if end <= limit - len(_ELLIPSIS)) + _ELLIPSIS


def _utf16_length(piece: str) -> int:
    return len(piece.encode("utf-16-le")) // 2


_MAX_HEADER, _MAX_FIELD, _MAX_TEXT = 150, 2000, 3000
"""The most characters of a header, of a section's field, and of any other text (Block Kit's reference)."""
_FIELDS_PER_SECTION = 10
"""The most fields of one section: five facts, each with its label."""
_MAX_FACTS = 100
"""Twenty sections: far from the 50 blocks that a message may have."""
_MAX_INCIDENTS = 20
"""Numbers of incidents that are named where many were merged."""

_SEVERITY_EMOJI: Mapping[Severity, str] = {Severity.CRITICAL: "🔴", Severity.WARNING: "🟠", Severity.INFO: "🔵"}
_KIND_EMOJI: Mapping[MessageKind, str] = {
    MessageKind.ACKNOWLEDGED: "🟡", MessageKind.RESOLVED: "🟢", MessageKind.TEST: "⚪"
}  # fmt: skip

_ERROR_EXPLANATIONS: Mapping[str, str] = {
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

    def __init__(self, read_url: Callable[[], str], send_request: Callable[[Request], Awaitable[CallResult]]) -> None:
        self._http_post = HttpPost(
            read_url=read_url, send_request=send_request, template="slack", explanations=_ERROR_EXPLANATIONS
        )

    async def send(self, message: Message, *, key: str, plain: bool = False) -> SendResult:
        """Posts the message as blocks; as plain text where those were refused."""
        return await self._http_post(as_text(message) if plain else as_blocks(message), key=key)


def as_blocks(message: Message) -> dict[str, object]:
    """The payload as blocks, with the whole message as text for notifications and for clients without blocks."""
    clean = to_single_lines(message)
    sections = [*_fact_sections(_shown_facts(clean)), *_check_section(clean.what_to_check), *_user_section(clean)]
    blocks = [_header(clean), *sections, _context(clean)]
    return {**as_text(message), "blocks": blocks}


def as_text(message: Message) -> dict[str, object]:
    """The payload as text alone, in which Slack shall see no markup."""
    text = escape_and_cut(without_mentions(to_text(to_single_lines(message))), _MAX_TEXT)
    return {"text": text, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}


def _header(message: Message) -> Block:
    emoji = _KIND_EMOJI.get(message.kind) or _SEVERITY_EMOJI[message.severity]
    return {"type": "header", "text": _plain_text(f"{emoji} {message.title}", _MAX_HEADER)}


def _shown_facts(message: Message) -> Sequence[tuple[str, str]]:
    """The facts but for the command that tells more, which stands below them."""
    facts = [fact for fact in message.facts if message.parts or fact[1] != _show_command(message)]
    left_out = len(facts) - _MAX_FACTS
    return [*facts[: _MAX_FACTS - 1], ("…", f"{left_out + 1} more")] if left_out > 0 else facts


def _fact_sections(facts: Sequence[tuple[str, str]]) -> list[Block]:
    fields = [field for label, value in facts for field in (_label_text(label), _plain_text(value, _MAX_FIELD))]
    return [
        {"type": "section", "fields": fields[start : start + _FIELDS_PER_SECTION]}
        for start in range(0, len(fields), _FIELDS_PER_SECTION)
    ]


def _label_text(label: str) -> Block:
    """In bold, unless it could close that itself."""
    if set("*_~`") & set(label):
        return _plain_text(label, _MAX_FIELD)
    return {"type": "mrkdwn", "text": f"*{escape_and_cut(label, _MAX_FIELD - 2)}*", "verbatim": True}


def _check_section(checks: Sequence[str]) -> list[Block]:
    if not checks:
        return []
    return _headed_section("What to check", "\n".join(f"• {check}" for check in checks))


def _user_section(message: Message) -> list[Block]:
    sentence = shown_safe_message(message)
    return _headed_section("For your users", sentence) if sentence else []


def _headed_section(heading: str, text: str) -> list[Block]:
    bold = {"type": "mrkdwn", "text": f"*{heading}*", "verbatim": True}
    return [{"type": "section", "text": bold}, {"type": "section", "text": _plain_text(text, _MAX_TEXT)}]


def _context(message: Message) -> Block:
    """The last lines, in small: what kind of incident it is, and below it one command per line."""
    parts = (
        f"{message.cause.value}, {message.severity.value}, for {message.team.value}",
        message.environment,
        f"{message.at:%Y-%m-%d %H:%M} UTC",
        *_incident_numbers(message),
    )
    commands = [f"{what}: {command}" for what, command in message.commands]
    return {"type": "context", "elements": [_plain_text("\n".join([" · ".join(parts), *commands]), _MAX_TEXT)]}


def _incident_numbers(message: Message) -> Sequence[str]:
    if message.kind is MessageKind.TEST:
        return ()
    if not message.parts:
        return (f"incident {message.incident_id}", _show_command(message))
    left_out = len(message.parts) - _MAX_INCIDENTS
    named = ", ".join(str(part.incident_id) for part in message.parts[:_MAX_INCIDENTS])
    return (f"incidents {named} and {left_out} more" if left_out > 0 else f"incidents {named}",)


def _show_command(message: Message) -> str:
    return f"ingestion-monitor incidents show {message.incident_id}"


def _plain_text(text: str, limit: int) -> Block:
    # without `emoji` a colon in an id stays a colon
    return {"type": "plain_text", "text": escape_and_cut(text, limit), "emoji": False}
