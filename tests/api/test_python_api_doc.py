"""docs/python-api.md: its code compiles, and it names what there is."""

import ast
import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from monitor import api
from monitor.api.results import Item, Response, WaitOutcome
from monitor.model.http import ApiError as Failure
from monitor.model.http import NetworkFault, Operation

DOCUMENT = (Path(__file__).parents[2] / "docs/python-api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS)
def test_the_code_compiles(code):
    assert compile(code, "docs/python-api.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT).co_names


def test_every_call_field_and_operation_is_named():
    internal = {"cached", "gateway", "page", "meaning", "from_backoff", "from_token_endpoint"}
    names = {each.name for kind in (Item, WaitOutcome, Response) for each in fields(kind)} - {"id"}
    names |= {each.name for each in fields(Failure)} - internal
    names |= {name for name in vars(api.Engine) if not name.startswith("_")}
    names |= {each.value for each in Operation if each is not Operation.TOKEN} | {each.value for each in NetworkFault}
    assert sorted(name for name in names if not re.search(rf"`[^`]*\b{name}\b[^`]*`", DOCUMENT)) == []


def test_every_public_name_has_a_docstring():
    assert [name for name in api.__all__ if not inspect.getdoc(getattr(api, name))] == []
