"""`python -m monitor` is the command `ingestion-monitor`."""

from monitor.cli import command

command()
