"""How much the tests try of what has no end: as much as each change is worth, or a night (`make thorough`)."""

import os

__all__ = ["THOROUGH"]

THOROUGH = os.environ.get("MONITOR_TEST_THOROUGH") == "1"
