"""A simulated data engine: a real HTTP server that speaks Gloo's API as its reference describes it, faults included."""

from monitor.sandbox.server import Sandbox, serve
from monitor.sandbox.settings import SandboxSettings

__all__ = ["Sandbox", "SandboxSettings", "serve"]
