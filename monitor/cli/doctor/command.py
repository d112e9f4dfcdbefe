"""`doctor`: tries each part for real, prints what it finds as it finds it, and says what to mend."""

import asyncio
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from monitor import logs as log
from monitor.cli.doctor import Doctor
from monitor.cli.doctor.database import inspect_host
from monitor.cli.doctor.findings import Finding, Level, doctor_json, exit_code, finding_lines, summary, with_full_stop
from monitor.cli.exit_codes import USAGE
from monitor.cli.session import can_print, configure_logging, print_json, print_lines, select_targets
from monitor.config import Config
from monitor.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorOptions:
    """The command line of `doctor`."""

    targets: tuple[str, ...] = ()
    send_test: bool = False
    as_json: bool = False
    log_level: str | None = None


def doctor(path: Path | None, options: DoctorOptions) -> int:
    """Tries every part and prints what it found.

    Returns:
        0 if there is no problem (warnings included), 2 if the configuration is one, 3 if another part failed.

    Raises:
        ConfigError: an option is wrong; nothing was tried.
    """
    configure_logging(options.log_level)
    printer = _Printer(as_json=options.as_json)
    option = f" --config {shlex.quote(str(path))}" if path is not None else ""
    try:
        config = Config.load(path)
    except ConfigError as error:
        for problem in error.problems:
            printer.add(
                Finding(part="configuration", level=Level.PROBLEM, message=with_full_stop(problem), exit_code=USAGE)
            )
        printer.add(Finding(part="all else", level=Level.NOT_TRIED, message="not tried, as there is no configuration."))
        return printer.finish(option)
    for secret in config.secrets():
        log.register_secret(secret.reveal())
    names = [target.name for target in select_targets(config, options.targets)]
    diagnosis = Doctor(config=config, host=inspect_host(os.environ), option=option)

    async def examine() -> None:
        async for finding in diagnosis.examine(names, test_channels=options.send_test):
            printer.add(finding)

    asyncio.run(examine())
    return printer.finish(option)


class _Printer:
    """Prints findings as they come, or all of them as JSON at the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._findings: list[Finding] = []
        self._ascii_only = not can_print("✓✗→")

    def add(self, finding: Finding) -> None:
        previous = self._findings[-1] if self._findings else None
        self._findings.append(finding)
        if not self._as_json:
            print_lines("\n".join(finding_lines(finding, previous=previous, ascii_only=self._ascii_only)))

    def finish(self, option: str) -> int:
        if self._as_json:
            print_json(doctor_json(self._findings))
        else:
            print_lines("\n" + summary(self._findings, option=option))
        return exit_code(self._findings)
