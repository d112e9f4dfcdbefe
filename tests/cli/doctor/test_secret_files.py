from pathlib import Path

import pytest

from monitor.cli.doctor.findings import Level
from monitor.cli.doctor.secret_files import SecretFile, check_secret_files, literal_secrets, read_modes, secret_files
from monitor.config import load_config

MODES = {
    "owner": (0o600, "key", False, None),
    "owner may only read": (0o400, "key", False, None),
    "group": (0o640, "key", False, "chmod 600 key"),
    "everyone": (0o644, "key", False, "chmod 600 key"),
    "projected for everyone": (0o644, "key", True, "defaultMode: 0400"),
    "projected for its group": (0o440, "key", True, None),
    "docker's default": (0o444, "/run/secrets/key", False, "mode: 0400"),
}


@pytest.mark.parametrize(("mode", "path", "projected", "remedy"), MODES.values(), ids=MODES)
def test_a_file_that_others_can_read_is_a_warning_with_a_remedy(mode, path, projected, remedy):
    (finding,) = check_secret_files([SecretFile(path=Path(path), mode=mode, projected=projected)])
    assert finding.level is (Level.WARNING if remedy else Level.OK)
    assert (remedy or "") in finding.remedy + finding.command


def test_a_file_of_a_kubernetes_volume_is_recognised_by_its_links(tmp_path):
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026/key").write_text("k", encoding="utf-8")
    (tmp_path / "..2026/key").chmod(0o644)
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "key").symlink_to("..data/key")
    (files_found,) = read_modes([tmp_path / "key", tmp_path / "gone"])
    assert (files_found.mode, files_found.projected) == (0o644, True)


TARGET = """
[[targets]]
name = "t"
provider = "gloo"
publisher_id = "p"
auth = {auth}
sync_log = {{ url = "{log}" }}
"""


def loaded(folder, *, auth='{ api_key_file = "key" }', log="sqlite:///log.db", top=""):
    (folder / "key").write_text("k3y", encoding="utf-8")
    (folder / ".env").write_text("KEY=k3y\nPASSWORD=pw\n", encoding="utf-8")
    (folder / "monitor.toml").write_text(top + TARGET.format(auth=auth, log=log), encoding="utf-8")
    return load_config(folder / "monitor.toml", environ={})


LITERALS = {
    "none": ({}, []),
    "a key": ({"auth": '{ api_key = "k3y" }'}, ["targets[0].auth.api_key"]),
    "a key from .env": ({"auth": '{ api_key = "${KEY}" }'}, []),
    "a sync log's password": ({"log": "postgresql://u:pw@h/d"}, ["targets[0].sync_log.url"]),
    "a password from .env": ({"log": "postgresql://u:${PASSWORD}@h/d"}, []),
    "a server without a password": ({"log": "postgresql://u@h/d"}, []),
    "the database's password": ({"top": 'database = "postgresql://h/d?password=pw"\n'}, ["database"]),
    "a SQLite file": ({"top": 'database = "sqlite:///x.db"\n'}, []),
    "a channel's URL": (
        {"top": 'channels = [{ name = "c", type = "slack", url = "https://x.example/y" }]\n'},
        ["channels[0].url"],
    ),
}


@pytest.mark.parametrize(("changes", "keys"), LITERALS.values(), ids=LITERALS)
def test_the_configuration_file_is_secret_if_a_secret_is_written_in_it(tmp_path, changes, keys):
    config = loaded(tmp_path, **changes)
    assert literal_secrets(config) == keys
    assert (config.source in secret_files(config)) is bool(keys)


def test_secret_files_and_dot_env_are_checked(tmp_path):
    config = loaded(tmp_path)
    assert secret_files(config) == [tmp_path / "key", tmp_path / ".env"]


def test_without_files_there_are_no_findings(tmp_path):
    (finding,) = check_secret_files([])
    assert (finding.level, finding.message) == (Level.OK, "no secret is in a file.")
