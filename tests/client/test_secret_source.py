import os

import pytest

from monitor.client.auth import GRACE_S, SecretSource, in_memory
from monitor.config import Secret
from monitor.errors import ConfigError
from monitor.model.http import UNUSABLE_CREDENTIALS

SECRET = "s3cret-canary"


class File:
    """A secret file as a source sees it; counts reads and stamps."""

    def __init__(self, content=SECRET):
        self.content, self.number = content, 1
        self.looks = self.readings = 0

    def rotate(self, content):
        self.content, self.number = content, self.number + 1

    def stamp(self):
        self.looks += 1
        return () if self.content is None else (self.number,)

    def read(self):
        self.readings += 1
        if self.content is None:
            raise ConfigError([f"{SECRET} is not there"])
        return self.content


@pytest.fixture
def file():
    return File()


@pytest.fixture
def source(file):
    return SecretSource(file.read, name="API key", stamp=file.stamp)


def test_an_unchanged_file_is_checked_once_per_second_and_read_once(file, source):
    for tenth in range(100):
        assert source.value(tenth / 10) == SECRET
    assert (file.looks, file.readings, source.version) == (10, 1, 1)


def test_a_rotated_file_is_read_within_a_second(file, source):
    source.value(0.0)
    file.rotate("new\n")
    assert source.value(0.9) == SECRET
    assert source.value(1.0) == "new"
    assert source.version == 2


def test_a_secret_in_memory_is_read_again_only_on_request(file):
    source = SecretSource(file.read, name="API key", stamp=in_memory)
    assert {source.value(now_s) for now_s in (0.0, 10.0, 1e9)} == {SECRET}
    file.rotate("new")
    assert source.value(2e9) == SECRET
    assert source.reread(2e9) == "new"
    assert file.readings == 2


def test_a_file_rewritten_with_the_same_value_is_no_new_version(file, source):
    source.value(0.0)
    file.rotate(SECRET)
    assert source.value(5.0) == SECRET
    assert (file.readings, source.version) == (2, 1)


def test_a_change_during_a_read_is_noticed_at_the_next_check(file):
    def read():
        content = file.read()
        if file.readings == 1:
            file.rotate("whole")
            return content[:3]
        return content

    source = SecretSource(read, name="API key", stamp=file.stamp)
    assert source.value(0.0) == SECRET[:3]
    assert source.value(1.0) == "whole"


HALF_DONE = {"missing": None, "empty": "", "blank": " \n", "control character": "a\0b", "not ASCII": "clé"}


@pytest.mark.parametrize("content", HALF_DONE.values(), ids=HALF_DONE)
def test_an_unfinished_rotation_keeps_the_last_valid_value_for_a_while(file, source, content):
    source.value(0.0)
    file.rotate(content)
    assert source.value(10.0) == SECRET
    assert source.error.code == UNUSABLE_CREDENTIALS
    assert source.value(10.0 + GRACE_S - 1) == SECRET
    assert source.value(10.0 + GRACE_S).code == UNUSABLE_CREDENTIALS
    file.rotate("new")
    assert source.value(11.0 + GRACE_S) == "new"
    assert (source.error, source.version) == (None, 2)


def test_each_failure_has_its_own_grace_period(file, source):
    source.value(0.0)
    for start_s in (100.0, 300.0):
        file.rotate(None)
        assert source.value(start_s) == SECRET
        assert source.value(start_s + GRACE_S - 1) == SECRET
        file.rotate(SECRET)
        assert source.value(start_s + GRACE_S + 5) == SECRET


def test_a_failure_can_end_without_a_change_of_the_file(file):
    source = SecretSource(file.read, name="API key", stamp=lambda: (1,))
    file.content = None
    assert source.value(0.0).code == UNUSABLE_CREDENTIALS
    assert source.value(0.5).code == UNUSABLE_CREDENTIALS
    file.content = SECRET
    assert source.value(1.0) == SECRET


def test_a_secret_that_was_never_valid_has_no_grace_period_and_is_not_shown(file, source):
    file.rotate(None)
    error = source.value(0.0)
    assert (error.code, error.from_token_endpoint) == (UNUSABLE_CREDENTIALS, True)
    assert error.message == "the API key can't be read: check its file or setting"
    file.rotate(f"{SECRET}\r\nx-evil: 1")
    assert source.value(1.0).message.startswith(
        "the API key is empty or has characters that are not allowed in a header"
    )
    assert SECRET not in repr(source) + str(source.value(1.0)) + repr(source.error)


def test_a_forced_reread_ignores_the_stamp(file, source):
    source.value(0.0)
    file.content = "same stamp"
    assert source.value(5.0) == SECRET
    assert source.reread(5.0) == "same stamp"


@pytest.mark.parametrize("write", ["in place", "renamed", "mounted"])
def test_every_kind_of_file_rotation_is_noticed(tmp_path, write):
    path = tmp_path / "key"
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "key").write_text(f"key-{version}\n")
    if write == "mounted":
        (tmp_path / "..data").symlink_to("..1")
        path.symlink_to("..data/key")
    else:
        path.write_text("key-1\n")
        os.utime(path, ns=(1, 1))
    secret = Secret.from_file(path)
    source = SecretSource(secret.reveal, name="API key", stamp=secret.stamp)
    assert source.value(0.0) == "key-1"

    match write:
        case "in place":
            path.write_text("key-2\n")
        case "renamed":
            (tmp_path / "..2" / "key").rename(path)
        case _:
            (tmp_path / "..tmp").symlink_to("..2")
            (tmp_path / "..tmp").rename(tmp_path / "..data")

    assert source.value(1.0) == "key-2"
