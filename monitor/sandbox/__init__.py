"""A simulated data engine: a real HTTP server with Gloo's API as its reference describes it, and faults on demand."""

from monitor.sandbox.sandbox import Sandbox
from monitor.sandbox.scenario import ScenarioPlayer, serve
from monitor.sandbox.settings import SandboxSettings

__all__ = ["Sandbox", "SandboxSettings", "ScenarioPlayer", "serve"]
