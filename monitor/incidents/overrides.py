"""The rule in force for each cause on one target: the built-in one, with what the configuration changes laid over it.

It keeps where each value came from. Pure: what a `[[rules]]` table may hold, and which of them are wrong, is the
configuration's business.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from monitor.incidents.rulebook import DEFAULT_RULES, Rule
from monitor.model import Cause

__all__ = ["Flaw", "InForce", "Override", "flaw", "in_force"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """What one `[[rules]]` table changes."""

    cause: Cause
    changes: Mapping[str, Any]
    """Field of `Rule` to its value."""
    targets: tuple[str, ...] = ()
    """Glob patterns of the targets that it is for (case counts); none: all."""
    source: str
    """What it is called: `rules[2]`."""

    def is_for(self, target: str) -> bool:
        """Whether it changes the rule of a target, or of what stands in a target's place (`channel:oncall`)."""
        return not self.targets or any(fnmatchcase(target, pattern) for pattern in self.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """A rule, and where its values came from."""

    rule: Rule
    sources: Mapping[str, str] = field(default_factory=dict)
    """Field to the table that says its value; what is not in it is built in."""

    @property
    def changed_by(self) -> tuple[str, ...]:
        """The tables that say any of its values, in the order in which they were first heeded; none: it is built in."""
        return tuple(dict.fromkeys(self.sources.values()))


def in_force(overrides: Iterable[Override], target: str) -> Mapping[Cause, InForce]:
    """The rule of every cause on one target.

    Args:
        overrides: in the order of the configuration: of two that say the same, the later one holds.
        target: its name; for `channel_failing` what stands in its place, `channel:NAME`.
    """
    layered = {cause: InForce(rule=rule) for cause, rule in DEFAULT_RULES.items()}
    for override in overrides:
        if override.is_for(target):
            layered[override.cause] = _laid_over(layered[override.cause], override)
    return layered


def _laid_over(below: InForce, override: Override) -> InForce:
    changes = dict(override.changes)
    if "runs" in changes:
        # `runs = 3` alone means three in a row, whatever `of` was before.
        changes.setdefault("of", changes["runs"])
    sources = {**below.sources, **dict.fromkeys(changes, override.source)}
    return InForce(rule=replace(below.rule, **changes), sources=sources)


class Flaw(StrEnum):
    """Why a rule could never open an incident."""

    TOO_FEW_RUNS = "it asks for evidence in more runs than it looks at"
    TOO_LONG_A_SPAN = "no two runs inside the window lie as far apart as it asks"


def flaw(rule: Rule) -> Flaw | None:
    """Why a rule could never open an incident, or None.

    A span beyond the window would let only a run that is alone in the window open one, which nobody means by a span.
    """
    if rule.runs > rule.of:
        return Flaw.TOO_FEW_RUNS
    return Flaw.TOO_LONG_A_SPAN if rule.span > rule.window else None
