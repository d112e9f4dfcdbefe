import copy
import json
import os
import pickle
import stat
from pathlib import Path

import msgspec
import pytest
from pydantic import BaseModel, ValidationError

from monitor.config import MASK, Secret
from monitor.config.section import Section
from monitor.errors import ConfigError

CANARY = "c4nary-5ecret"


class Credentials(Section):
    key: Secret


class Holder(BaseModel):
    key: Secret


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(CANARY + "\n")
    return path


@pytest.fixture(params=["value", "file"])
def secret(request, secret_file):
    return Secret(CANARY) if request.param == "value" else Secret.from_file(secret_file)


def test_only_reveal_shows_a_secret(secret):
    holder = Holder(key=secret)
    shown = [
        str(secret), repr(secret), f"{secret}", f"{secret!r:>40}", f"{secret:>40}", "%s" % secret, str([secret]),  # noqa: UP031  # the old way too
        str(holder), repr(holder), str(holder.model_dump()), holder.model_dump_json(), str(vars(holder)),
        str(dir(secret)),        str({name: getattr(secret, name) for name in Secret.__slots__}),
    ]  # fmt: skip

    assert [text for text in shown if CANARY in text] == []
    assert holder.model_dump() == {"key": MASK}
    assert secret.reveal() == CANARY


@pytest.mark.parametrize(
    "leave", [json.dumps, pickle.dumps, msgspec.json.encode, vars, bytes, list], ids=lambda way: way.__name__
)
def test_a_secret_is_not_shown_in_any_other_way(secret, leave):
    with pytest.raises(TypeError) as caught:
        leave(secret)

    assert CANARY not in str(caught.value)


def test_a_copy_of_a_secret_is_the_same_secret(secret):
    assert copy.copy(secret) is secret
    assert copy.deepcopy({"key": secret})["key"] is secret


def test_a_secret_from_a_file_follows_its_rotation(secret_file):
    secret = Secret.from_file(secret_file)
    doubled = secret.transform(lambda value: value * 2)
    assert (secret.reveal(), doubled.reveal()) == (CANARY, CANARY * 2)

    secret_file.write_text("rotated")

    assert (secret.reveal(), doubled.reveal()) == ("rotated", "rotatedrotated")


def test_a_secret_in_memory_has_no_stamp():
    assert Secret(CANARY).stamp() is None
    assert Secret(CANARY).transform(str.upper).stamp() is None


def rewrite(path):
    path.write_text("rotated, and of another length")


def replace_file(path):
    path.with_name("new").write_text(CANARY + "\n")
    path.with_name("new").replace(path)


def touch(path):
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", [rewrite, replace_file, touch, Path.unlink], ids=lambda change: change.__name__)
def test_the_stamp_of_a_secret_changes_with_its_file(secret_file, change):
    secret = Secret.from_file(secret_file)
    doubled = secret.transform(lambda value: value * 2)
    before = secret.stamp()
    assert before == secret.stamp() == doubled.stamp()

    change(secret_file)

    assert before != secret.stamp() == doubled.stamp()


def test_the_stamp_changes_with_the_swapped_link_of_a_mounted_secret(tmp_path):
    for version in ("..1", "..2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text("same size")
        os.utime(tmp_path / version / "key", ns=(1, 1))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "key").symlink_to("..data/key")
    secret = Secret.from_file(tmp_path / "key")
    before = secret.stamp()

    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")

    assert secret.stamp() != before


def test_a_missing_file_has_an_empty_stamp(tmp_path):
    assert Secret.from_file(tmp_path / "missing").stamp() == ()


@pytest.mark.parametrize(
    ("content", "value"),
    [("key", "key"), ("key\n", "key"), ("key\r\n", "key"), (" key ", " key "), ("clé✓", "clé✓")],
    ids=["bare", "newline", "crlf", "spaces", "non-ascii"],
)
def test_one_final_newline_is_removed_from_a_secret(secret_file, content, value):
    secret_file.write_bytes(content.encode())

    assert Secret.from_file(secret_file).reveal() == value


FAULTY = {
    "empty": (b"", "which is empty: give it a value"),
    "blank line": (b"\n", "which is empty: give it a value"),
    "two newlines": (CANARY.encode() + b"\n\n", "which contains control characters"),
    "null": (b"\0" + CANARY.encode(), "which contains control characters"),
    "latin-1": (CANARY.encode() + b"\xe9", "which is not UTF-8 text; write only the secret into it"),
    "huge": (CANARY.encode() * 6_000, "which is larger than 64 KiB; write only the secret into it"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_an_unusable_secret_file_is_named_and_not_quoted(secret_file, fault):
    content, words = FAULTY[fault]
    secret = Secret.from_file(secret_file)
    secret_file.write_bytes(content)

    with pytest.raises(ConfigError) as later:
        secret.reveal()
    with pytest.raises(ValidationError) as at_start:
        Credentials.model_validate({"key_file": str(secret_file)})

    assert str(later.value).startswith(f"the setting of a secret names {secret_file}, {words}")
    assert f"names {secret_file}, {words}" in str(at_start.value)
    assert CANARY not in str(later.value) + str(at_start.value) + repr(at_start.value)


@pytest.mark.parametrize("from_file", [False, True])
def test_a_byte_order_mark_is_no_part_of_a_secret(secret_file, from_file):
    secret_file.write_bytes(b"\xef\xbb\xbf" + CANARY.encode() + b"\r\n")
    given = {"key_file": str(secret_file)} if from_file else {"key": f"\ufeff{CANARY}"}

    assert Credentials.model_validate(given).key.reveal() == CANARY


INVISIBLE = ["\u200b", "\u200d", "\u2060", "\u00ad", "\ufeff", "\u202e", "\u00a0", "\u3000", "\U000e0061"]


@pytest.mark.parametrize("character", INVISIBLE, ids=ascii)
@pytest.mark.parametrize("place", ["{0}x{1}", "x{1}{0}", "x{0}{1}"])
@pytest.mark.parametrize("from_file", [False, True])
def test_an_invisible_character_in_a_secret_is_refused_with_a_sentence(secret_file, character, place, from_file):
    text = place.format(character, CANARY)
    if text.startswith("\ufeff"):
        return  # a byte order mark
    secret_file.write_text(text)

    with pytest.raises(ValidationError) as caught:
        Credentials.model_validate({"key_file": str(secret_file)} if from_file else {"key": text})

    (error,) = caught.value.errors()
    assert "contains an invisible character" in error["msg"]
    assert CANARY not in error["msg"]


def test_a_missing_secret_file_or_a_folder_is_named(tmp_path):
    missing = tmp_path / "missing"
    with pytest.raises(ConfigError) as caught:
        Secret.from_file(missing).reveal()
    assert str(caught.value) == (
        f"the setting of a secret names {missing}, which can't be read (No such file or directory); "
        "fix the path or its permissions"
    )

    assert stat.S_ISDIR(tmp_path.stat().st_mode)
    with pytest.raises(ConfigError, match="which is not a regular file; give the path of the file with the secret"):
        Secret.from_file(tmp_path).reveal()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"key": ""}, "is empty: give it a value"),
        ({"key": f"{CANARY}\n"}, "contains control characters"),
        ({"key": f"{CANARY}\u2028"}, "contains control characters"),
        ({"key": 5}, "must be text in quotes"),
        ({"key_file": 5}, "must be the path of a file, in quotes"),
        ({"key_file": ""}, "must be the path of a file, in quotes"),
        ({"key": CANARY, "key_file": "x"}, "keep one of them"),
    ],
)
def test_a_value_that_is_not_a_secret_is_refused_without_quoting_it(raw, words):
    with pytest.raises(ValidationError) as caught:
        Credentials.model_validate(raw)

    assert words in str(caught.value)
    assert CANARY not in str(caught.value) + repr(caught.value)


def test_a_secret_in_a_section_is_given_as_value_file_or_object(secret_file):
    ready = Secret(CANARY)

    assert Credentials(key=ready).key is ready
    assert Credentials.model_validate({"key": CANARY}).key.reveal() == CANARY
    assert Credentials.model_validate({"key_file": str(secret_file)}).key.reveal() == CANARY
    assert Credentials.model_validate(Credentials(key=ready)).key is ready
