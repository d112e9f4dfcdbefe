"""Findings of `doctor`, and how they are printed: as lines of 80 columns, and as JSON."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from monitor.cli.doctor.locations import SettingLocation
from monitor.cli.exit_codes import COULD_NOT_RUN, USAGE

_WIDTH = 80
_LABEL_WIDTH = 15
"""Columns for the part's name, the space behind it included."""


class Level(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    NOT_TRIED = "not_tried"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check."""

    part: str
    """Its name: `database`, `sync log`, `oncall`."""
    level: Level
    message: str
    """One sentence, in our own words; no secret."""
    about: str = ""
    """Its group: `target gloo`, `channels`; empty for general findings."""
    remedy: str = ""
    """What to do; empty if `message` says it."""
    command: str = ""
    """A command that fixes it, to be copied."""
    setting: str | None = None
    """The setting to change: `targets.gloo.sync_log.table`."""
    location: str | None = None
    """Where that is, or belongs: `monitor.toml, line 12`."""
    exit_code: int = COULD_NOT_RUN


def finding_at(
    at: SettingLocation | None, part: str, level: Level, message: str, remedy: str = "", *, command: str = ""
) -> Finding:
    """A finding about a setting."""
    return Finding(
        part=part,
        level=level,
        message=message,
        remedy=remedy,
        command=command,
        setting=at.setting if at else None,
        location=at.where if at else None,
    )


_MARKS = {Level.OK: "✓", Level.WARNING: "!", Level.PROBLEM: "✗", Level.NOT_TRIED: "-"}
_ASCII_MARKS = {**_MARKS, Level.OK: "+", Level.PROBLEM: "x"}


def with_full_stop(text: str) -> str:
    """A sentence, with a full stop if it has no end."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def finding_lines(finding: Finding, *, previous: Finding | None, ascii_only: bool) -> list[str]:
    """A finding as text: its mark, the remedy below, and a heading if its group is not that of the previous one."""
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
    """The last sentence, and the next command on its own line, with `option` added to it."""
    found = list(findings)
    levels = [finding.level for finding in found]
    problems, warnings = levels.count(Level.PROBLEM), levels.count(Level.WARNING)
    text = " and ".join(
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in ((problems, "problem"), (warnings, "warning"))
        if count
    )
    if problems:
        return f"{text}. Fix what is marked, then run again:\n  ingestion-monitor doctor{option}"
    start = f"{text}, no problem." if warnings else "No problem found."
    # an empty log needs items before a check
    first = next((f.command for f in found if f.level is Level.WARNING and f.part == "sync log" and f.command), None)
    return f"{start} Next:\n  {first or f'ingestion-monitor check{option}'}"


def exit_code(findings: Iterable[Finding]) -> int:
    """0 without a problem, 2 when the configuration is one, else 3."""
    codes = {finding.exit_code for finding in findings if finding.level is Level.PROBLEM}
    return USAGE if USAGE in codes else COULD_NOT_RUN if codes else 0


def doctor_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """All findings as JSON values, for `doctor --json`."""
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
