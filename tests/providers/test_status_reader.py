import pytest
from hypothesis import given
from hypothesis import strategies as st
from providers.described import described, encoded

from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import Meaning
from monitor.providers.status_reader import StatusReader
from monitor.providers.statuses import StatusTable, worst

TABLE = StatusTable.with_overrides(
    {},
    {"completed": ["ready", True, 2], "pending": ["working", None], "failed": ["broken", 0.5], "not_found": ["GONE"]},
)


def read(body, **places):
    return StatusReader(TABLE, **{"status": ["documents.*.status"], **places}).read(body)


def documents(*statuses):
    return {"documents": [{"status": status} for status in statuses]}


def state(body, **places):
    found = read(body, **places)
    assert isinstance(found, ItemStatus), found
    return found.state


def test_words_that_are_equal_in_python_are_different_words():
    one = StatusTable.with_overrides({}, {"completed": [1]})
    true = StatusTable.with_overrides({}, {"failed": [True]})
    assert [one.states, true.states] == [{"1": ItemState.COMPLETED}, {"true": ItemState.FAILED}]


# --- the worst of many -----------------------------------------------------------------------------------------------

WORST = {
    "all ready": (["ready", "ready"], ItemState.COMPLETED),
    "one is worked on": (["ready", "working", "ready"], ItemState.PENDING),
    "one failed": (["ready", "broken", "ready"], ItemState.FAILED),
    "one failed, one is worked on": (["working", "broken"], ItemState.FAILED),
    "one is gone": (["ready", "GONE", "working"], ItemState.NOT_FOUND),
    "one nobody described": (["ready", "marinating"], ItemState.PENDING),
    "a null": (["ready", None], ItemState.PENDING),
}


@pytest.mark.parametrize(("statuses", "expected"), WORST.values(), ids=WORST)
def test_of_many_statuses_the_worst_counts(statuses, expected):
    assert state(documents(*statuses)) is expected


def test_a_status_that_nobody_described_is_reported_beside_one_that_is_known():
    assert read(documents("working", "marinating", "working")).stage == "marinating"


def test_the_values_of_an_object_are_elements_too():
    assert state({"documents": {"a": {"status": "ready"}, "b": {"status": "broken"}}}) is ItemState.FAILED
    assert state(["ready", "working"], status=["*"]) is ItemState.PENDING


UNREADABLE = {
    "no elements": ({"documents": []}, "the item's body has no elements at 'documents'"),
    "no array": ({"documents": "ready"}, "the item's body has no elements at 'documents'"),
    "nothing there": ({}, "the item's body has no elements at 'documents'"),
    "an element without a status": (
        {"documents": [{"status": "ready"}, {}]},
        "the item's body has no status at 'documents.*.status'",
    ),
    "a blank status": (documents("ready", " "), "the item's status is blank"),
    "an error with a null": ({"documents": None, "error": "no"}, "the item's body has no elements"),
}


@pytest.mark.parametrize(("body", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_many_statuses_of_which_one_can_not_be_read_are_a_bad_body(body, reason):
    found = read(body)
    assert isinstance(found, BadBody)
    assert found.reason.startswith(reason)


def test_a_failure_counts_beside_one_that_can_not_be_read():
    assert state({"documents": [{"status": "broken"}, {}]}) is ItemState.FAILED


def test_a_null_in_place_of_the_many_is_a_null():
    assert read({"documents": None}) == ItemStatus(state=ItemState.PENDING, stage="null")


elements = st.lists(
    st.fixed_dictionaries(
        {"status": st.sampled_from(["ready", "working", "broken", "GONE", "odd", "odder", " ", 2, None])},
        optional={"code": st.sampled_from(["a", "b", ""]), "text": st.sampled_from(["x", "y"])},
    )
    | st.just({}),
    max_size=6,
)


@given(elements.flatmap(lambda many: st.tuples(st.just(many), st.permutations(many))))
def test_the_order_of_many_does_not_count(orders):
    places = {"reason": ["documents.*.code"], "message": ["documents.*.text"]}
    one, other = (read({"documents": order}, **places) for order in orders)
    assert one == other


@given(elements, elements)
def test_more_elements_never_make_it_better(many, more):
    order = [ItemState.FAILED, ItemState.NOT_FOUND, ItemState.PENDING, ItemState.COMPLETED]
    few, all_ = read({"documents": many}), read({"documents": many + more})
    if isinstance(few, ItemStatus) and isinstance(all_, ItemStatus):
        assert order.index(all_.state) <= order.index(few.state)


@given(
    st.lists(st.sampled_from([TABLE.read(word) for word in ("ready", "working", "broken", "GONE", "odd")]), min_size=1)
)
def test_the_worst_is_one_of_the_parts(parts):
    assert worst(parts) in parts
    assert worst(parts) == worst(list(reversed(parts)))


# --- several places --------------------------------------------------------------------------------------------------


def test_of_several_places_the_first_known_status_counts():
    places = {"status": ["documents.*.is_duplicate", "documents.*.status"]}
    body = {"documents": [{"status": "broken", "is_duplicate": True}, {"status": "ready", "is_duplicate": False}]}
    assert state(body, **places) is ItemState.COMPLETED
    assert state(documents("broken"), **places) is ItemState.FAILED
    assert read(documents("marinating"), **places).stage == "marinating"
    assert isinstance(read({"documents": [{}]}, **places), BadBody)
    assert state({"a": "odd", "b": "odder", "c": "ready"}, status=["a", "b", "c"]) is ItemState.COMPLETED
    assert read({"a": "odd", "b": "odder"}, status=["a", "b"]).stage == "odder"


# --- words -----------------------------------------------------------------------------------------------------------

WORDS = [
    ("ready", ItemState.COMPLETED),
    ("READY", ItemState.COMPLETED),
    (True, ItemState.COMPLETED),
    (2, ItemState.COMPLETED),
    (2.0, ItemState.COMPLETED),
    (0.5, ItemState.FAILED),
    (None, ItemState.PENDING),
    ("null", ItemState.PENDING),
]


@pytest.mark.parametrize(("word", "expected"), WORDS)
def test_a_word_is_any_scalar(word, expected):
    found = read({"status": word}, status=["status"])
    assert (found.state, found.recognised) == (expected, True)


def test_a_fraction_that_nobody_described_is_no_status():
    assert read({"status": 0.25}, status=["status"]) == BadBody(reason="the item's body has no status at 'status'")


def test_a_word_may_mean_that_there_is_no_such_item():
    assert described(item={}).read_item(encoded({"status": "gone"}), "x") is Meaning.NOT_FOUND


# --- why it failed ---------------------------------------------------------------------------------------------------


def failure(body, **places):
    found = read(body, **{"status": ["status"], "reason": ["error.code", "code"], "message": ["error.text"], **places})
    return found.failure_reason, found.failure_message


REASONS = {
    "a code": ({"error": {"code": "unsupported_file", "text": "No."}}, ("unsupported_file", "No.")),
    "the second place": ({"code": 415}, ("415", None)),
    "an empty one before it": ({"error": {"code": " "}, "code": "late"}, ("late", None)),
    "no text": ({"error": {"code": {}, "text": True}}, (None, None)),
    "a null": ({"error": None}, (None, None)),
    "lines and control characters": ({"error": {"code": "a\nb\u202e\0c", "text": "x\r\ny"}}, ("a b c", "x y")),
    "too long": ({"error": {"code": "c" * 70, "text": "t" * 600}}, ("c" * 60, "t" * 500)),
}


@pytest.mark.parametrize(("body", "expected"), REASONS.values(), ids=REASONS)
def test_a_failure_has_a_reason_and_a_message(body, expected):
    assert failure({"status": "broken", **body}) == expected


@pytest.mark.parametrize("status", ["ready", "working", "GONE"])
def test_only_a_failure_has_a_reason(status):
    assert failure({"status": status, "code": "leftover"}) == (None, None)


def test_of_many_the_reason_is_that_of_the_same_element():
    body = {"code": "whole", "documents": [{"status": "ready", "code": "warning"}, {"status": "broken", "code": "bad"}]}
    assert read(body, reason=["documents.*.code"]).failure_reason == "bad"
    assert read(body, reason=["code"]).failure_reason == "whole"
