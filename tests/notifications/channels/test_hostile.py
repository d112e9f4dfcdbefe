"""Hostile text in every field and on every channel: it arrives without control characters, markup and mentions."""

import json

import pytest
from channel_snapshots import CHANNELS
from hypothesis import given
from hypothesis import strategies as st
from support.samples import message

from monitor.notifications.messages import one_line, to_single_lines

RAW = "a\r\nb\x1b[31m\x00\u202e\u2028\x85<script>x</script><!channel>"


def everywhere(text):
    return message(
        target=text, environment=text, group=text, title=text, what_to_check=(text,), facts=((text, text),),
        commands=((text, text),), parts=(message(2, target=text, title=text, facts=((text, text),)),),
    )  # fmt: skip


def texts(value):
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (key, *texts(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


@pytest.mark.parametrize("channel", [name for name in CHANNELS if name not in {"email", "log"}])
async def test_no_control_character_is_sent(channel):
    arrived = list(texts(json.loads(await CHANNELS[channel](everywhere(RAW)))))
    assert any("script" in text for text in arrived)
    odd = {each for text in arrived for each in text if not each.isprintable()}
    assert odd <= {"\n", "\u200b"}


async def test_no_control_character_is_sent_by_mail():
    arrived = await CHANNELS["email"](everywhere(RAW))
    assert {each for each in arrived if not each.isprintable()} == {"\n"}
    assert "<script" not in arrived.partition("----- text/html")[2]


@pytest.mark.parametrize("channel", ["slack", "apprise"])
async def test_no_mention_is_sent(channel):
    assert "<!channel" not in await CHANNELS[channel](everywhere(RAW))


@given(st.text(st.characters(), max_size=40))
def test_a_line_is_one_line_and_never_empty(text):
    line = one_line(text)
    assert line
    assert line.isprintable()
    assert one_line(line) == line


def test_a_clean_message_is_unchanged():
    given = message(parts=(message(2),), commands=(("silence", "x"),))
    assert to_single_lines(given) == given
