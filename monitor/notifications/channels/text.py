"""Text from outside made fit for one line, alone or everywhere in a message. Pure; it knows no channel's markup."""

from dataclasses import replace

from monitor.notifications.messages import Message


def one_line(text: str) -> str:
    """The text with each line break, control, bidi or surrogate character as a space; a dash when nothing is left."""
    return "".join(each if each.isprintable() else " " for each in text).strip() or "-"


def to_single_lines(message: Message) -> Message:
    """The message with each of its texts on one line, those of its parts included."""
    return replace(
        message,
        target=one_line(message.target),
        environment=one_line(message.environment),
        title=one_line(message.title),
        what_to_check=tuple(map(one_line, message.what_to_check)),
        safe_message=one_line(message.safe_message) if message.safe_message else message.safe_message,
        facts=_pairs(message.facts),
        group=one_line(message.group) if message.group else "",
        commands=_pairs(message.commands),
        parts=tuple(map(to_single_lines, message.parts)),
    )


def _pairs(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((one_line(label), one_line(value)) for label, value in pairs)
