"""Objectives as text and JSON, for `slo` and `report`: queries are in `incidents.slo_source`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from monitor.config import Config
from monitor.config.slos import objectives_of
from monitor.incidents.slo import BURN_ALERTS, MIN_BAD, AlertState, BurnAlert, BurnRate, Objective, SloStatus
from monitor.incidents.slo_source import open_incident_ids, read_statuses
from monitor.incidents.slo_texts import (
    UNDECIDED,
    budget_text,
    burn_text,
    format_minute,
    format_rate,
    objective_text,
    share_text,
    spent_text,
)
from monitor.model.durations import format_duration
from monitor.reports.formatting import cut_list, iso, wrap_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class SloRow:
    """One objective of one target."""

    target: str
    objective: Objective
    status: SloStatus | None
    """None before the first run that could ask."""
    incident_id: int | None = None
    """Its open incident."""


def read_all_slos(conn: Connection, *, objectives: Mapping[str, Sequence[Objective]]) -> dict[str, list[SloRow]]:
    """By target, its objectives as of its last run that could ask."""
    promised = {target: found for target, found in objectives.items() if found}
    if not promised:
        return {target: [] for target in objectives}
    statuses = read_statuses(conn, objectives=promised)
    status = {(target, each.objective.name): each for target, found in statuses.items() for each in found}
    open_ids = open_incident_ids(conn, targets=list(promised))
    return {
        target: [
            SloRow(
                target=target,
                objective=each,
                status=status.get((target, each.name)),
                incident_id=open_ids.get((target, each.name)),
            )
            for each in found
        ]
        for target, found in objectives.items()
    }


def configured_slos(conn: Connection, config: Config, *, targets: Sequence[str]) -> list[SloRow]:
    """The objectives of these targets."""
    objectives = {target: objectives_of(config.slos, target) for target in targets}
    return [row for found in read_all_slos(conn, objectives=objectives).values() for row in found]


_NONE_CONFIGURED = "No objective is configured: [[slos]] in monitor.toml, see `ingestion-monitor docs slo`"
_NONE_HERE = "No objective is about this target: see `target` of [[slos]]"
_LABEL = 15


def slos_text(rows: Sequence[SloRow], *, configured: bool = True) -> str:
    """Each objective as a block: what matters first, then the burn rates by window."""
    if not rows:
        return _NONE_HERE if configured else _NONE_CONFIGURED
    return "\n\n".join("\n".join(slo_lines(row)) for row in rows)


def slo_lines(row: SloRow) -> Iterator[str]:
    """One objective: a heading, and its facts."""
    yield f"{row.target}: {row.objective.name}: {verdict_text(row)}"
    yield from _fact("objective", objective_text(row.objective))
    status = row.status
    if status is None:
        yield from _fact("in time", "not known before the first complete run")
        return
    yield from _fact("in time", share_text(status))
    yield from _fact("error budget", budget_text(status))
    yield from _fact("budget spent", spent_text(status))
    yield from _fact("burn rate", ", ".join(_rate_cell(each) for each in status.burn_rates))
    for alert in status.firing:
        yield from _fact("alert", burn_text(status, alert))
    if status.state is AlertState.UNDECIDED:
        yield from _fact("alert", f"undecided: fewer than {MIN_BAD} late uploads, or {UNDECIDED}")
    if row.incident_id is not None:
        yield from _fact("incident", f"{row.incident_id}: ingestion-monitor incidents show {row.incident_id}")
    yield from _fact("as of", format_minute(status.at))


def slo_sentences(row: SloRow) -> Iterator[str]:
    """One objective in a report: what was promised, what became of it, and what is left."""
    yield f"Objective {row.objective.name}: {verdict_text(row)}: {objective_text(row.objective)}."
    status = row.status
    if status is None or status.share is None:
        return
    yield f"{share_text(status)} in time; error budget {budget_text(status)}; spent {spent_text(status)}."


def verdict_text(row: SloRow) -> str:
    """The state in two words or three, for the heading."""
    status = row.status
    if status is None or status.share is None:
        return "no data yet"
    spent = "budget spent" if status.is_spent else ""
    burning = f"burning too fast ({status.severity.value})" if status.severity else ""
    if row.incident_id is not None and status.state is AlertState.UNDECIDED:
        burning = "undecided"
    return ", ".join(filter(None, (burning, spent))) or "ok"


def _rate_cell(measured: BurnRate) -> str:
    rate = "-" if measured.rate is None else f"{format_rate(measured.rate)}×"
    return f"{format_duration(measured.window)} {rate}"


def _fact(label: str, text: str) -> Iterator[str]:
    yield from wrap_lines(f"{label:<{_LABEL}}{text}", indent=2, hang=_LABEL)


def slos_json(rows: Sequence[SloRow]) -> dict[str, Any]:
    """The objectives as JSON values."""
    return cut_list("slos", [slo_json(row) for row in rows])


def slo_json(row: SloRow) -> dict[str, Any]:
    """One objective; what is not known before the first run, or without uploads, is null."""
    objective, status = row.objective, row.status
    described = {
        "target": row.target,
        "name": objective.name,
        "group": objective.group,
        "objective": objective.objective,
        "within_s": objective.within.total_seconds(),
        "window_s": objective.window.total_seconds(),
        "incident": row.incident_id,
    }
    if status is None:
        return {**described, **dict.fromkeys(_MEASURED), "burn_rates": [], "alerts": []}
    return {
        **described,
        "as_of": iso(status.at),
        "total": status.total,
        "good": status.good,
        "ratio": status.share,
        "error_budget_remaining": status.budget_left,
        "error_budget_remaining_uploads": status.budget_left_uploads,
        "error_budget_spent_at": iso(status.spent_at),
        "state": status.state.value,
        "severity": status.severity.value if status.severity else None,
        "burn_rates": [
            {"window_s": each.window.total_seconds(), "rate": each.rate, "total": each.total, "late": each.bad}
            for each in status.burn_rates
        ],
        "alerts": [_alert_json(alert, status) for alert in BURN_ALERTS],
    }


_MEASURED = (
    "as_of", "total", "good", "ratio", "error_budget_remaining", "error_budget_remaining_uploads",
    "error_budget_spent_at", "state", "severity",
)  # fmt: skip


def _alert_json(alert: BurnAlert, status: SloStatus) -> dict[str, Any]:
    return {
        "long_window_s": alert.long.total_seconds(),
        "short_window_s": alert.short.total_seconds(),
        "threshold": alert.threshold(status.objective),
        "severity": alert.severity.value,
        "firing": alert in status.firing,
    }
