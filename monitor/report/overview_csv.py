"""The trend of a report as CSV for spreadsheets: a row per target and span, with the columns of the view `history`."""

import csv
import io
from dataclasses import fields
from datetime import datetime
from enum import Enum
from itertools import pairwise

from monitor.report.overview import Overview
from monitor.store.runs import HistoryRow

__all__ = ["COLUMNS", "overview_csv"]

_HISTORY = tuple(field.name for field in fields(HistoryRow))
COLUMNS = (*_HISTORY, "span_started_at", "span_ended_at")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def overview_csv(overview: Overview) -> str:
    """A heading, then per target and span of the period its last snapshot, oldest first.

    A span in which no run stored numbers has a row with nothing but the target and the span's bounds. Text that a
    spreadsheet would take for a formula gets an apostrophe before it.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for target in overview.targets:
        for (start, end), mark in zip(pairwise(overview.bounds), target.facts.marks, strict=True):
            values = {name: getattr(mark, name) for name in _HISTORY} if mark else {"target": target.facts.target}
            values |= {"span_started_at": start, "span_ended_at": end}
            writer.writerow([_cell(values.get(name)) for name in COLUMNS])
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    text = value.value if isinstance(value, Enum) else value
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text
