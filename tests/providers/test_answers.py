import pytest
from hypothesis import given
from hypothesis import strategies as st
from providers.described import described, encoded, read_page

from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import Meaning, Operation, is_valid_path
from monitor.providers import FollowUp
from monitor.providers.answers import worst_answer

BATCH = {
    "path": "/documents/status",
    "method": "POST",
    "body": {"ids": "{item_ids}"},
    "batch": 10,
    "items": "documents",
    "id": "id",
}
READY, WORKING = (ItemStatus(state=ItemState(s), stage=w) for s, w in (("completed", "ready"), ("pending", "working")))
LEFT_OUT = BadBody(reason="the body leaves this item out, and not_found does not say what that means")


def batch(**item):
    return described(item={**BATCH, **item})


def answered(body, *item_ids, **item):
    return batch(**item).read_batch(encoded(body), item_ids)


def row(item_id, status, **more):
    return {"id": item_id, "status": status, **more}


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_batch_is_one_post_with_the_ids_as_an_array():
    provider = batch()
    request = provider.batch_request(["a", 'b"'])
    assert (provider.batch_size, request.method, request.path) == (10, "POST", "/documents/status")
    assert request.body == b'{"ids":["a","b\\""]}'
    assert request.headers == {"content-type": "application/json"}
    assert (request.operation, request.item_id) == (Operation.READ, "")
    assert provider.item_request("a").body == b'{"ids":["a"]}'
    assert provider.item_request("a").item_id == "a"
    assert request.max_bytes == 10 << 20


def test_a_batch_may_go_into_the_query():
    provider = batch(path="/documents?ids={item_ids}", method="GET", body=None)
    request = provider.batch_request(["a 1", "b"])
    assert (request.method, request.path, request.body) == ("GET", "/documents?ids=a%201,b", None)
    assert provider.item_request("b").path == "/documents?ids=b"
    assert [provider.valid_id(each) for each in ("a 1", "a,b", "", "x" * 9000)] == [True, False, False, False]
    assert not is_valid_path(provider.batch_request(["x" * 1000] * 10).path), "to be asked in smaller batches"


def test_an_api_without_batches_takes_one_id_at_a_time():
    provider = described()
    assert provider.batch_size == 1
    assert provider.read_batch(encoded({"status": "ready"}), ["a"]) == {"a": READY}


# --- answers ---------------------------------------------------------------------------------------------------------


def test_each_id_gets_its_own_answer_in_whatever_order():
    found = answered(
        {"documents": [row("c", "GONE"), row("b", "broken", code="E1"), row("A", "ready"), row("x", "ready")]},
        "a",
        "b",
        "c",
        "d",
        reason="code",
    )
    assert found == {
        "a": READY,
        "b": ItemStatus(state=ItemState.FAILED, stage="broken", failure_reason="E1"),
        "c": Meaning.NOT_FOUND,
        "d": LEFT_OUT,
    }


def test_an_id_in_the_same_case_comes_before_another_spelling():
    found = answered({"documents": [row("A", "working"), row("a", "ready")]}, "a", "A")
    assert found == {"a": READY, "A": WORKING}


def test_of_several_answers_about_one_id_the_worst_counts():
    found = answered({"documents": [row("a", "ready"), row("a", "broken"), row("b", "ready"), row("b", " ")]}, "a", "b")
    assert found["a"].state is ItemState.FAILED
    assert found["b"] == BadBody(reason="the item's status is blank")


LEFT = {
    "not described": ({}, {"documents": []}, LEFT_OUT),
    "described": ({"not_found": {"absent": [""]}}, {"documents": [row("b", "ready")]}, Meaning.NOT_FOUND),
    "no answers": ({"not_found": {"absent": [""]}}, {"documents": []}, Meaning.NOT_FOUND),
    "null for none": ({"not_found": {"absent": [""]}}, {"documents": None}, Meaning.NOT_FOUND),
    "an answer without an id": ({"not_found": {"absent": [""]}}, {"documents": [{"status": "ready"}]}, LEFT_OUT),
    "no array": ({"not_found": {"absent": [""]}}, {}, BadBody(reason="the items' body has no array at 'documents'")),
}


@pytest.mark.parametrize(("item", "body", "expected"), LEFT.values(), ids=LEFT)
def test_an_id_that_a_complete_body_leaves_out_is_not_found_if_the_description_says_so(item, body, expected):
    assert answered(body, "a", **item) == {"a": expected}


def test_what_means_not_found_is_looked_for_in_each_answer():
    item = {"not_found": {"absent": ["detail"], "values": {"kind": ["missing"]}}}
    found = answered(
        {"documents": [row("a", "x", detail={}), row("b", "x", detail=1, kind="Missing"), row("c", "ready", detail=1)]},
        "a",
        "b",
        "c",
        **item,
    )
    assert found == {"a": Meaning.NOT_FOUND, "b": Meaning.NOT_FOUND, "c": READY}
    assert batch(**item).read_meaning is None, "a value in the body of a batch is about no item"


KEYED = {"keyed": True, "id": None, "items": None, "status": ""}


def test_ids_may_be_keys():
    assert answered({"a": "ready", "B": "working"}, "a", "b", "c", **KEYED) == {"a": READY, "b": WORKING, "c": LEFT_OUT}
    nested = {**KEYED, "items": "data", "status": "state.now"}
    assert answered({"data": {"a": {"state": {"now": "ready"}}}}, "a", **nested) == {"a": READY}


UNUSABLE = {
    "an error where the ids would be": ({"error": "no"}, "the items' body reports an error"),
    "an array": ([], "the items' body has no object at ''"),
    "not JSON": (b"<html>", "the items' body is not JSON"),
    "empty": (b"", "the items' body is empty"),
}


@pytest.mark.parametrize(("body", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_body_without_answers_is_bad_for_each_id(body, reason):
    found = answered(body, "a", "b", **{**KEYED, "not_found": {"absent": [""]}})
    assert found == dict.fromkeys("ab", BadBody(reason=reason))


def test_one_id_may_be_looked_up_among_several_answers():
    provider = described(item={"path": "/documents?id={item_id}", "items": "data.docs", "id": "id", "status": "run"})
    body = {"data": {"docs": [{"id": "a", "run": "ready"}, {"id": "b", "run": "working"}]}}
    assert provider.batch_size == 1
    assert [provider.read_item(encoded(body), each) for each in ("a", "b", "c")] == [READY, WORKING, LEFT_OUT]


def test_a_value_in_a_body_about_one_item_means_that_there_is_none():
    item = {"path": "/?id={item_id}", "items": "data.docs", "id": "id", "not_found": {"values": {"code": [102]}}}
    provider = described(item=item)
    assert provider.read_item(encoded({"code": 102, "message": "no such document"}), "a") is Meaning.NOT_FOUND
    assert provider.read_meaning(200, encoded({"code": 102})) is Meaning.NOT_FOUND
    assert provider.read_item(encoded({"code": 0, "data": {"docs": [row("a", "ready")]}}), "a") == READY


answers = st.sampled_from(
    [
        READY,
        WORKING,
        Meaning.NOT_FOUND,
        BadBody(reason="b"),
        BadBody(reason="c"),
        ItemStatus(state=ItemState.FAILED, stage="x"),
        ItemStatus(state=ItemState.FAILED, stage="y"),
    ]
)


@given(st.lists(answers, min_size=1, max_size=5).flatmap(lambda many: st.tuples(st.just(many), st.permutations(many))))
def test_the_order_of_answers_does_not_count(orders):
    one, other = orders
    assert worst_answer(one) == worst_answer(other)
    assert worst_answer(one) in one


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["documents", "id", "status", "a"]), inner)
    ),
)


@given(st.binary(max_size=60) | JSON.map(encoded))
def test_no_body_raises_and_each_id_has_a_value(body):
    for item in ({}, {"not_found": {"absent": [""]}}, KEYED):
        assert set(batch(**item).read_batch(body, ["a", "b"])) == {"a", "b"}


# --- a second question -----------------------------------------------------------------------------------------------

RESULT = {"when": ["Success", 2], "path": "/v1/{kind}/{item_id}", "status": "outcome", "reason": "errors.0.text"}


def test_a_status_may_need_a_second_question():
    provider = described(item={"status": "task_status", "result": RESULT}, params={"kind": "result"})
    first = provider.read_item(encoded({"task_status": "success"}), "a/1")
    assert isinstance(first, FollowUp)
    assert (first.request.path, first.request.template) == ("/v1/result/a%2F1", "/v1/{kind}/{item_id}")
    assert isinstance(provider.read_item(encoded({"task_status": 2}), "a"), FollowUp)
    assert provider.read_item(encoded({"task_status": "broken"}), "a").state is ItemState.FAILED
    found = provider.read_follow_up(encoded({"outcome": "broken", "errors": [{"text": "no pages"}]}), "a/1")
    assert (found.state, found.failure_reason) == (ItemState.FAILED, "no pages")
    assert provider.read_follow_up(encoded({"outcome": "ready"}), "a") == READY
    assert provider.read_follow_up(encoded({"outcome": "gone"}), "a") is Meaning.NOT_FOUND
    assert provider.read_follow_up(b"", "a") == BadBody(reason="the body of the second question is empty")


def test_a_list_does_not_settle_what_needs_a_second_question():
    provider = described(
        item={"result": {**RESULT, "path": "/r/{item_id}", "when": ["ready"]}}, list={"path": "/documents"}
    )
    _, listing = read_page(provider, [row("a", "READY"), row("b", "working")])
    assert [listing.completed_stage(each) for each in "ab"] == [None, None]
    assert listing.contains("a")


def test_ids_that_differ_in_case_alone_have_their_own_answers():
    body = {"documents": [row("Doc-1", "ready"), row("doc-2", "ready")]}
    assert answered(body, "doc-1", "Doc-1", "DOC-2") == {"doc-1": LEFT_OUT, "Doc-1": READY, "DOC-2": READY}
