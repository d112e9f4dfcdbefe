"""Dotted paths into JSON values (`data.status`, `documents.0.state`), and single values as text. Pure."""

_MAX_INTEGER = 1 << 63


def value_at(value: object, path: str) -> object:
    """What lies at the path.

    Args:
        value: a decoded JSON value.
        path: names of an object's members and numbers (from 0) of an array's elements, joined by dots; empty for the
            value itself. A member whose own name holds a dot can't be reached.

    Returns:
        The value there; None when nothing is there, as for a null.
    """
    for step in path.split(".") if path else ():
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < len(str(_MAX_INTEGER)):
            value = value[int(step)] if int(step) < len(value) else None
        else:
            return None
    return value


def scalar_text(value: object) -> str | None:
    """A text, whole number or boolean as text (`true`, `false`); None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and -_MAX_INTEGER < value < _MAX_INTEGER:
        return str(value)
    return None
