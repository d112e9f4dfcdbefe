"""What somebody asks a silence to match, read and checked. Pure; it knows no option of a command."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from monitor.incidents.matching import ATTRIBUTES, Matchers, literally
from monitor.model import Cause, Incident, Severity, Team

__all__ = ["matchers_for", "matchers_in", "matches_everything", "mistakes", "written"]

_LONGEST_PATTERN = 200
_WORDS: Mapping[str, tuple[str, ...]] = {
    "cause": tuple(each.value for each in Cause),
    "team": tuple(each.value for each in Team),
    "severity": tuple(each.value for each in Severity),
}
"""Attributes whose values are all known: a pattern that matches none of them is a slip."""


def matchers_for(incident: Incident) -> Matchers:
    """What matches an incident and whatever comes after it under the same key."""
    key = {"cause": incident.cause.value, "target": incident.target}
    key |= {"group": incident.group} if incident.group else {}
    return {name: (literally(value),) for name, value in key.items()}


def matchers_in(texts: Sequence[str]) -> Matchers:
    """Reads `ATTRIBUTE=PATTERN`; patterns of one attribute are alternatives. `mistakes` says what it can't be."""
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, pattern = text.partition("=")
        found[name.strip()] = (*found.get(name.strip(), ()), pattern.strip())
    return found


def mistakes(matchers: Matchers) -> list[str]:
    """What is wrong with matchers, a sentence each; none when they can match something."""
    each_one = (_mistake(name, pattern) for name, patterns in matchers.items() for pattern in patterns)
    return [said for said in each_one if said]


def _mistake(name: str, pattern: str) -> str:
    if name not in ATTRIBUTES:
        return f"there is no attribute {name!a}; write ATTRIBUTE=PATTERN with one of {', '.join(ATTRIBUTES)}"
    if not (pattern and pattern.isprintable() and len(pattern) <= _LONGEST_PATTERN):
        return f"{name} needs a pattern of 1 to {_LONGEST_PATTERN} printable characters, as in {name}=a*"
    words = _WORDS.get(name, ())
    if words and not any(fnmatchcase(word, pattern) for word in words):
        return f"there is no {name} like {pattern}; there are {', '.join(words)}"
    return ""


def matches_everything(matchers: Matchers) -> bool:
    """Whether matchers leave nothing out."""
    return all(any(pattern.strip("*") == "" for pattern in patterns) for patterns in matchers.values())


def written(matchers: Matchers) -> str:
    """Matchers as they are asked for: `cause=outage target=gloo-*|uppzy`."""
    return " ".join(f"{name}={'|'.join(patterns)}" for name, patterns in matchers.items())
