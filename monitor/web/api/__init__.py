"""The HTTP API under /api/v1: what the commands print with `--json`, read from the database by the same views.

It is read-only and asks no other API. What a command reads elsewhere (a file, this machine, a provider) is not here.
"""

from monitor.web.api.routes import add_api

__all__ = ["add_api"]
