"""How sentences about settings quote a name and guess at what was meant. Pure; it knows no setting."""

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "listed", "printable", "shown"]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean "…"?` for the nearest of the known names; empty when none is near."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def listed(names: Iterable[str]) -> str:
    """The names in quotes, as people list alternatives: `"a", "b" or "c"`."""
    quoted = [f'"{name}"' for name in names]
    return " or ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))


def shown(text: str) -> str:
    """A name in quotes, printable and no longer than 60 characters."""
    clean = printable(text)
    return f'"{clean}"' if len(clean) <= 60 else f'"{clean[:59]}…"'


def printable(text: str) -> str:
    """The text with a question mark for each character that can't be printed."""
    return "".join(each if each.isprintable() else "?" for each in text)
