import inspect

import pytest

from monitor.cli import sandbox as command
from monitor.sandbox import responses
from monitor.sandbox.faults import KEYS, PRESETS, Fault, parse_fault

WRITTEN = {
    "503": Fault(status=503, body=responses.BY_STATUS[503]),
    "504": Fault(status=504),
    "503:share=0.3": Fault(status=503, body=responses.BY_STATUS[503], share=0.3),
    "429:header.Retry-After=5": Fault(status=429, body=responses.RATE_LIMITED, headers={"Retry-After": "5"}),
    "html502:path=/engine,count=5": Fault(**PRESETS["html502"].fields, path="/engine", count=5),
    "html502:header.X=y": Fault(
        status=502, body=responses.BAD_GATEWAY, headers={"Server": "nginx", "Via": "1.1 google", "X": "y"}
    ),
    "drip:drip=5": Fault(passes=True, drip=5.0),
    "cut-body:cut=7, method=get": Fault(passes=True, cut_after=7, method="get"),
    "slow:delay=1m30s,for=1h": Fault(passes=True, delay_s=90.0, for_s=3600.0),
    "token-storm:share=1": Fault(passes=True, expires=True, path="/engine", share=1.0),
    "drop:status=500": Fault(close=True, status=500),
}


@pytest.mark.parametrize(("text", "fault"), WRITTEN.items(), ids=list(WRITTEN))
def test_a_named_fault_is_written_as_a_name_and_options(text, fault):
    assert parse_fault(text) == fault


@pytest.mark.parametrize("name", PRESETS)
def test_every_named_fault_has_a_description(name):
    assert isinstance(parse_fault(name), Fault)
    assert PRESETS[name].about


def test_the_spending_limit_is_the_429_of_the_reference():
    body = parse_fault("spending-limit").body
    assert body["detail"] == {"message": "Spending limit reached", "code": "SPENDING_LIMIT_EXCEEDED"}
    assert (body["error"]["type"], body["error"]["retryable"]) == ("rate_limit_error", True)


WRONG = {
    "no name": ("", "unknown fault '': use a status from 200 to 599, html502, "),
    "a near miss": ("html50", "unknown fault 'html50' (did you mean html502?)"),
    "no status": ("600", "unknown fault '600'"),
    "a key that is not there": ("503:shar=1", "unknown key 'shar' of a fault (did you mean share?): use path, "),
    "no value": ("503:share", "'share' is not key=value"),
    "nothing after a comma": ("503:share=1,", "'' is not key=value"),
    "no number": ("503:share=many", "share=many of a fault must be a number"),
    "no whole number": ("503:count=1.5", "count=1.5 of a fault must be a number"),
    "no duration": ("slow:delay=2", 'delay=2 of a fault must be a duration such as "30s"'),
    "out of range": ("503:share=2", "invalid fault: Expected `float` <= 1.0"),
    "a path without a slash": ("503:path=engine", "`$.path`"),
    "a header that is none": ("503:header.=x", "the header '' or its value is not valid"),
    "a contradiction": ("drop:cut=5", "it either closes or passes, drips and cuts"),
}


@pytest.mark.parametrize(("text", "why"), WRONG.values(), ids=WRONG)
def test_an_invalid_fault_is_refused_in_one_sentence(text, why):
    with pytest.raises(ValueError, match=r"fault|key") as refused:
        parse_fault(text)
    assert why in str(refused.value)


def test_help_lists_every_named_fault_and_key():
    assert ", ".join(PRESETS) == command.FAULT_NAMES
    assert f"Keys: {', '.join(KEYS)}, header.NAME." in inspect.getsource(command)
