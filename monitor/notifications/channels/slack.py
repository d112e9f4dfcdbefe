"""The channel `slack`: each message is POSTed to an incoming webhook as blocks, or as text if Slack refuses blocks.

Names, ids and codes may come from outside: they go into `plain_text` objects, in which Slack ignores markup, mentions
and links. Attachments are not used, since Slack folds them and would hide what to check.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import accumulate

from monitor.model import Severity
from monitor.model.http import CallResult, Reply, Request
from monitor.notifications import messages
from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.channels.http_post import HttpPost, is_page, read_api, stated_error, unaccepted
from monitor.notifications.messages import Message, MessageKind

_ESCAPES: Mapping[str, str] = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
"""`<` begins a mention (`<!channel>`, `<@U…>`) or a link."""

_ELLIPSIS = "…"
_SEPARATOR = " · "
_ZERO_WIDTH_SPACE = "\u200b"


def without_mentions(text: str) -> str:
    """The text with a zero-width space after every `@`: services like Slack take `@here` for a mention."""
    return text.replace("@", f"@{_ZERO_WIDTH_SPACE}")


def escape_and_cut(text: str, limit: int) -> str:
    """The text (no control characters except line breaks) escaped for Slack and, if it is longer than `limit` UTF-16
    code units, escapes included, cut with an ellipsis.
    """
    pieces = [_ESCAPES.get(each, each) for each in text[: limit + 1]]
    if sum(map(_utf16_length, pieces)) <= limit:
        return "".join(pieces)
    ends = accumulate(map(_utf16_length, pieces))
    return "".join(piece for piece, end in zip(pieces, ends, strict=True) if end <= limit - len(_ELLIPSIS)) + _ELLIPSIS


def _utf16_length(piece: str) -> int:
    return len(piece.encode("utf-16-le")) // 2


_MAX_HEADER, _MAX_FIELD, _MAX_TEXT = 150, 2000, 3000
"""Characters of a header, of a section's field, and of any other text (Block Kit reference)."""
_FIELDS_PER_SECTION = 10
"""Five facts, each with its label."""
_MAX_FACTS = 100
"""Twenty sections; a message may have 50 blocks."""
_MAX_INCIDENTS = 20
"""Incident numbers that a merged message names."""

_SEVERITY_EMOJI: Mapping[Severity, str] = {Severity.CRITICAL: "🔴", Severity.WARNING: "🟠", Severity.INFO: "🔵"}
_KIND_EMOJI: Mapping[MessageKind, str] = {
    MessageKind.ACKNOWLEDGED: "🟡", MessageKind.RESOLVED: "🟢", MessageKind.TEST: "⚪"
}  # fmt: skip

_ERROR_EXPLANATIONS: Mapping[str, str] = {
    "action_prohibited": "the workspace does not allow this",
    "channel_is_archived": "the channel is archived",
    "channel_not_found": "the channel does not exist",
    "invalid_payload": "Slack can't read the message",
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
"""Response bodies of incoming webhooks, from Slack's documentation."""

_SUSPENDING_ERRORS = frozenset({
    "access_denied", "account_inactive", "action_prohibited", "channel_is_archived", "channel_not_found",
    "ekm_access_denied", "enterprise_is_restricted", "invalid_auth", "invalid_token", "is_archived", "is_inactive",
    "missing_scope", "no_active_hooks", "no_permission", "no_service", "no_service_id", "no_team",
    "not_allowed_token_type", "not_authed", "not_in_channel", "org_login_required",
    "posting_to_general_channel_denied", "restricted_action",
    "restricted_action_non_threadable_channel", "restricted_action_read_only_channel",
    "restricted_action_thread_locked", "restricted_action_thread_only_channel", "team_access_not_granted",
    "team_disabled", "team_not_found", "token_expired", "token_revoked", "two_factor_setup_required", "user_not_found",
})  # fmt: skip
"""Errors of `chat.postMessage` and of incoming webhooks that no other message would avoid."""
_REFUSING_ERRORS = frozenset({
    "as_user_not_supported", "block_mismatch", "cannot_parse_attachment", "invalid_arguments", "invalid_attachments",
    "invalid_blocks", "invalid_blocks_format", "invalid_charset", "invalid_form_data", "invalid_json",
    "invalid_metadata_format", "invalid_metadata_schema", "invalid_payload", "invalid_post_type", "json_not_object",
    "markdown_text_conflict", "metadata_too_large", "missing_post_type", "msg_blocks_too_long", "msg_too_long",
    "no_text", "too_many_attachments", "too_many_contact_cards",
})  # fmt: skip
"""The same for errors about this message."""
_PASSING_ERRORS = frozenset({
    "accesslimited", "fatal_error", "internal_error", "message_limit_exceeded", "rate_limited", "ratelimited",
    "request_timeout", "service_unavailable", "team_added_to_org",
})  # fmt: skip
"""The same for errors that pass. An error that is not described is tried again as well."""

Block = dict[str, object]


class SlackChannel:
    """Posts messages to one incoming webhook; `read_url` and `send_request` as in `HttpPost`."""

    threaded = False

    def __init__(self, read_url: Callable[[], str], send_request: Callable[[Request], Awaitable[CallResult]]) -> None:
        self._http_post = HttpPost(
            read_url=read_url,
            send_request=send_request,
            template="slack",
            explanations=_ERROR_EXPLANATIONS,
            read_answer=read_answer,
        )

    async def send(self, message: Message, *, key: str, plain: bool = False) -> SendResult:
        """Posts the message as blocks, or as text if `plain`."""
        return await self._http_post(as_text(message) if plain else as_blocks(message), key=key)


def read_answer(reply: Reply) -> SendResult | None:
    """What Slack, or a relay in front of it, says in a 2xx response; None if it does not say no.

    Slack's API and relays answer 200 with `{"ok": false, "error": "channel_not_found"}`. Only known error codes become
    part of the reason: other text may repeat a secret.
    """
    text = reply.body.decode("utf-8-sig", errors="replace").strip()
    error = text if text in _ERROR_EXPLANATIONS else stated_error(reply.body)
    if is_page(reply.body) or error is None:
        return read_api(reply)
    known = error in _SUSPENDING_ERRORS or error in _REFUSING_ERRORS or error in _PASSING_ERRORS
    explanation = _ERROR_EXPLANATIONS.get(error, error.replace("_", " ")) if known else "an error that is not described"
    reason = f"HTTP {reply.status}, but not accepted: {explanation}"
    if error in _SUSPENDING_ERRORS:
        return SendResult(outcome=SendOutcome.SUSPENDED, reason=reason)
    if error in _REFUSING_ERRORS:
        return SendResult(outcome=SendOutcome.REFUSED, reason=reason)
    return unaccepted(reply, f"not accepted: {explanation}")


def as_blocks(message: Message) -> dict[str, object]:
    """The payload as blocks, and as text for notifications and for clients without blocks."""
    clean = messages.to_single_lines(message)
    if message.kind is MessageKind.REPORT:
        return {**as_text(message), "blocks": _report_blocks(clean)}
    checks = "\n".join(f"• {check}" for check in clean.what_to_check)
    emoji = _KIND_EMOJI.get(message.kind) or _SEVERITY_EMOJI[message.severity]
    blocks = [
        {"type": "header", "text": _plain_text(f"{emoji} {clean.title}", _MAX_HEADER)},
        *_fact_sections(_shown_facts(clean)),
        *_headed_section("What to check", checks),
        *_headed_section("For your users", messages.shown_safe_message(clean)),
        *_links(clean),
        _context(clean),
    ]
    return {**as_text(message), "blocks": blocks}


def _report_blocks(message: Message) -> list[Block]:
    when = f"{message.at:%Y-%m-%d %H:%M} UTC · environment: {message.environment}"
    return [
        {"type": "header", "text": _plain_text(f"📊 {message.title}", _MAX_HEADER)},
        *_fact_sections(_shown_facts(message)),
        *_links(message),
        {"type": "context", "elements": [_plain_text(when, _MAX_TEXT)]},
    ]


def as_text(message: Message) -> dict[str, object]:
    """The payload as text only, without markup."""
    text = escape_and_cut(without_mentions(messages.to_text(messages.to_single_lines(message))), _MAX_TEXT)
    return {"text": text, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}


def _shown_facts(message: Message) -> Sequence[tuple[str, str]]:
    """The facts without the command for details, which is in the last block."""
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
    """In bold, unless the label holds markup characters."""
    if set("*_~`") & set(label):
        return _plain_text(label, _MAX_FIELD)
    return {"type": "mrkdwn", "text": f"*{escape_and_cut(label, _MAX_FIELD - 2)}*", "verbatim": True}


def _headed_section(heading: str, text: str | None) -> list[Block]:
    if not text:
        return []
    bold = {"type": "mrkdwn", "text": f"*{heading}*", "verbatim": True}
    return [{"type": "section", "text": bold}, {"type": "section", "text": _plain_text(text, _MAX_TEXT)}]


def _links(message: Message) -> list[Block]:
    """Links to the page: our own texts and addresses, the only ones that Slack makes clickable."""
    found = [f"<{escape_and_cut(url, _MAX_TEXT)}|Open {label}>" for label, url in messages.links(message)]
    while sum(map(_utf16_length, found)) + len(_SEPARATOR) * len(found) > _MAX_TEXT:
        del found[-2]  # the last one leads to all
    if not found:
        return []
    return [{"type": "section", "text": {"type": "mrkdwn", "text": _SEPARATOR.join(found), "verbatim": True}}]


def _context(message: Message) -> Block:
    """The last lines, in small print: the incident's attributes, then one command per line."""
    parts = (
        f"cause: {message.cause.value}",
        *messages.attribute_texts(message),
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
    # `emoji` would turn `:name:` in an id into a picture
    return {"type": "plain_text", "text": escape_and_cut(text, limit), "emoji": False}
