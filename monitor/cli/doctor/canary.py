"""Whether the canary of a target can work, by its provider's description. Nothing is uploaded."""

from monitor.app.canaries import build_canary_requests
from monitor.cli.doctor.findings import Finding, Level, finding_at, with_full_stop
from monitor.cli.doctor.locations import SettingLocation
from monitor.cli.exit_codes import USAGE
from monitor.config import TargetConfig
from monitor.errors import ConfigError
from monitor.model.durations import format_duration

_PART = "canary"


def check_canary(target: TargetConfig, at: SettingLocation | None) -> list[Finding]:
    """The findings about a target's canary; none if it has none."""
    if target.canary is None:
        return []
    try:
        _, requests = build_canary_requests(target)
    except ConfigError as error:
        return [
            Finding(
                part=_PART,
                level=Level.PROBLEM,
                message=with_full_stop(problem),
                setting=at.setting if at else None,
                location=at.where if at else None,
                exit_code=USAGE,
            )
            for problem in error.problems
        ]
    every = target.canary.every
    when = f"every {format_duration(every)} in the daemon" if every else "by the command alone"
    found = [
        Finding(
            part=_PART,
            level=Level.NOT_TRIED,
            message=f"{when}; not tried, because it uploads a document: `ingestion-monitor canary {target.name}` does.",
        )
    ]
    if requests.find is None:
        message = "the API can't be asked for documents by name: a canary that is killed at its upload may leave one."
        remedy = "describe such a question in [targets.find], if there is one"
        found.append(finding_at(at, _PART, Level.WARNING, message, remedy))
    return found
