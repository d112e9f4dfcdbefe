"""Who may use the page: the Host check, the token, sessions, CSRF tokens, limits of failures and of bodies, headers.

An ASGI middleware decides before any route and puts the viewer into the scope. /healthz, /readyz and /metrics pass it
as they are. What the pages show is not here.
"""

from monitor.web.access.gate import Gate
from monitor.web.access.middleware import HEALTH_PATHS, Access

__all__ = ["HEALTH_PATHS", "Access", "Gate"]
