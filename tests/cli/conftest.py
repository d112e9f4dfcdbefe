"""What tests of several commands begin with."""

from datetime import UTC, datetime, timedelta

import pytest


@pytest.fixture
def troubled(small_world):
    """Three runs; a failed item, and a revoked client in the last two: #1 items_failed and #2 unauthorized."""
    small_world.clock.now = datetime.now(UTC) - timedelta(minutes=5)
    item_id, *_ = small_world.track(4)
    small_world.sandbox.set_status(item_id, "FAILED")
    small_world.run()
    small_world.sandbox.revoke_client()
    small_world.run()
    small_world.run()
    small_world.close()
    return small_world
