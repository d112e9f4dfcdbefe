"""How many random examples the tests try: few for each change, many in `make thorough`."""

import os

__all__ = ["THOROUGH"]

THOROUGH = os.environ.get("MONITOR_TEST_THOROUGH") == "1"
