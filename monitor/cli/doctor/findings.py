"""What `doctor` found out, part by part: findings, as lines that read well at 80 columns and as JSON values."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from monitor.cli.exit_codes import COULD_NOT_RUN, USAGE

_WIDTH = 80
_LABEL_WIDTH = 15
"""Columns for the part's name, the space behind it included."""


class Level(StrEnum):
    """How a part is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    NOT_TRIED = "not_tried"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found out about one part."""

    part: str
    """Its name: `database`, `sync log`, `oncall`."""
    level: Level
    message: str
    """One sentence, in our own words; no secret."""
    about: str = ""
    """The group it belongs to: `target gloo`, `channels`; empty for what concerns all."""
    remedy: str = ""
    """What to do; empty where `message` has it."""
    command: str = ""
    """A command that mends it, to be copied."""
    setting: str | None = None
    """The setting to look at: `targets.gloo.sync_log.table`."""
    location: str | None = None
    """Where that stands, or belongs: `monitor.toml, line 12`."""
    exit_code: int = COULD_NOT_RUN
    """Of `doctor`, if this is a problem."""


_MARKS = {Level.OK: "✓", Level.WARNING: "!", Level.PROBLEM: "✗", Level.NOT_TRIED: "-"}
_ASCII_MARKS = {**_MARKS, Level.OK: "+", Level.PROBLEM: "x"}


def with_full_stop(text: str) -> str:
    """A sentence with its full stop, unless it ends already."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def finding_lines(finding: Finding, *, previous: Finding | None, ascii_only: bool) -> list[str]:
    """A finding for people: a line with its mark, what to do below it, and a heading where a new group begins.

    Args:
        finding: what to print.
        previous: what was printed before it.
        ascii_only: for terminals and pipes that know no ✓.
    """
    heading = [] if finding.about == (previous.about if previous else "") else ["", finding.about]
    mark = (_ASCII_MARKS if ascii_only else _MARKS)[finding.level]
    label = f"{mark} {finding.part}"
    indent = " " * (_LABEL_WIDTH + 2)
    lines = _wrapped(f"{label:<{len(indent) - 1}} {finding.message}", indent)
    arrow = "->" if ascii_only else "→"
    for text in (finding.remedy, _location_text(finding)):
        if text:
            lines += _wrapped(f"{indent}{arrow} {text}", indent + "   "[: len(arrow) + 1])
    if finding.command:
        lines.append(f"{indent}{arrow} {finding.command}")  # a command that is broken into lines can't be copied
    return [*heading, *lines]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH - 1, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _location_text(finding: Finding) -> str:
    if finding.level in {Level.OK, Level.NOT_TRIED} or finding.setting is None:
        return ""
    return f"{finding.setting} ({finding.location})" if finding.location else finding.setting


def summary(findings: Iterable[Finding], *, option: str = "") -> str:
    """The last sentence, and the next step as a command on a line of its own.

    Args:
        findings: all of them.
        option: what the next command needs to read the same configuration, such as ` --config other.toml`.
    """
    found = list(findings)
    levels = [finding.level for finding in found]
    problems, warnings = levels.count(Level.PROBLEM), levels.count(Level.WARNING)
    text = " and ".join(
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in ((problems, "problem"), (warnings, "warning"))
        if count
    )
    if problems:
        return f"{text}: mend what is marked, then try again:\n  ingestion-monitor doctor{option}"
    start = f"{text}, and nothing that keeps it from running." if warnings else "All is well."
    # what an empty log needs comes before a check that would find nothing
    first = next((f.command for f in found if f.level is Level.WARNING and f.part == "sync log" and f.command), None)
    return f"{start} Next:\n  {first or f'ingestion-monitor check{option}'}"


def exit_code(findings: Iterable[Finding]) -> int:
    """0 without a problem, 2 when the configuration is one, else 3."""
    codes = {finding.exit_code for finding in findings if finding.level is Level.PROBLEM}
    return USAGE if USAGE in codes else COULD_NOT_RUN if codes else 0


def doctor_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The same as JSON values, for `doctor --json`."""
    code = exit_code(findings)
    return {
        "ok": code == 0,
        "exit_code": code,
        "findings": [
            {
                "about": finding.about or None,
                "part": finding.part,
                "level": finding.level.value,
                "message": finding.message,
                "remedy": finding.remedy or None,
                "command": finding.command or None,
                "setting": finding.setting,
                "location": finding.location,
            }
            for finding in findings
        ],
    }
