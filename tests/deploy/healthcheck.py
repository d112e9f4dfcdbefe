"""The image's health check as a module; it is outside the package because only the image needs it."""

import importlib.util

from manifests import DEPLOY

__all__ = ["healthcheck"]

_spec = importlib.util.spec_from_file_location("healthcheck", DEPLOY / "healthcheck.py")
healthcheck = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(healthcheck)
