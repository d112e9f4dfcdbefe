"""What the caller can't go on from. Failures that a run expects (an API that is down, a 404) are results, not these.

MonitorError              the root: one sentence for a person, and the exit code of the command that meets it
├── ConfigError           the configuration is wrong: before any network or write
├── StoreError            our own database can't be used
│   ├── StoreAwayError    for the moment: locked, restarting, out of reach
│   └── SchemaError       its schema is newer than this program, or missing
├── SyncLogError          the user's sync log can't be read
├── LeaseHeldError        another run of that target is under way
├── AlreadyExecutedError        the slot was run already
└── LeaseLostError        our lease ran out and someone else took over: nothing more may be written
"""

from collections.abc import Sequence
from datetime import datetime, timedelta


class MonitorError(Exception):
    """The root of all errors that leave a command.

    The text is one clear sentence: what is wrong, where, what to do. It never holds a secret or a connection URL.
    """

    exit_code = 3


class ConfigError(MonitorError):
    """The configuration or the usage is wrong.

    Args:
        problems: every problem found, each a sentence that names its key and a remedy. At least one.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class StoreError(MonitorError):
    """The monitor's own database can't be reached, read or written."""


class StoreUnavailableError(StoreError):
    """The database can't be used for the moment: what was to be done may succeed a little later.

    When the connection broke off, nobody knows whether what was being committed was.
    """


class SchemaError(StoreError):
    """The database's schema is not the one that this program was built for.

    Args:
        text: the sentence.
        needs_upgrade: whether `db upgrade` mends it, which somebody may be about to call.
    """

    def __init__(self, text: str, *, needs_upgrade: bool = False) -> None:
        self.needs_upgrade = needs_upgrade
        super().__init__(text)


class SyncLogError(MonitorError):
    """The user's sync log can't be read: the file, the server, the table or a column is not there."""


class LeaseHeldError(MonitorError):
    """Another run of the target holds its lease.

    Args:
        target: name of the target.
        holder: who holds it, as `host:pid`.
        since: when that run took it (aware, UTC).
        expires_in: how long it still lasts, unless that run renews it.
    """

    exit_code = 5

    def __init__(self, *, target: str, holder: str, since: datetime, expires_in: timedelta) -> None:
        self.target, self.holder, self.since, self.expires_in = target, holder, since, expires_in
        super().__init__(
            f"target {target}: another run is under way ({holder}, since {since:%Y-%m-%d %H:%M:%S} UTC); "
            "wait for it, or let its lease run out (30 s after it died)"
        )


class RunAlreadyExecutedError(MonitorError):
    """A finished run of the target has spent the slot: there is nothing to do."""

    exit_code = 5


class LeaseLostError(MonitorError):
    """This run's lease expired and its epoch is stale: what it still held is not written."""

    exit_code = 4
