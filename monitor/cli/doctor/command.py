"""`doctor`: tries each part, prints each finding at once, and says what to fix."""

from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli.exit_codes import USAGE
from monitor.cli.options import AsJson, ConfigPath, LogLevel, TargetNames
from monitor.cli.session import can_print, configure_logging, print_json, print_lines, register_secrets, select_targets
from monitor.errors import ConfigError

if TYPE_CHECKING:
    from monitor.cli.doctor.findings import Finding


def doctor(
    config: ConfigPath = None,
    target: TargetNames = None,
    send_test: Annotated[bool, typer.Option("--send-test", help="Send a test message on each channel.")] = False,
    as_json: AsJson = False,
    log_level: LogLevel = None,
) -> None:
    """Try each part for real, and say what to fix.

    It names the setting and its line. It asks the API for a token, one item and the list, and changes nothing; only a
    SQLite database that is missing or old is brought to this program's schema, as `check` would.

    Exit code: 0 no problem (there may be warnings), 2 the configuration is wrong, 3 another part failed.

    Example: ingestion-monitor doctor --send-test
    """
    import os
    import shlex

    from monitor.cli import event_loop
    from monitor.cli.doctor.database import inspect_host
    from monitor.cli.doctor.examine import Doctor
    from monitor.cli.doctor.findings import Finding, Level, with_full_stop
    from monitor.config import load_config

    configure_logging(log_level)
    option = f" --config {shlex.quote(str(config))}" if config is not None else ""
    printer = _Printer(as_json=as_json)
    try:
        loaded = load_config(config)
    except ConfigError as error:
        for problem in error.problems:
            printer.add(
                Finding(part="configuration", level=Level.PROBLEM, message=with_full_stop(problem), exit_code=USAGE)
            )
        printer.add(
            Finding(part="all else", level=Level.NOT_TRIED, message="not tried: the configuration is unusable.")
        )
        raise typer.Exit(printer.finish(option)) from None
    register_secrets(loaded)
    names = [each.name for each in select_targets(loaded, target or ())]
    examination = Doctor(config=loaded, host=inspect_host(os.environ), option=option)

    async def examine() -> None:
        async for finding in examination.examine(names, test_channels=send_test):
            printer.add(finding)

    event_loop.run(examine())
    raise typer.Exit(printer.finish(option))


class _Printer:
    """Prints findings as they come, or all of them as JSON at the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._findings: list[Finding] = []
        self._ascii_only = not can_print("✓✗→")

    def add(self, finding: "Finding") -> None:
        from monitor.cli.doctor.findings import finding_lines

        previous = self._findings[-1] if self._findings else None
        self._findings.append(finding)
        if not self._as_json:
            print_lines("\n".join(finding_lines(finding, previous=previous, ascii_only=self._ascii_only)))

    def finish(self, option: str) -> int:
        """Prints the summary or the JSON; returns the exit code."""
        from monitor.cli.doctor.findings import doctor_json, exit_code, summary

        if self._as_json:
            print_json(doctor_json(self._findings))
        else:
            print_lines("\n" + summary(self._findings, option=option))
        return exit_code(self._findings)
