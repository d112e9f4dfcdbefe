"""A simulated data engine: a real HTTP server that speaks Gloo's API as its reference describes it, faults included."""

from monitor.sandbox.engine import SandboxSettings
from monitor.sandbox.server import Sandbox, serve

__all__ = ["Sandbox", "SandboxSettings", "serve"]
