import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.model.json_body import decode_json, replace_lone_surrogates


class Row(msgspec.Struct):
    status: str


MENDED = {
    "a byte order mark": (b'\xef\xbb\xbf{"status": "done"}', "done"),
    "half an emoji": (rb'{"title": "\ud83d", "status": "done"}', "done"),
    "half an emoji in what is read": (rb'{"status": "done\ud83d"}', "done�"),
    "the other half": (rb'{"title": "a\uDE00b", "status": "done"}', "done"),
    "two halves in the wrong order": (rb'{"title": "\ude00\ud83d", "status": "done"}', "done"),
    "both at once": (b'\xef\xbb\xbf{"title": "\\ud83d", "status": "done"}', "done"),
}


@pytest.mark.parametrize(("body", "status"), MENDED.values(), ids=MENDED)
def test_a_body_as_apis_write_it_is_read(body, status):
    assert decode_json(body)["status"] == status
    assert decode_json(body, Row).status == status


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"\xef\xbb\xbf", b'{"a": NaN}', b"\xff\xfe{\x00}\x00"])
def test_what_is_not_json_stays_an_error(body):
    with pytest.raises(ValueError, match=r"."):
        decode_json(body)


def test_a_value_of_another_kind_is_named_as_such():
    with pytest.raises(msgspec.ValidationError):
        decode_json(b'\xef\xbb\xbf{"status": 1}', Row)


@given(st.text())
def test_whole_characters_and_escaped_backslashes_stay_as_they_are(text):
    body = json.dumps({"title": text + "\\ud83d", "whole": "\U0001f600"}).encode()
    assert replace_lone_surrogates(body) == body
