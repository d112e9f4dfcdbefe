from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from config.mistakes import GLOO

from monitor.config import load_config
from monitor.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigDirectory:
    """A folder with configuration files, and the result of loading them."""

    folder: Path

    def write(self, text: str = GLOO, *, dotenv: str | None = None) -> Path:
        path = self.folder / "monitor.toml"
        path.write_text(text)
        if dotenv is not None:
            (self.folder / ".env").write_text(dotenv)
        return path

    def problems(
        self, path: Path | None = None, environ: Mapping[str, str] | None = None, **overrides: object
    ) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_config(path, environ or {}, overrides)
        assert caught.value.exit_code == 2
        return list(caught.value.problems)


@pytest.fixture
def empty_cwd(tmp_path, monkeypatch):
    """An empty working folder, so that no file of the project is found by chance."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def config_dir(tmp_path, empty_cwd):
    folder = tmp_path / "etc"
    folder.mkdir()
    return ConfigDirectory(folder=folder)


@pytest.fixture
def valid():
    return GLOO
