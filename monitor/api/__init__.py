"""The Python API of the resilient client: `connect` to a configured target, then `get`, `status`, `wait`, `request`.

docs/python-api.md describes it. It wires and translates; every decision is made in the packages below.
"""

from monitor.api.connection import Engine, connect
from monitor.api.errors import ApiError
from monitor.api.multipart import File
from monitor.api.results import Item, Response, WaitOutcome
from monitor.errors import ConfigError, MonitorError, StoreError
from monitor.model import Cause, ItemState
from monitor.model.http import ErrorDetail, NetworkFault, Operation
from monitor.waits.rules import WaitResult

__all__ = [
    "ApiError",
    "Cause",
    "ConfigError",
    "Engine",
    "ErrorDetail",
    "File",
    "Item",
    "ItemState",
    "MonitorError",
    "NetworkFault",
    "Operation",
    "Response",
    "StoreError",
    "WaitOutcome",
    "WaitResult",
    "connect",
]
