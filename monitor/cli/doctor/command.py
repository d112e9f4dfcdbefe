"""`doctor`: tries each part for real, prints what it finds as it finds it, and says what to mend."""

import asyncio
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from monitor import logs as log
from monitor.cli.doctor import Doctor
from monitor.cli.doctor.database import look_around
from monitor.cli.doctor.findings import Finding, Level, doctor_json, ended, exit_code, finding_lines, summary
from monitor.cli.exit_codes import USAGE
from monitor.cli.session import can_print, chosen, configure_logging, print_json, print_lines
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
            printer.tell(Finding(part="configuration", level=Level.PROBLEM, says=ended(problem), exit_code=USAGE))
        printer.tell(Finding(part="all else", level=Level.NOT_TRIED, says="not tried, as there is no configuration."))
        return printer.end(option)
    for secret in config.secrets():
        log.register_secret(secret.reveal())
    names = [target.name for target in chosen(config, options.targets)]
    examiner = Doctor(config=config, surroundings=look_around(os.environ), option=option)

    async def examine() -> None:
        async for finding in examiner.examine(names, test_channels=options.send_test):
            printer.tell(finding)

    asyncio.run(examine())
    return printer.end(option)


class _Printer:
    """Prints findings as they come, or all of them as JSON at the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._told: list[Finding] = []
        self._ascii_only = not can_print("✓✗→")

    def tell(self, finding: Finding) -> None:
        after = self._told[-1] if self._told else None
        self._told.append(finding)
        if not self._as_json:
            print_lines("\n".join(finding_lines(finding, after=after, ascii_only=self._ascii_only)))

    def end(self, option: str) -> int:
        if self._as_json:
            print_json(doctor_json(self._told))
        else:
            print_lines("\n" + summary(self._told, option=option))
        return exit_code(self._told)
