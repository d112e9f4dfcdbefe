"""JSON lines: an object per line, or the bare id as text or number."""

from collections.abc import Iterator, Mapping

import msgspec

from monitor.importing.lines import LONGEST_LINE, Lines, LineTooLongError
from monitor.importing.spec import ITEM_ID, BadLine, Blank, FileSpec, Line, entry_of, shown
from monitor.model import LogEntry

__all__ = ["records"]

_KEYS_NAMED = 8


def records(lines: Lines, spec: FileSpec) -> Iterator[Line]:
    """Reads each line by itself, so that a broken one costs nothing but itself.

    Raises:
        ConfigError: the file can't be read as text.
    """
    while True:
        try:
            line = next(lines)
        except StopIteration:
            return
        except LineTooLongError:
            found: LogEntry | str = f"it is longer than {LONGEST_LINE} bytes"
        else:
            if not line.strip():
                yield Blank(line=lines.number)
                continue
            found = _record(line, spec)
        yield BadLine(first=lines.number, last=lines.number, reason=found) if isinstance(found, str) else found


def _record(line: str, spec: FileSpec) -> LogEntry | str:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        return f"it is not JSON ({error})"
    if not isinstance(value, dict):
        value = {spec.id_column or ITEM_ID: value}
    return _entry(value, spec)


def _entry(value: Mapping[str, object], spec: FileSpec) -> LogEntry | str:
    key = spec.id_column or ITEM_ID
    if key not in value:
        keys = ", ".join(shown(name) for name in list(value)[:_KEYS_NAMED])
        return f"it has no {shown(key)}" + (f"; its keys are {keys}" if keys else "")
    item_id, group = _text(value[key]), value.get(spec.group_column or "")
    if item_id is None:
        return f"its id is neither text nor a whole number: {shown(value[key])}"
    if group is not None and _text(group) is None:
        return f"its group is neither text nor a whole number: {shown(group)}"
    submitted_at = value.get(spec.submitted_at_column or "")
    return entry_of(item_id=item_id, submitted_at=submitted_at, group=_text(group), zone=spec.zone)


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
