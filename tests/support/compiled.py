"""One cache of compiled statements for all engines of a test process, as the daemon has one engine for all its runs.

SQLAlchemy keeps a cache per engine. Each test has an engine of its own, and would compile every statement again: an
eighth of the suite's time.
"""

import contextlib

from sqlalchemy import Engine, event
from sqlalchemy.util import LRUCache


class _SharedCache:
    """A mapping that finds statements by the kind of their dialect (the first part of the key), not by the engine."""

    def __init__(self):
        self._compiled = LRUCache(2000)

    def get(self, key):
        return self._compiled.get(self._shared(key))

    def __setitem__(self, key, compiled):
        self._compiled[self._shared(key)] = compiled

    def _shared(self, key):
        dialect, *statement = key
        kind = (type(dialect), dialect.server_version_info, dialect.paramstyle, dialect.default_schema_name)
        return (*kind, *statement)


@contextlib.contextmanager
def shared_compiled_statements():
    """Lets all engines share one cache."""
    cache = _SharedCache()

    def use_it(connection):
        connection.execution_options(compiled_cache=cache)

    event.listen(Engine, "engine_connect", use_it)
    yield
    event.remove(Engine, "engine_connect", use_it)
