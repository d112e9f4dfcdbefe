"""Canaries on their schedule: when each is due, and one of them. They run beside the runs of their targets."""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from monitor.app import App
from monitor.config import Config, TargetConfig
from monitor.model.schedule import DueTimes
from monitor.runs.canary.model import CanaryReport, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryChanges:
    """Targets whose canaries a new configuration schedules, and no more; one with another interval is in both."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


def canary_times_of(config: Config) -> dict[str, DueTimes]:
    """When the canaries of each target are due, for those that have a schedule."""
    times = {each.name: each.canary.due_times(each.name) for each in config.targets if each.canary is not None}
    return {name: due for name, due in times.items() if due is not None}


def canary_changes(old: Config, new: Config) -> CanaryChanges:
    """Compares the schedules of canaries."""
    before, after = canary_times_of(old), canary_times_of(new)
    return CanaryChanges(
        added=tuple(name for name, due in after.items() if before.get(name) != due),
        removed=tuple(name for name, due in before.items() if after.get(name) != due),
    )


async def no_run_key() -> str | None:
    """Canaries have intervals alone, so that no earlier run key matters."""
    return None


async def run_canary(
    app: App, target: TargetConfig, *, run_key: str, interrupt: asyncio.Event, lease: timedelta
) -> CanaryReport:
    """Runs one canary and logs how it ended. Raises as `Canary`."""
    from monitor.app.canaries import build_canary_job
    from monitor.runs.canary.canary import Canary

    job = replace(build_canary_job(app, target), lease_ttl=lease)
    report = await Canary(job, interrupt=interrupt, run_key=run_key)()
    failure = report.failure
    structlog.get_logger().info(
        "canary_finished",
        integration=report.target,
        environment=job.environment,
        status=report.status.value,
        slow=report.slow,
        failed_step=failure and failure.step.value,
        code=failure and failure.code,
        http_status=failure and failure.http_status,
        request_id=failure and failure.request_id,
        item_id=report.document.item_id,
        clean_up=report.clean_up.value,
        leftovers=report.leftovers,
        **{f"{step.value}_s": report.durations_s.get(step) for step in Step},
    )
    return report
