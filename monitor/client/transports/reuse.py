"""Whether a request may be sent again by the transport itself, because it met the closing of an idle connection."""

import math
import time

from monitor.client.transports.options import POOL_IDLE_S
from monitor.model.http import Operation, Reply, Request, TransportFault

_TOKEN = Operation.TOKEN  # looked up once, as it is compared for every answer


class ReuseTracker:
    """Tells a request that may have met the closing of an idle connection from one that a server dropped.

    A server may close an idle connection at any moment, with a request on its way. RFC 9110 (9.2.2) lets a client
    repeat it by itself. The libraries don't say which connection a request had: it may have been an old one if another
    answer came since, or shortly before it was sent. `DirectTransport` knows, and asks only about an old one.
    """

    def __init__(self) -> None:
        self._answered_s = -math.inf

    def record_answer(self, request: Request) -> None:
        """Notes that an answer is complete: its connection is idle now. A granted token says nothing about the API: a
        service that drops all other requests is down.
        """
        if request.operation is not _TOKEN:
            self._answered_s = time.monotonic()

    def may_repeat(self, request: Request, fault: Reply | TransportFault, *, started_s: float) -> bool:
        """Whether to repeat the request at once on a new connection: that is no second attempt."""
        if not isinstance(fault, TransportFault) or not fault.unanswered or request.operation is Operation.WRITE:
            return False
        return self._answered_s >= started_s - POOL_IDLE_S
