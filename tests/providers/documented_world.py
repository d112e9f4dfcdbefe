"""A world with an API of its own, configured only by the target in a document of docs/providers."""

import contextlib
import re
from pathlib import Path

from providers.servers import documented
from support.world import Clock, World

from monitor.config.examples import example_target
from monitor.providers.preset import find_preset

DOCS = Path(__file__).parents[2] / "docs/providers"
VALUES = {"CONTEXTUAL_DATASTORE_ID": documented.STORE}
"""Of the variables that are no key."""


class DocumentedWorld(World):
    """A World with its own API, configured only by the first target in a document."""

    def __init__(self, folder, server, document):
        self.folder, self.server, self.clock = folder, server, Clock()
        self.config_path = folder / "monitor.toml"
        self.sync_log = f"sqlite:///{folder / 'pipeline.db'}"
        self._apps, self._app = contextlib.ExitStack(), None
        self.example = example(document)
        self.configure()
        self.log("CREATE TABLE sync_log (item_id TEXT)")

    def configure(self, more=""):
        here = re.sub(r'(base_url = ")https://[^/"]+', rf"\g<1>{self.server.url}", with_base_url(self.example))
        self.config_path.write_text(here + more, encoding="utf-8")
        variables = re.findall(r"\$\{(\w+)\}", here)
        values = "".join(f"{name}={VALUES.get(name, 'the-key')}\n" for name in variables)
        (self.folder / ".env").write_text(values, encoding="utf-8")
        (self.folder / ".env").chmod(0o600)
        self.close()

    def upload(self, item_id, status):
        self.server.statuses[item_id] = status
        self.record(item_id)

    def record(self, *item_ids):
        self.log("INSERT INTO sync_log VALUES (:i)", [{"i": item_id} for item_id in item_ids])


def blocks(document):
    """The TOML blocks of a document."""
    text = (DOCS / document).read_text(encoding="utf-8")
    return re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def example(document):
    """The first TOML block of a document, or the target that `providers show` prints of a preset without one."""
    if document.endswith(".md"):
        return blocks(document)[0]
    return f'{example_target(find_preset(document)).toml}\nsync_log = {{ url = "sqlite:///pipeline.db" }}\n'


def with_base_url(toml):
    """A target with the URL of its preset, if it has none of its own."""
    provider = re.search(r'^provider = "(\w+)"', toml, re.MULTILINE)[1]
    if re.search(r"^base_url", toml, re.MULTILINE):
        return toml
    url = find_preset(provider).settings["base_url"]
    return toml.replace(f'provider = "{provider}"', f'base_url = "{url}"\nprovider = "{provider}"')
