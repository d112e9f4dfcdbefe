"""The tables of docs/sandbox.md match the sandbox, and its commands run."""

import re
import shlex
import uuid
from pathlib import Path

import httpx
import pytest

from monitor.cli.app import command_tree
from monitor.cli.sandbox import parse_options
from monitor.sandbox import Sandbox, SandboxSettings, ScenarioPlayer
from monitor.sandbox.control import ROUTES
from monitor.sandbox.faults import KEYS, PRESETS, Fault
from monitor.sandbox.scenario import ACTIONS, Scenario, read_scenario

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/sandbox.md").read_text(encoding="utf-8")
LINES = re.findall(r"^ {4}(\S.*)$", re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
COMMAND = command_tree().commands["sandbox"]


def table(first_column):
    """The rows of one table, by its first column's name."""
    body = TEXT.split(f"| {first_column} |")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in body.splitlines()[2:]]


def names(first_column):
    return [row[0].strip("`") for row in table(first_column)]


def test_the_document_has_exactly_the_options_of_the_command():
    options = [option.opts[0] for option in COMMAND.params if option.name != "help"]
    assert sorted(names("option")) == sorted(options)


def test_the_document_has_exactly_the_fields_of_a_fault():
    assert names("field") == list(Fault.__struct_fields__)


def test_the_document_has_every_named_fault():
    assert [(row[0].strip("`"), row[1]) for row in table("name")] == [
        (name, each.about) for name, each in PRESETS.items()
    ]


def test_the_document_has_every_key_of_a_named_fault():
    assert [(row[0].strip("`"), row[1].strip("`")) for row in table("key")[:-1]] == list(KEYS.items())


def test_the_document_has_every_action_of_a_scenario():
    assert names("action") == list(ACTIONS)


def test_the_document_has_an_example_of_every_control_call():
    examples = set()
    for line in re.findall(r"curl .*\$U/_sandbox\S*", TEXT):
        method = re.search(r"-X (\w+)", line) or re.search(r"-d( )", line)
        path = line.split("/_sandbox")[1].rstrip(")")
        named = re.sub(r"/(clients|keys)/[\w-]+/\w+", r"/\1/{name}/{act}", path).replace("$I", "{item_id}")
        examples.add(((method[1].strip() or "POST") if method else "GET", named))
    assert examples == {(method, path) for method, path, _ in ROUTES}


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("ingestion-monitor")])
def test_the_documented_command_serves(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    program, name, *arguments = shlex.split(line)
    assert (program, name) == ("ingestion-monitor", "sandbox")
    given = COMMAND.make_context(name, list(arguments)).params
    faults, rate, scenario = parse_options(given["fault"] or (), given["rate"], given["scenario"])
    assert len(faults) == arguments.count("--fault")
    assert (scenario is not None) == ("--scenario" in arguments)
    assert (rate is not None) == ("--rate" in arguments)
    seconds = {name: value for name, value in given.items() if name.endswith("_seconds")}
    settings = SandboxSettings(port=0, rate=rate, retry_after=given["retry_after"], **seconds)
    with Sandbox(settings) as sandbox:
        for fault in faults:
            sandbox.inject_fault(fault)
        ScenarioPlayer(sandbox, scenario or Scenario(about="", steps=())).advance(0.0)
        assert httpx.get(f"{sandbox.url}/_sandbox/stats", trust_env=False).status_code == 200


class Shell:
    """A minimal shell with `echo`, `cut` and `curl`, enough for the document."""

    def __init__(self, sandbox):
        self.sandbox, self.variables, self.files = sandbox, {}, {}
        self.http = httpx.Client(trust_env=False)

    def run(self, line):
        taken = re.fullmatch(r"""(\w)=\$\((.*) \| cut -d'"' -f(\d+)\)""", line)
        if taken:
            self.variables[taken[1]] = self.curl(taken[2]).text.split('"')[int(taken[3]) - 1]
        elif line.startswith("echo "):
            _, text, _, name = shlex.split(line)
            self.files[name] = text.encode()
        elif line.startswith("curl "):
            self.curl(line)
        else:
            self.variables |= dict(word.split("=", 1) for word in shlex.split(line))
            self.variables["U"] = self.sandbox.url

    def curl(self, line):
        # single quotes prevent substitution; none in the document contains a dollar sign
        filled = re.sub(r"\$(\w)", lambda match: self.variables[match[1]], line)
        words = iter(shlex.split(filled)[1:])
        method, url, data, form, files, headers, auth = None, None, [], {}, {}, {}, None
        for word in words:
            match word:
                case "-s":
                    pass
                case "-X":
                    method = next(words)
                case "-u":
                    auth = tuple(next(words).split(":"))
                case "-H":
                    name, value = next(words).split(": ")
                    headers[name] = value
                case "-d":
                    data.append(next(words))
                    headers["Content-Type"] = "application/x-www-form-urlencoded"
                case "-F":
                    name, value = next(words).split("=")
                    if value.startswith("@"):
                        files[name] = (value[1:], self.files[value[1:]])
                    else:
                        form[name] = value
                case _:
                    assert url is None, line
                    url = word
        sent = {"data": form, "files": files} if files else {"content": "&".join(data)}
        method = method or ("POST" if data or files else "GET")
        answer = self.http.request(method, url, headers=headers, auth=auth, **sent)
        assert answer.status_code == 200, f"{line}\n{answer.text}"
        return answer


def test_every_documented_call_succeeds():
    with Sandbox() as sandbox:
        shell = Shell(sandbox)
        for line in LINES:
            if line.startswith("ingestion-monitor"):
                continue
            shell.run(line)
            sandbox.clear_faults()  # so that none hits what the document shows next
        shell.http.close()
    assert len([line for line in LINES if "curl" in line]) > 25


def test_the_documented_scenario_is_valid():
    (text,) = re.findall(r"^```toml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    scenario = read_scenario(text, name="the document")
    assert [step.at_s for step in scenario.steps] == [0, 60, 360, 600, 660]


def test_the_documented_example_of_a_test_runs():
    (text,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    names = {}
    exec(compile(text, "docs/sandbox.md", "exec"), names)  # noqa: S102  # the document's own example
    assert names["now_s"] == 60
    assert uuid.UUID(names["item_id"])
