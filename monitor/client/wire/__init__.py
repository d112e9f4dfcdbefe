"""One attempt over HTTP. The only package that knows HTTP libraries: two wires, one pool, one reading of faults.

`ReqwestWire` serves targets; `HttpxWire` serves messages, and targets that chose `http = "httpx"`.
Both keep the same contract (`Wire`), and one suite of tests holds both to it.
"""

from monitor.client.wire.pool import Connection
from monitor.client.wire.via_httpx import HttpxWire
from monitor.client.wire.via_reqwest import ReqwestWire

__all__ = ["Connection", "HttpxWire", "ReqwestWire"]
