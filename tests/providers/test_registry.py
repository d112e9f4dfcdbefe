import os
import re
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from providers.servers.documents import DocumentServer
from support.world import environment

from monitor.app import build_provider
from monitor.config import load_config
from monitor.providers import ConfigError, ProviderSettings
from monitor.providers.registry import ENTRY_POINT_GROUP, built_in_names, provider_for

SETTINGS = ProviderSettings(
    target="acme",
    base_url="https://api.example.com",
    publisher_id="p",
    statuses={"completed": ["done"]},
    options={"item": {"path": "/{item_id}"}},
)

DOCUMENT = (Path(__file__).parents[2] / "docs/providers/README.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
"""The package in the document."""

BROKEN_CALLABLES = """

def half(settings):
    class Half:
        name = "half"
    return Half()


def breaks(settings):
    raise RuntimeError("a text with secret-canary in it")


number = 7
"""


def install(folder, name="acme-monitor", entries=("acme = acme_monitor:make",)):
    """Writes a tiny distribution like an installer."""
    (folder / "acme_monitor.py").write_text(EXAMPLE + BROKEN_CALLABLES, encoding="utf-8")
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n" + "\n".join(entries) + "\n", encoding="utf-8")


@pytest.fixture
def site(tmp_path):
    """A folder on sys.path; its modules are removed afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("acme_monitor", None)


def problem_with(name, settings=SETTINGS):
    with pytest.raises(ConfigError) as caught:
        provider_for(name, settings)
    (problem,) = caught.value.problems
    return problem


def with_options(**options):
    return ProviderSettings(target="acme", base_url="https://api.example.com", options=options)


def test_the_example_imports_only_monitor_providers():
    assert {line.split()[1] for line in EXAMPLE.splitlines() if line.startswith(("import", "from"))} == {
        "monitor.providers"
    }


@pytest.mark.parametrize("name", built_in_names())
def test_every_built_in_provider_can_be_made(name):
    assert provider_for(name, SETTINGS).name == name


def test_the_error_for_an_unknown_provider_lists_the_existing_ones(site):
    install(site)
    assert problem_with("acne") == (
        f"targets.acme.provider = 'acne' is not known: use one of {', '.join(built_in_names())}, acme, "
        "or install the package that provides it"
    )


def test_an_installed_distribution_adds_a_provider(site):
    install(site)
    provider = provider_for("acme", with_options(tenant="t-17"))
    assert (provider.name, provider.item_request("a").path) == ("acme", "/t-17/a")


def test_a_providers_config_error_is_passed_on(site):
    install(site)
    assert problem_with("acme", with_options()) == (
        "targets.acme.options.tenant is missing: set it to your tenant's id"
    )


def test_a_distribution_cannot_replace_a_built_in_provider(site):
    install(site, entries=["gloo = acme_monitor:breaks"])
    assert provider_for("gloo", SETTINGS).name == "gloo"


def test_only_the_configured_provider_is_imported(site):
    install(site, entries=["acme = acme_monitor:make", "other = no_such_module:make"])
    assert provider_for("acme", with_options(tenant="t")).name == "acme"


BROKEN = {
    "no module": ("no_such_module:make", "can't be imported (No module named 'no_such_module')"),
    "no attribute": ("acme_monitor:absent", "failed with AttributeError"),
    "not callable": ("acme_monitor:number", "failed with TypeError"),
    "raises": ("acme_monitor:breaks", "failed with RuntimeError"),
    "half a provider": (
        "acme_monitor:half",
        "gives a provider without token_path, token_scope, valid_id, item_request",
    ),
}


@pytest.mark.parametrize(("entry", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_broken_package_is_named_without_its_own_message(site, entry, problem):
    install(site, entries=[f"acme = {entry}"])
    said = problem_with("acme")
    assert said.startswith(f"targets.acme.provider = 'acme' comes from the package acme-monitor, which {problem}")
    assert said.endswith(": fix or reinstall that package, or use another provider")
    assert "secret-canary" not in said


def test_two_distributions_of_one_name_are_both_named(site):
    install(site)
    install(site, name="acme-fork")
    assert problem_with("acme") == (
        "targets.acme.provider = 'acme' comes from several packages (acme-fork, acme-monitor): uninstall all but one"
    )


CONFIG = """\
database = "sqlite:///monitor.db"

[[targets]]
name = "acme"
provider = "acme"
base_url = "{url}"
auth = {{ api_key = "the-key" }}
options = {{ tenant = "t17" }}
sync_log = {{ url = "sqlite:///pipeline.db" }}
"""


def check(folder, *, site):
    return subprocess.run(
        [sys.executable, "-m", "monitor", "check"],
        cwd=folder,
        env=environment({"PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)])}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.process
def test_check_watches_the_api_of_an_installed_provider(tmp_path, site):
    install(site)
    with sqlite3.connect(tmp_path / "pipeline.db") as log:
        log.execute("CREATE TABLE sync_log (item_id TEXT)")
        log.executemany("INSERT INTO sync_log VALUES (?)", [("a1",), ("b2",), ("c-3",)])
    log.close()
    with DocumentServer(key="Bearer the-key") as server:
        server.answer("/t17/a1", {"is": "ready"})
        (tmp_path / "monitor.toml").write_text(textwrap.dedent(CONFIG.format(url=server.url)), encoding="utf-8")
        done = check(tmp_path, site=site)
    assert done.returncode == 0, done.stderr
    assert "Health: 1 completed, 0 pending, 0 failed, 1 not found, 1 invalid" in done.stdout
    assert sorted(server.paths) == ["/t17/a1", "/t17/b2"]


def test_a_configuration_with_a_broken_provider_is_invalid(tmp_path, site):
    install(site, entries=["acme = no_such_module:make"])
    path = tmp_path / "monitor.toml"
    path.write_text(CONFIG.format(url="https://api.example.com"), encoding="utf-8")
    (target,) = load_config(path, environ={}).targets
    with pytest.raises(ConfigError, match="comes from the package acme-monitor, which can't be imported"):
        build_provider(target)
