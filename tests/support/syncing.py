"""Syncs of entries that a test makes, and whole copies of a log."""

from monitor.runs.sync import Sync
from monitor.synclog import whole_log


def sync_worklist(engine, *, batches, **options):
    """A sync of a log that can't be compared: all of it is merged."""
    return Sync(engine=engine, read_pages=lambda *_: whole_log(batches), **options)()
