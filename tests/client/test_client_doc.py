"""Compares each table in docs/client.md with the code, cell by cell."""

import gzip
import json
import re
from dataclasses import MISSING, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitor.client import limits, retry, throttle
from monitor.client.api_errors import FIELD_PATHS, parse_api_error
from monitor.client.classify import SPENDING_CODES, cause_of
from monitor.client.limits import is_outage
from monitor.client.rate import probe
from monitor.client.retry import (
    MAX_BOUNDED_ATTEMPTS,
    RETRY_TABLE,
    FailureKind,
    RetryAction,
    RetryPolicy,
    RetryReason,
    decide_retry,
    failure_kind,
)
from monitor.client.retry_after import MAX_RETRY_AFTER, RETRY_AFTER_SOURCES, parse_retry_after
from monitor.client.transports import faults, pool
from monitor.client.transports.body import decode_body
from monitor.config.targets import CheckConfig, TargetConfig
from monitor.model import LearnedLimits
from monitor.model.durations import format_duration
from monitor.model.http import ApiError, NetworkFault, Operation, Reply, Request

DOCUMENT = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def tables(text):
    """Each table as rows of cells; the first row is the head."""
    found = [[]]
    for line in text.splitlines():
        if not line.startswith("|"):
            found.append([])
        elif not re.fullmatch(r"[-| ]+", line):
            found[-1].append([cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")])
    return [table for table in found if table]


def section(heading):
    (text,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    return tables(text)


def code(text):
    return f"`{text}`"


def ticked(cell):
    return re.findall(r"`([^`]+)`", cell)


(SHARED,) = section("What is shared and stored")
REPEATS, VERDICTS = section("Retry or give up")
HINTS, SANITY = section("When a server says to come back")
FIELDS, BODIES = section("Fields of an error")
(LIMITS,), (NETWORK,), (SETTINGS,) = section("Limits"), section("Network faults"), section("Settings")
WITH_SOURCES = {
    "repeats": REPEATS,
    "verdicts": VERDICTS,
    "hints": HINTS,
    "sanity": SANITY,
    "fields": FIELDS,
    "limits": LIMITS,
}


@pytest.mark.parametrize("table", WITH_SOURCES.values(), ids=WITH_SOURCES)
def test_each_row_names_its_source(table):
    head, *rows = table
    assert head[-1] == "source"
    assert rows
    assert all(row[-1] and len(row) == len(head) for row in rows)


# --- retries


def test_the_table_of_retries_matches_the_code():
    head, *rows = REPEATS
    assert head == ["operation", *FailureKind, "source"]
    said = {row[0]: dict(zip(head[1:-1], row[1:-1], strict=True)) for row in rows}
    assert said == {
        code(operation): {kind: row[kind] for kind in FailureKind} for operation, row in RETRY_TABLE.items()
    }


LATER = {
    RetryReason.SPENDING_LIMIT: {"status": 402},
    RetryReason.STATUS_FORBIDS: {"status": 404},
    RetryReason.VETOED: {"retryable": False},
    RetryReason.UNSAFE_TO_REPEAT: {"operation": Operation.WRITE, "status": None, "network": NetworkFault.RESET},
    RetryReason.DEADLINE_EXCEEDED: {"deadline_s": 0.0},
    RetryReason.ATTEMPTS_EXHAUSTED: {"attempt": 5},
    RetryReason.RETRY_BUDGET_EXHAUSTED: {"budget_left": 0},
    RetryReason.RETRY_AFTER: {"retry_after": timedelta(seconds=1)},
    RetryReason.TRANSIENT: {},
}
"""An example of each reason, in the order of the document."""


def decided(circumstances):
    said = {name: circumstances[name] for name in ("status", "network", "retryable", "retry_after")}
    given = {name: circumstances[name] for name in circumstances if name not in said}
    return decide_retry(ApiError(**said), max_attempts=5, now_s=0.0, rand=0.5, **given)


CALM = {"status": 503, "network": None, "retryable": None, "retry_after": None}
CALM |= {"operation": Operation.READ, "deadline_s": 1000.0, "attempt": 1, "budget_left": 9}


@pytest.mark.parametrize("row", VERDICTS[1:], ids=lambda row: row[3])
def test_the_first_reason_that_applies_decides(row):
    number, _, action, reason, _ = row
    (mine,) = ticked(reason)
    later = list(LATER)[int(number) - 1 :]
    assert later[0] == mine
    for other in later:
        decision = decided(CALM | LATER[other] | LATER[mine])
        assert (decision.reason, decision.action) == (mine, action), other


def test_every_reason_is_listed():
    assert [ticked(row[3]) for row in VERDICTS[1:]] == [[reason] for reason in LATER]
    assert set(LATER) == set(RetryReason)
    assert {row[2] for row in VERDICTS[1:]} == set(RetryAction)


def test_the_conditions_have_the_codes_names_and_numbers():
    when = [row[1] for row in VERDICTS[1:]]
    assert ticked(when[0]) == sorted(SPENDING_CODES)
    assert [f'"{RetryPolicy.NO}"' in when[1], f'"{RetryPolicy.UNSAFE}"' in when[3]] == [True, True]
    assert f" {MAX_BOUNDED_ATTEMPTS} if bounded" in when[5]
    assert backoffs() in when[8]


def backoffs():
    """The longest waits after the first, second … attempt, until they stop growing."""
    longest_s = [f"{retry._backoff_s(attempt):g}" for attempt in range(1, 8)]
    assert longest_s[-1] == longest_s[-2]
    return f"a random part of {', '.join(longest_s[:-2])}, then {longest_s[-1]}"


# --- hints


def hinted(said):
    """The result of an example: headers as `name: value`, or a body."""
    headers, body = {}, None
    for part in ticked(said):
        if part.startswith("{"):
            body = json.loads(part)["retry_after"]
        else:
            name, value = part.split(": ", 1)
            headers[name] = value
    wait = parse_retry_after(headers, body, now=NOW, status=429)
    return "nothing" if wait is None else f"{wait.total_seconds():g} s"


def test_the_table_of_hints_matches_the_code():
    read = [
        (source.header, ", ".join(map(str, sorted(source.statuses or ()))) or "any") for source in RETRY_AFTER_SOURCES
    ]
    assert [(None if "body" in where else ticked(where)[0], on) for _, where, _, on, *_ in HINTS[1:]] == read


EXAMPLES = [(row[-2], example) for row in (*HINTS[1:], *SANITY[1:]) for example in row[-2].split("<br>")]


@pytest.mark.parametrize("example", [example for _, example in EXAMPLES])
def test_examples_of_hints_are_read_as_documented(example):
    said, read = example.split(" → ")
    assert hinted(said) == read


@pytest.mark.parametrize("row", HINTS[1:], ids=lambda row: row[1])
def test_the_examples_of_a_hint_use_its_own_place(row):
    places = {"body `retry_after`" if part.startswith("{") else code(part.split(": ")[0]) for part in ticked(row[4])}
    assert places == {row[1]}


# --- errors


def test_the_table_of_places_matches_the_code():
    said = {ticked(field)[0]: tuple(ticked(places)) for field, places, _ in FIELDS[1:]}
    assert list(said.items()) == list(FIELD_PATHS.items())


@pytest.mark.parametrize("row", FIELDS[1:], ids=lambda row: row[0])
def test_the_source_of_each_place_is_named(row):
    assert sorted(ticked(row[2])) == sorted(ticked(row[1]))


def kept(failure):
    """The fields of an error besides its status, as the document writes them."""
    names = [
        (each.name, getattr(failure, each.name))
        for each in fields(failure)
        if each.default is not MISSING and getattr(failure, each.name) != each.default
    ]
    spelled = {name: str(value) for name, value in names}
    if failure.details:
        spelled["details"] = ", ".join(f"{each.loc}: {each.msg}" for each in failure.details)
    return spelled


@pytest.mark.parametrize("row", BODIES[1:], ids=lambda row: row[0])
def test_examples_of_bodies_are_read_as_documented(row):
    _, status, body, said = row
    failure = parse_api_error(Reply(status=int(status), headers={}, body=body.strip("`").encode()), now=NOW)
    lines = (re.fullmatch(r"`(\w+)`: (.*)", line).groups() for line in said.split("<br>"))
    assert dict(lines) == kept(failure)


# --- limits, network, settings


def default(model, name):
    return model.model_fields[name].default


def breaker_limits():
    first, most, last = limits._OPEN_AFTER_FIRST, limits._OPEN_AFTER_FAILURES, limits._WINDOW_SIZE
    return {
        "breaker, opens": f"if the first {first} attempts of a run all meet an outage, or {most} of the last {last}; "
        "it stays open for the run",
        "breaker, next run": "begins with one probe if it was open, or if a run of at least "
        f"{limits._MIN_ATTEMPTS} attempts met only outages",
    }


def retry_limits():
    firsts, floor = limits._ATTEMPTS_PER_RETRY, limits._MIN_RETRIES
    return {
        "retry budget": f"1 retry per {firsts} first attempts of the run, and at least {floor}",
        "attempts": f"{default(CheckConfig, 'max_attempts')} per call by default; {MAX_BOUNDED_ATTEMPTS} if bounded",
        "backoff": f"{backoffs()} s",
    }


def rate_limits():
    usual, most = default(CheckConfig, "concurrency"), throttle._DEFAULT_MAX_IN_FLIGHT
    holding = ", ".join(map(str, sorted(limits._BACKOFF_STATUSES)))
    return {
        "concurrency": f"{usual} by default (at most {most}, also without configuration); halved after a 429 or an "
        "outage, once for all requests in flight together; plus one per round of successes; at least 1",
        "server backoff": f"for hints on {holding}; at most {format_duration(MAX_RETRY_AFTER)}; then one probe",
        "rate, a limit is stated": f"{default(CheckConfig, 'rate_share'):.0%} of it by default",
        "rate, only 429s": f"{probe._MIN_PER_S:g} request a second until one is accepted; then at most "
        f"{probe._BACKOFF_FACTOR:.0%} of the rate before, back to {probe._PLATEAU_FACTOR:.0%} of it within "
        f"{probe._INITIAL_RECOVERY_S:g} s, and slowly beyond; within up to {probe._MAX_RECOVERY_S:g} s if it is "
        "refused at the same rate again",
    }


def test_the_table_of_limits_has_the_codes_numbers():
    mib, page = Request(method="GET", path="/", template="/").max_bytes >> 20, default(CheckConfig, "list_max_mb")
    body = {"body": f"{mib} MiB decoded; a page of a list {page} MiB by default"}
    assert {name: text for name, text, _ in LIMITS[1:]} == breaker_limits() | retry_limits() | rate_limits() | body


def test_a_target_may_have_as_many_requests_in_flight_as_a_client_without_settings():
    assert CheckConfig.model_json_schema()["properties"]["concurrency"]["maximum"] == throttle._DEFAULT_MAX_IN_FLIGHT


def test_every_stored_limit_is_listed():
    kept_as = [name for row in SHARED[1:] for name in ticked(row[2])]
    assert sorted(kept_as) == sorted({each.name for each in fields(LearnedLimits)} - {"at"})


def of_bodies():
    """The messages about unreadable bodies, by fault."""
    cut = gzip.compress(b"x" * 100)[:-8]
    read = (
        decode_body(b"xx", "", 1),
        decode_body(b"x", "br", 9),
        decode_body(b"x" * 9, "gzip", 99),
        decode_body(cut, "gzip", 999),
    )
    return [(each.fault, re.sub(r"\d+", "N", each.text)) for each in read]


def words(fault):
    others = [(faults.TIMED_OUT.fault, faults.TIMED_OUT.text)]
    return [faults.FAULT_MESSAGES[fault], *(text for kind, text in [*others, *of_bodies()] if kind is fault)]


def words_of_proxy(fault):
    refusals = [text for _, text in pool._PROXY_REFUSALS] if fault is NetworkFault.REFUSED else []
    return [*([pool._PROXY_FAULT_MESSAGES[fault]] if fault in pool._PROXY_FAULT_MESSAGES else []), *refusals]


@pytest.mark.parametrize("fault", list(NetworkFault))
def test_the_table_of_network_faults_matches_the_code(fault):
    (row,) = [row for row in NETWORK[1:] if row[0] == code(fault)]
    failure = ApiError(status=None, network=fault)
    kind = failure_kind(failure)
    assert row[1:] == [
        "<br>".join(words(fault)),
        "<br>".join(words_of_proxy(fault)),
        code(cause_of(failure)),
        kind,
        RETRY_TABLE[Operation.READ][kind],
        RETRY_TABLE[Operation.WRITE][kind],
        "yes" if is_outage(failure) else "no",
    ]


def test_the_table_of_network_faults_has_each_of_them_once():
    assert [row[0] for row in NETWORK[1:]] == [code(fault) for fault in NetworkFault]


def as_written(value):
    return "none" if value is None else code(format_duration(value) if isinstance(value, timedelta) else value)


@pytest.mark.parametrize("row", SETTINGS[1:], ids=lambda row: row[0])
def test_settings_have_the_documented_defaults(row):
    (name,) = ticked(row[0])
    model = CheckConfig if name in CheckConfig.model_fields else TargetConfig
    assert row[1] == as_written(default(model, name))


def test_every_setting_of_the_client_is_listed():
    steering = [
        "rate",
        "rate_share",
        "concurrency",
        "deadline",
        "attempt_timeout",
        "max_attempts",
        "http",
        "tls",
        "proxy",
    ]
    assert [ticked(row[0]) for row in SETTINGS[1:]] == [[name] for name in steering]
