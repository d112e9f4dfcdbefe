"""Further secret headers of every request: what a gateway in front of the API asks for, beside the API's own key."""

from collections.abc import Callable, Mapping

from monitor.client.auth import SecretSource
from monitor.model.http import ApiError


class SecretHeaders:
    """The current values of some headers, for one run; their files are read again when they change."""

    def __init__(self, sources: Mapping[str, SecretSource]) -> None:
        """`sources` by header, in lower case."""
        self._sources = sources

    def current(self, now_s: float) -> Mapping[str, str] | ApiError:
        """The headers at `now_s` (monotonic); an error with code `UNUSABLE_CREDENTIALS` if one can't be read."""
        return self._read(lambda source: source.value(now_s))

    def reread(self, now_s: float) -> Mapping[str, str] | ApiError:
        """The same, read now: the API refused the credentials."""
        return self._read(lambda source: source.reread(now_s))

    def _read(self, read: Callable[[SecretSource], str | ApiError]) -> Mapping[str, str] | ApiError:
        headers = {}
        for name, source in self._sources.items():
            value = read(source)
            if isinstance(value, ApiError):
                return value
            headers[name] = value
        return headers
