"""The rules of CONTRIBUTING.md that no linter checks: about the tree, its build and its documents."""

import ast
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sys.executable).parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAX_MODULE_LINES, MAX_BODY_LINES, MAX_ADR_LINES = 600, 40, 40


def run(*command, cwd=ROOT, **environ):
    """Runs a command without stdin and without the developer's own configuration; returns exit code and output."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MONITOR_", "GLOO_"))}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**inherited, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def tree_files():
    """Files that are tracked, or would be by `git add .`; also in a clone that belongs to another user."""
    listing = run("git", "-c", f"safe.directory={ROOT}", "ls-files", "-co", "--exclude-standard", "-z")
    assert listing.returncode == 0, listing.stderr
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def modules(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def lines_that_match(pattern, files):
    return [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def all_nodes(path):
    return list(ast.walk(tree(path)))


def nodes(path, *kinds):
    return [node for node in all_nodes(path) if isinstance(node, kinds)]


def functions(path):
    return nodes(path, ast.FunctionDef, ast.AsyncFunctionDef)


def body_lines(function):
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def imports(path):
    for node in nodes(path, ast.Import, ast.ImportFrom):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# --- what no file may contain ----------------------------------------------------------------------------------------


def test_no_file_names_a_package_host():
    # Concatenated, so that this file does not contain one either.
    names = "|".join(["py" + "pi", "python" + "hosted", "npm" + "js", "ana" + "conda", "proxy[.]go" + "lang", "crates"])
    hosts = rf"\b(?:{names})[.](?:org|com|io|net)\b"
    options = "|".join(["--(?:extra-)?index-" + "url", "--find-" + "links", "(?:PIP|UV)_(?:EXTRA_)?" + "INDEX"])
    assert lines_that_match(re.compile(f"{hosts}|{options}", re.IGNORECASE), tree_files()) == []


def test_no_file_holds_a_path_of_a_developers_machine():
    pattern = r"(?<![\w.$}/-])/(?:home|Users|root|work|workspaces?|builds)/[\w.-]|\b[A-Z]:\\" + r"Users\b"
    assert lines_that_match(re.compile(pattern), tree_files()) == []


def test_the_tests_use_real_parts_instead_of_mocks():
    mocked = [
        (name_of(p), name)
        for p in modules("monitor", "tests", "scripts")
        for name in imports(p)
        if "mock" in name.split(".")
    ]
    assert mocked == []


def test_no_test_is_skipped_or_expected_to_fail():
    gaps = re.compile(r"pytest\.(?:mark\.)?(?:skip|skipif|xfail|importorskip)\b(?!\|)")
    others = [path for path in modules("tests") if path != Path(__file__)]
    assert lines_that_match(gaps, others) == []


def test_every_exception_to_a_rule_gives_its_reason():
    exception = re.compile(r"#\s*(?:noqa|type:\s*ignore|pragma:)")
    explained = re.compile(r"#\s*(?:noqa: [\w, ]+|type: ignore\[[\w, -]+\]|pragma: no \w+)\s+(?:- |# )\S")
    found = lines_that_match(exception, modules("monitor", "migrations", "tests", "scripts", "benchmarks"))
    unexplained = [
        line for line in found if not explained.search(line) and not line.startswith(name_of(Path(__file__)))
    ]
    assert unexplained == []


# --- modules ---------------------------------------------------------------------------------------------------------


def test_every_module_has_a_docstring():
    silent = [
        p for p in modules("monitor", "migrations") if p.read_text(encoding="utf-8") and not ast.get_docstring(tree(p))
    ]
    assert [name_of(path) for path in silent] == []


def test_no_module_has_more_than_six_hundred_lines():
    sizes = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules("monitor")}
    assert {name: size for name, size in sizes.items() if size > MAX_MODULE_LINES} == {}


def test_no_function_body_has_more_than_forty_lines():
    long = [
        f"{name_of(path)}:{function.lineno}: {function.name}, {size} lines"
        for path in modules("monitor")
        for function in functions(path)
        if (size := body_lines(function)) > MAX_BODY_LINES
    ]
    assert long == []


def test_only_package_init_files_have_all():
    listed = [
        name_of(path)
        for path in modules("monitor")
        if path.name != "__init__.py"
        for node in tree(path).body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
    ]
    assert listed == []


def test_at_most_three_modules_are_beside_the_packages():
    loose = [path.name for path in (ROOT / "monitor").glob("*.py") if not path.name.startswith("__")]
    assert len(loose) <= 3, loose


def test_tests_are_in_a_folder_named_after_a_package():
    packages = {path.parent.name for path in (ROOT / "monitor").glob("*/__init__.py")}
    others = {"deploy", "house", "logs", "support", "survival"}
    assert {
        path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("*.py"))
    } <= packages | others
    assert {path.name for path in (ROOT / "tests").glob("test_*.py")} == {"test_laws.py", "test_main_job.py"}


def test_no_module_has_a_vague_name():
    vague = {"utils", "util", "helpers", "helper", "common", "base", "misc", "manager", "core"}
    assert [
        name_of(path) for path in modules("monitor", "tests", "scripts") if path.stem.removeprefix("test_") in vague
    ] == []


# --- documents -------------------------------------------------------------------------------------------------------


def test_the_architecture_names_every_package_and_no_other():
    text = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    layout = text.split("## Packages")[1].split("\n## ")[0]
    named = set(re.findall(r"^\| `([\w/]+)(?:/|\.py)` \|", layout, re.MULTILINE))
    packages = {
        p.parent.relative_to(ROOT / "monitor").as_posix() for p in (ROOT / "monitor").rglob("*/__init__.py")
    } - {"."}
    loose = {path.stem for path in (ROOT / "monitor").glob("*.py") if not path.name.startswith("__")}
    assert named == packages | loose


def test_decision_records_are_numbered_short_and_uniform():
    records = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= MAX_ADR_LINES, path.name
        assert text.startswith(f"# {int(path.name[:4])}. "), path.name
        assert re.findall(r"^## (.*)", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], path.name


def test_links_between_documents_resolve():
    link = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
    dead = [
        f"{name_of(path)}: {where}"
        for path in tree_files()
        if path.suffix == ".md"
        for where in link.findall(path.read_text(encoding="utf-8"))
        if "://" not in where and not (path.parent / where).exists()
    ]
    assert dead == []


# --- make, continuous integration, image -----------------------------------------------------------------------------


def test_make_help_has_one_line_for_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    rules = set(re.findall(r"^([a-z][a-z-]*):(?!.*:=)", makefile, re.MULTILINE))
    helped = [
        line.split(maxsplit=1) for line in run("make", "--no-print-directory", "help", MAKEFLAGS="").stdout.splitlines()
    ]
    assert sorted(name for name, _ in helped) == sorted(phony) == sorted(rules)


def test_make_without_a_target_runs_all_checks():
    plan = run("make", "-n", "-o", ".venv/.installed", MAKEFLAGS="").stdout
    for command in (
        "ruff format --check",
        "ruff check",
        "hadolint",
        "scripts/manifests.py",
        "mypy",
        "lint-imports",
        "pytest",
        "--fail-under=100",
    ):
        assert command in plan
    (tests,) = re.findall("pytest .*", plan)
    assert '-m "not nightly"' in tests, "in one go"


def executable(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.parametrize("python", [None, "exit 1"], ids=["no python", "only an old python"])
def test_make_reports_a_missing_python_in_one_sentence(tmp_path, python):
    for name in ("Makefile", "pyproject.toml", "requirements"):
        (tmp_path / name).symlink_to(ROOT / name)
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "sh").symlink_to(shutil.which("sh"))
    if python:
        executable(binaries / "python3", python)
    made = run(shutil.which("make"), "test", cwd=tmp_path, PATH=str(binaries), PYTHON="python3", MAKEFLAGS="")
    said = [line for line in made.stderr.splitlines() if "***" not in line]
    assert made.returncode == 2
    assert said == ["make: no Python 3.11 or newer was found: install one, or name it: make PYTHON=/path/to/python3"]
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("status", [0, 2])
def test_continuous_integration_runs_make_check_and_returns_its_result(tmp_path, status):
    executable(tmp_path / "make", f'echo "$PWD: make $*"\nexit {status}')
    done = run(ROOT / ".ci/run", cwd=tmp_path, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}", CI="true")
    assert (done.returncode, done.stdout) == (status, f"{ROOT}: make check\n")


def test_hadolint_finds_no_problem_in_the_dockerfile():
    checked = run(SCRIPTS / "hadolint", "--no-color", "Dockerfile")
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_image_runs_one_process_without_privileges():
    instructions = [
        line.split(maxsplit=1)
        for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    users = [rest for word, *rest in instructions if word == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1][0])
    last = {word: rest[0] for word, *rest in instructions if rest}
    assert json.loads(last["ENTRYPOINT"]) == ["ingestion-monitor"]
    assert json.loads(last["CMD"]) == ["daemon"]
    assert last["VOLUME"] == "/data"
    assert "HEALTHCHECK" in last


# --- locks and wheel -------------------------------------------------------------------------------------------------


def lock(name):
    """Name → (version, hashes) of one file in requirements/."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    pins = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", text)[1:]:
        pin = re.match(r"([\w.-]+)==(\S+)", block)
        pins[canonicalize_name(pin[1])] = (pin[2], frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", block)))
    return pins


def closure(requirements):
    """The installed requirements and all their dependencies, by name."""
    found, todo = {}, [Requirement(text) for text in requirements]
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        key = (name, frozenset(wanted.extras))
        if key in found:
            continue
        found[key] = wanted
        for text in distribution(wanted.name).requires or []:
            needed = Requirement(text)
            extras = wanted.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(needed)
    return {name for name, _ in found}


DEPENDENCIES = PYPROJECT["project"]["dependencies"]
LOCKS = {
    "runtime.txt": DEPENDENCIES,
    "dev.txt": DEPENDENCIES + PYPROJECT["dependency-groups"]["dev"],
    "build.txt": PYPROJECT["build-system"]["requires"] + ["editables"],
}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_all_dependencies_with_hashes(name):
    pins = lock(name)
    for requirement in map(Requirement, LOCKS[name]):
        version, _ = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}: run `make lock`"
    assert [package for package, (_, hashes) in pins.items() if not hashes] == []
    assert closure(LOCKS[name]) - set(pins) == set()


@pytest.mark.parametrize("name", ["runtime.txt", "build.txt"])
def test_the_development_lock_includes_the_smaller_locks(name):
    assert lock(name).items() <= lock("dev.txt").items()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_contains_all_modules_the_migrations_and_py_typed(wheel):
    names = set(wheel.namelist())
    expected = {name_of(path) for path in modules("monitor")}
    expected |= {"monitor/" + name_of(path) for path in modules("migrations")}
    expected |= {name_of(path) for path in (ROOT / "monitor/synclog/presets").glob("*.toml")}
    assert expected | {"monitor/py.typed"} <= names
    assert any(re.fullmatch(r"monitor/migrations/versions/0001_\w+\.py", name) for name in names)


def test_the_wheel_contains_only_the_package_and_its_metadata(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"monitor", "ingestion_monitor.py", f"ingestion_monitor-{PYPROJECT['project']['version']}.dist-info"}
    assert [name for name in wheel.namelist() if name.endswith((".db", ".env", ".pyc"))] == []


def test_the_wheel_installs_one_command(wheel):
    (entry,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert wheel.read(entry).decode().split() == [
        "[console_scripts]",
        "ingestion-monitor",
        "=",
        "ingestion_monitor:command",
    ]


def test_the_version_is_the_same_in_the_package_its_metadata_and_the_changelog():
    version = PYPROJECT["project"]["version"]
    declared = re.search(
        r'^__version__ = "(.*)"$', (ROOT / "monitor/__init__.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    headings = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert declared[1] == version
    assert headings[0] == "Unreleased"
    assert version in headings


def test_the_package_runs_as_a_module():
    helped = run(sys.executable, "-m", "monitor", "--help")
    assert helped.returncode == 0, helped.stderr
    assert "Usage" in helped.stdout


def test_a_command_from_the_wheel_upgrades_its_database_outside_the_clone(wheel, tmp_path):
    site = tmp_path / "site"
    wheel.extractall(site)
    (tmp_path / "monitor.toml").write_text(
        '[[targets]]\nname = "t"\nprovider = "gloo"\npublisher_id = "p"\nauth = { api_key = "k" }\n'
        'sync_log = { url = "sqlite:///log.db" }\n'
    )
    where = run(sys.executable, "-c", "import monitor; print(monitor.__file__)", cwd=tmp_path, PYTHONPATH=str(site))
    assert where.stdout.startswith(str(site))
    upgraded = run(sys.executable, "-m", "monitor", "db", "upgrade", cwd=tmp_path, PYTHONPATH=str(site))
    assert upgraded.returncode == 0, upgraded.stderr
    assert (tmp_path / "monitor.db").is_file()
