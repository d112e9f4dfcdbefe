"""docs/sandbox.md keeps up with the sandbox."""

import re
from pathlib import Path

from monitor.sandbox.control import ROUTES
from monitor.sandbox.faults import Fault

TEXT = (Path(__file__).resolve().parents[2] / "docs/sandbox.md").read_text(encoding="utf-8")


def test_it_describes_every_field_of_a_fault_and_no_other():
    assert re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE) == list(Fault.__struct_fields__)


def test_it_has_an_example_of_every_control_call():
    examples = set()
    for line in re.findall(r"curl .*\$U/_sandbox\S*", TEXT):
        method = re.search(r"-X (\w+)", line) or re.search(r"-d( )", line)
        path = line.split("/_sandbox")[1].rstrip(")")
        named = re.sub(r"/(clients|keys)/[\w-]+/\w+", r"/\1/{name}/{act}", path).replace("$I", "{item_id}")
        examples.add(((method[1].strip() or "POST") if method else "GET", named))
    assert examples == {(method, path) for method, path, _ in ROUTES}
