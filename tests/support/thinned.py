"""Parameters of which `make test` takes only some, because each is slow and shows the same on another value."""

import pytest
from support.scale import THOROUGH


def first_only(values, ids=None):
    """All values as parameters; those after the first run only in `make test-all` and `make check`."""
    first, *others = _parameters(values, ids)
    return [first, *map(_process, others)]


def ends_only(values, ids=None):
    """The same, but the last value runs always, too."""
    first, *others, last = _parameters(values, ids)
    return [first, *map(_process, others), last]


def ends(values):
    """The first and the last value; with `make thorough` all."""
    values = list(values)
    return values if THOROUGH else [values[0], values[-1]]


def smoke_first(values, ids=None):
    """All values as parameters of a test marked `process`; `make test` runs the first."""
    first, *others = _parameters(values, ids)
    return [pytest.param(*first.values, id=first.id, marks=pytest.mark.smoke), *others]


def _parameters(values, ids):
    """A tuple has one value per argument."""
    values = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*value, id=name) for value, name in zip(values, ids or [None] * len(values), strict=True)]


def _process(parameter):
    return pytest.param(*parameter.values, id=parameter.id, marks=pytest.mark.process)
