import pytest
from channel_snapshots import CHANNELS, FOLDER, file_of, messages

PAIRS = [(channel, name) for channel in CHANNELS for name in messages()]


@pytest.mark.parametrize(("channel", "name"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
async def test_requests_match_the_reviewed_snapshots(channel, name):
    kept = file_of(channel, name).read_text(encoding="utf-8")

    assert await CHANNELS[channel](messages()[name]) == kept, "make docs"


def test_every_snapshot_is_used():
    kept = {file for file in FOLDER.rglob("*") if file.is_file()}

    assert kept == {file_of(channel, name) for channel, name in PAIRS}
