"""How many random examples the tests try: few for each change, many in `make thorough`."""

import os

THOROUGH = os.environ.get("MONITOR_TEST_THOROUGH") == "1"


def examples(count):
    """The number of random examples: `count`, or with `make thorough` ten times as many."""
    return 10 * count if THOROUGH else count
