"""Groups the failed attempts of a run by endpoint, status and code, so that an outage logs at most 51 events.

It counts attempts, not items, and decides nothing. It keeps no URL, no secret, and no text of the API but its code.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from monitor.client.pages import page_words
from monitor.model.http import ApiError, NetworkFault

OTHER = "other"
"""The endpoint of the class that collects everything after the first 50 classes."""

UNANSWERED = "none"
_MAX_CLASSES = 50
_MAX_SAMPLES = 5

_Key = tuple[str, int | None, NetworkFault | None, str | None]

_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class _FailureClass:
    """The failures of one class so far."""

    first_at: datetime
    last_at: datetime
    count: int = 0
    timed_out: int = 0
    retry_count: int = 0
    latency_ms: float = 0.0
    sample_ids: list[str] = dataclasses.field(default_factory=list)
    request_ids: list[str] = dataclasses.field(default_factory=list)
    gateway: tuple[tuple[str, str], ...] = ()
    page: str | None = None


class FailureSummary:
    """Failed attempts of one run by endpoint, status or network fault, and code; at most 51 classes."""

    __slots__ = ("_classes", "by_status_class", "token_failures")

    def __init__(self) -> None:
        self._classes: dict[_Key, _FailureClass] = {}
        self.by_status_class: Counter[str] = Counter()
        """Failed attempts by `4xx` and the like, or `none` for those without an answer."""
        self.token_failures = 0

    def add(
        self,
        error: ApiError,
        *,
        template: str,
        item_id: str,
        at: datetime,
        latency_ms: float = 0.0,
        retry_count: int = 0,
    ) -> None:
        """Counts one failed attempt of a call. `template` is the path with its parameters named, never the raw one."""
        self.by_status_class[f"{error.status // 100}xx" if error.status else UNANSWERED] += 1
        self.token_failures += error.from_token_endpoint
        failures = self._classes.get((template, error.status, error.network, error.code))
        if failures is None:
            failures = self._class_for((template, error.status, error.network, error.code), at)
        failures.count += 1
        if at > failures.last_at:
            failures.last_at = at
        elif at < failures.first_at:
            failures.first_at = at
        if error.network is NetworkFault.TIMEOUT:
            failures.timed_out += 1
        if retry_count:
            failures.retry_count += 1
        failures.latency_ms = max(failures.latency_ms, latency_ms)
        if len(failures.sample_ids) < _MAX_SAMPLES:
            _add_sample(failures.sample_ids, item_id)
        if len(failures.request_ids) < _MAX_SAMPLES:
            _add_sample(failures.request_ids, error.request_id)
        failures.gateway = failures.gateway or error.gateway
        failures.page = failures.page if error.page is None else page_words(error.page)

    def count_expected(self, error: ApiError) -> None:
        """Counts an attempt whose failure was known before, such as a 404 for a missing item: it needs no event."""
        self.by_status_class[f"{(error.status or 0) // 100}xx"] += 1

    def count_cut_off(self) -> None:
        """Counts an attempt that our own deadline ended: it was sent but not answered, and is not a failure."""
        self.by_status_class[UNANSWERED] += 1

    def report(self) -> Iterator[Mapping[str, object]]:
        """The fields of one event per class, sorted by count (descending), endpoint, status, fault and code.

        `latency_ms` is the longest; `sample_ids` and `request_ids` are the first five; `gateway` has the headers of a
        gateway that answered instead of the API, and `page` says in our own words what its page is.
        """
        for key, failures in sorted(self._classes.items(), key=_sort_key):
            endpoint, status, network, code = key
            yield {
                "endpoint": endpoint,
                "http_status": status,
                "network": network.value if network else None,
                "code": code,
                "count": failures.count,
                "retry_count": failures.retry_count,
                "timed_out": failures.timed_out,
                "latency_ms": round(failures.latency_ms, 1),
                "first_at": _iso_utc(failures.first_at),
                "last_at": _iso_utc(failures.last_at),
                "sample_ids": list(failures.sample_ids),
                "request_ids": list(failures.request_ids),
                **({"gateway": dict(failures.gateway)} if failures.gateway else {}),
                **({"page": failures.page} if failures.page is not None else {}),
            }

    def _class_for(self, key: _Key, at: datetime) -> _FailureClass:
        if len(self._classes) >= _MAX_CLASSES:
            key = (OTHER, None, None, None)
        return self._classes.setdefault(key, _FailureClass(first_at=at, last_at=at))


def log_failures(failure_summary: FailureSummary) -> None:
    """Logs one event `requests_failed` per class. To be called once, at the end of a run."""
    for fields in failure_summary.report():
        _log.warning("requests_failed", **fields)


def _add_sample(samples: list[str], text: str | None) -> None:
    if text and text not in samples:
        samples.append(text)


def _sort_key(entry: tuple[_Key, _FailureClass]) -> tuple[int, str, int, str, str]:
    (endpoint, status, network, code), failures = entry
    return -failures.count, endpoint, status or 0, network or "", code or ""


def _iso_utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
