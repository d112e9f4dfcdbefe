"""What is undelivered about one incident on one channel, as one message that tells the whole story. Pure.

A receiver that was down for a night is told how things are and what happened meanwhile, not each step of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from monitor.incidents.message import Message, MessageKind
from monitor.incidents.render import titled

__all__ = ["Condensed", "condense"]

_TURNS = frozenset({MessageKind.OPENED, MessageKind.RESOLVED})
"""Whatever was said before one of these is history."""
_SINCE = "not delivered until now"
"""The label of the fact that tells what was superseded."""
_SEEN = frozenset({"items", "evidence", "statuses", "code", "sample ids", "request ids", "last error"})
"""Facts of an opening that nobody heard of, which its resolution does not repeat."""
_STEPS = {MessageKind.OPENED: "opened", MessageKind.RESOLVED: "resolved", MessageKind.ACKNOWLEDGED: "acknowledged"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condensed:
    """What is sent of a chain of messages, and what it stands for."""

    kept: int
    """Position of the message that is sent."""
    superseded: tuple[int, ...]
    """Positions of those that it tells of too; they are not sent."""
    message: Message
    """The message at `kept`, with what was superseded told in it."""


def condense(chain: Sequence[Message]) -> Condensed:
    """The next message to send of those that are undelivered.

    1. The last opening or resolution supersedes all before it: whoever never heard of the opening hears of both.
    2. Updates and reminders after an undelivered opening become the opening, with what is known by now; among
       themselves the last one stands, as an update if one of them was.
    3. An acknowledgement is sent by itself, after what came before it: some receivers must first know the alert.

    Args:
        chain: the undelivered messages about one incident, oldest first, at least one.

    Returns:
        What to send first. Messages at later positions than `kept` wait for it.
    """
    turn = max((at for at, each in enumerate(chain) if each.kind in _TURNS), default=0)
    barrier = next((at for at in range(turn, len(chain)) if chain[at].kind is MessageKind.ACKNOWLEDGED), len(chain))
    kept = max(turn, barrier - 1)
    told = chain[: kept + 1]
    return Condensed(kept=kept, superseded=tuple(range(kept)), message=_told(told, told[turn : kept + 1]))


def _told(told: Sequence[Message], tail: Sequence[Message]) -> Message:
    last, kinds = tail[-1], {each.kind for each in tail}
    kind = next((each for each in (MessageKind.OPENED, MessageKind.UPDATED) if each in kinds), last.kind)
    if last.kind is not kind:
        last = replace(last, kind=kind, title=titled(kind, last.subject), safe_message=tail[0].safe_message)
    return _with_story(last, told)


def _with_story(message: Message, told: Sequence[Message]) -> Message:
    """Tells the steps that nobody heard of: only turns and acknowledgements are steps, the rest repeats itself."""
    steps = [each for each in told if each.kind in _STEPS]
    if len(steps) < 2:
        return message
    days = {each.at.date() for each in steps}
    form = "%H:%M" if len(days) == 1 else "%Y-%m-%d %H:%M"
    story = ", ".join(f"{_STEPS[each.kind]} {each.at:{form}}" for each in steps)
    title = f"{message.subject or message.title}: {story}" if message.kind is MessageKind.RESOLVED else message.title
    known = dict(message.facts)
    opening = next((each for each in steps if each.kind is MessageKind.OPENED), steps[0])
    seen = [(label, value) for label, value in opening.facts if label in _SEEN and label not in known]
    return replace(message, title=title, facts=((_SINCE, f"{story} UTC"), *message.facts, *seen))
