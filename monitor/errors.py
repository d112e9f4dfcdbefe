"""Errors that end a command or a run. Failures that a run expects (an API that is down, a 404) are results, not errors.

MonitorError                     the root: one sentence for people, and the command's exit code
├── ConfigError                  the configuration or usage is wrong: before any network or write
├── StoreError                   our own database can't be used
│   ├── StoreUnavailableError    for the moment: locked, restarting, unreachable
│   ├── RunOverdueError          a run did not end in time, since this or something else does not answer
│   └── SchemaError              its schema is missing or not this program's version
├── SyncLogError                 the user's sync log can't be read
│   └── SyncLogUnavailableError  for the moment: locked, restarting, unreachable
├── RunCrashedError              a run ended by an error that nobody foresaw
├── TargetNotHereError           a job's target is not configured in this worker
├── LeaseHeldError               another run of the target is in progress
├── RunAlreadyExecutedError      the run key was already executed
└── LeaseLostError               another process took over our lease: write nothing more
"""

from collections.abc import Sequence
from datetime import datetime, timedelta


class MonitorError(Exception):
    """The root of all errors that leave a command.

    The text is one sentence: what is wrong, where, what to do. It never has a secret or a connection URL.
    """

    exit_code = 3


class ConfigError(MonitorError):
    """The configuration or the usage is wrong; `problems` are all that were found, each a sentence with key and fix."""

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class StoreError(MonitorError):
    """The monitor's own database can't be reached, read or written."""


class StoreUnavailableError(StoreError):
    """The database can't be used for the moment: a retry may succeed.

    If the connection broke during a commit, it is unknown whether the commit succeeded.
    """


class RunOverdueError(StoreError):
    """A run did not end by its deadline and its grace, and was ended: something that it needs does not answer."""


class SchemaError(StoreError):
    """The database's schema is not the one that this program needs. `needs_upgrade`: `db upgrade` fixes it, and another
    process may be about to run that.
    """

    def __init__(self, text: str, *, needs_upgrade: bool = False) -> None:
        self.needs_upgrade = needs_upgrade
        super().__init__(text)


class SyncLogError(MonitorError):
    """The user's sync log can't be read: the file, the server, the table or a column is missing."""


class SyncLogUnavailableError(SyncLogError):
    """The sync log can't be read for the moment: a retry may succeed."""


class RunGivenBackError(MonitorError):
    """A signal ended a run of a worker, which had not got far: another worker begins it again under its run key."""


class RunCrashedError(MonitorError):
    """A run of one target ended by an error that nobody foresaw. It is logged and counted."""


class TargetNotHereError(MonitorError):
    """This worker's configuration does not have the target of a job: another worker's may have it."""

    def __init__(self, target: str) -> None:
        super().__init__(
            f"target {target} is not configured in this worker; give the daemon and all workers the same configuration"
        )


class LeaseHeldError(MonitorError):
    """Another run of the target holds its lease: `holder` (`host:pid`) since `since` (aware, UTC), for `expires_in`
    unless it is renewed.
    """

    exit_code = 5

    def __init__(self, *, target: str, holder: str, since: datetime, expires_in: timedelta) -> None:
        self.target, self.holder, self.since, self.expires_in = target, holder, since, expires_in
        super().__init__(
            f"target {target}: another run is under way ({holder}, since {since:%Y-%m-%d %H:%M:%S} UTC); "
            "wait for it, or let its lease run out (30 s after it died)"
        )


class RunAlreadyExecutedError(MonitorError):
    """A finished run of the target has this run key: there is nothing to do."""

    exit_code = 5


class LeaseLostError(MonitorError):
    """This run's lease expired and its epoch is old: nothing more of it is written."""

    exit_code = 4
