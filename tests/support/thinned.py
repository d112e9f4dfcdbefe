"""Parameters of which `make test` takes only some, because each is slow and shows the same on another value."""

import pytest


def first_only(values):
    """All values as parameters; those after the first run only in `make test-all` and `make check`."""
    first, *others = values
    return [first, *(_process(value) for value in others)]


def ends_only(values):
    """The same, but the last value runs always, too."""
    first, *others, last = values
    return [first, *(_process(value) for value in others), last]


def _process(value):
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=pytest.mark.process)
