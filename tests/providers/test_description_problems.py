import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from providers.described import ITEM, STATUSES, described, settings

from monitor.errors import ConfigError
from monitor.providers.generic import Generic

LIST = {"path": "/documents"}
POST = {"method": "POST", "path": "/documents/status", "body": {"ids": "{item_ids}"}, "batch": 10, "id": "id"}
RESULT = {"when": ["ready"], "path": "/results/{item_id}"}
BODY = {"method": "POST", "path": "/documents"}


def item(**keys):
    return {"item": {**ITEM, **keys}}


def errors(**rule):
    return {**item(), "errors": [rule]}


def listed(**keys):
    return {**item(), "list": {**LIST, **keys}}


WRONG = {
    "neither item nor list": ({}, "item is missing"),
    # --- the request
    "another method": (item(method="PUT"), 'item.method must be "GET" or "POST"'),
    "a body with GET": (item(body={}), 'item.body needs method = "POST"'),
    "no id in a GET": (item(path="/documents"), "item.path must contain {item_id} exactly once"),
    "no id in a POST": (item(**BODY, body={"a": 1}), "item.path or body must contain {item_id} exactly once"),
    "the id twice": (item(path="/{item_id}/{item_id}"), "item.path must contain {item_id} exactly once"),
    "another host": (item(path="//evil.example/{item_id}"), "item.path must begin with one slash"),
    "another origin": (item(path="https://evil.example/{item_id}"), "item.path must begin with a slash"),
    "an unknown placeholder": (
        item(path="/{stroe}/{item_id}"),
        "item.path contains {stroe}, which the target does not",
    ),
    "one in the body": (item(**BODY, body=["{stroe} {item_id}"]), "item.body contains {stroe}, which the target does"),
    "ids without batch": (item(**BODY, body="{item_ids}"), "item.body contains {item_ids}"),
    "ids in half a text": (
        item(**{**POST, "body": "ids: {item_ids}"}),
        "item.body must have {item_ids} as a whole text",
    ),
    "a path in a body": (item(**BODY, body="{item_id:path}"), "item.body must have {item_id} without :path"),
    "a list of one item": (listed(path="/documents/{item_id}"), "list.path contains {item_id}"),
    "a body with GET, in a list": (listed(body={}), 'list.body needs method = "POST"'),
    **{
        f"a place as {name} writes it": (item(status=path), "item.status must be names and positions joined by dots")
        for name, path in {"JSONPath": "$.status", "jq": "documents[0].status", "a pointer": "/data/status"}.items()
    },
    # --- batches
    "a batch without ids": (item(**{**POST, "body": {"id": "x"}}), "item.path or body must contain {item_ids} exactly"),
    "a batch with one id": (item(**{**POST, "body": "{item_id}"}), "item.body contains {item_id}"),
    "an id beside the array of a batch": (
        item(**{**POST, "body": {"ids": ["{item_id}"], "first": "{item_id}"}}),
        "item.body contains {item_id}, which a batch repeats only",
    ),
    "a batch of none": (item(**{**POST, "batch": 0}), "item.batch must be between 1 and 1000"),
    "a batch of too many": (item(**{**POST, "batch": 1001}), "item.batch must be between 1 and 1000"),
    "a batch of too many in a query": (item(path="/?ids={item_ids}", batch=101, id="id"), "item.batch must be at most"),
    "a batch in the path": (item(path="/documents/{item_ids}", batch=2, id="id"), "item.path may have {item_ids} only"),
    "answers without ids": (item(**{**POST, "id": None}), "item.id is missing: say where each of"),
    "ids twice": (item(keyed=True, id="id"), "item.id does not apply with keyed = true"),
    "many in the place of the answers": (item(items="a.*", id="id"), "item.items must lead to one place"),
    "a second question for batches": (item(**POST, result=RESULT), "item.result does not apply to batches"),
    # --- places
    "the id as a place": (item(status="{item_id}"), "item.status must be a place in the JSON body"),
    "an empty step": (item(status="data..status"), "item.status must be names joined by dots"),
    "no place": (item(status=[]), "item.status must name at least one place"),
    "two stars": (item(status="a.*.b.*.c"), 'item.status has more than one "*"'),
    "half a star": (item(status="documents.doc*.status"), 'item.status must have "*" as a whole step'),
    "stars in two places": (item(status=["a.*.b", "b.*.b"]), 'item.status must have "*" in the same place'),
    "a star in the id": (item(id="documents.*.id"), "item.id must lead to one place"),
    "a star for the reason alone": (item(reason="errors.*.code"), 'item.reason may have "*" only where status has it'),
    "another star for the message": (item(status="a.*.s", message="b.*.m"), 'item.message may have "*" only where'),
    "an empty reason": (item(reason=""), "item.reason must be names joined by dots"),
    "a star in the items of a list": (listed(items="data.*"), "list.items must lead to one place"),
    "a star in the id of a list": (listed(id="*.id"), "list.id must lead to one place"),
    "a star in a page": (listed(page={"by": "cursor", "next": "*.next"}), "list.page.next must lead to one place"),
    "a pattern": (item(id_pattern="["), "item.id_pattern must be a valid regular expression"),
    # --- not found
    "a good status": (item(not_found={"statuses": [200]}), "item.not_found.statuses can't have 200"),
    "a status of the key": (item(not_found={"statuses": [404, 401]}), "item.not_found.statuses can't have 401"),
    "a star in what is absent": (item(not_found={"absent": ["a.*.b"]}), "item.not_found.absent must lead to one place"),
    "a place of values": (item(not_found={"values": {"a..b": [1]}}), "item.not_found.values.'a..b' must be names"),
    "a path without values": (item(not_found={"values": {"code": []}}), "item.not_found.values.'code' is empty"),
    # --- the second question
    "no when": (item(result={"path": "/r/{item_id}"}), "item.result.when is missing"),
    "no path": (item(result={"when": ["x"]}), "item.result.path must begin with a slash"),
    "no id in it": (item(result={"when": ["x"], "path": "/r"}), "item.result.path must contain {item_id} exactly once"),
    "a parameter of the row in it": (
        {**item(result={**RESULT, "path": "/{store}/{item_id}"}), "row_params": ("store",)},
        "item.result.path contains {store}",
    ),
    "a place in it": (item(result={**RESULT, "status": "{item_id}"}), "item.result.status must be a place"),
    "a reason in it": (item(result={**RESULT, "reason": "a..b"}), "item.result.reason must be names joined by dots"),
    "a star in it": (item(result={**RESULT, "message": "a.*.b"}), 'item.result.message may have "*" only where'),
    # --- errors
    "another cause": (errors(cause="bad_response", path="a", values=[1]), "errors.0.cause must be one of invalid"),
    "not found as a cause": (errors(cause="not_found", path="a", values=[1]), "errors.0.cause must be one of"),
    "neither path nor statuses": (errors(cause="outage"), "errors.0.path is missing"),
    "a path without a value": (errors(cause="outage", path="a"), "errors.0.values is empty"),
    "values without a path": (errors(cause="outage", statuses=[418], values=[1]), "errors.0.values needs path"),
    "no status of HTTP": (errors(cause="outage", statuses=[99]), "errors.0.statuses must be HTTP statuses"),
    "every good answer": (errors(cause="outage", statuses=[200]), "errors.0.statuses must be HTTP statuses"),
    "one value with two meanings": (
        {
            **item(not_found={"values": {"code": [102, "Gone"]}}),
            "errors": [{"cause": "outage", "path": "code", "values": ["GONE"]}],
        },
        "errors.0.values has 'gone', as item.not_found.values has",
    ),
    "one value with two causes": (
        {
            **item(),
            "errors": [
                {"cause": "outage", "path": "code", "values": [7]},
                {"cause": "invalid", "path": "code", "values": ["7"]},
            ],
        },
        "errors.1.values has '7', as errors.0.values has",
    ),
    "one status with two meanings": (
        {**item(not_found={"statuses": [403]}), "errors": [{"cause": "forbidden", "statuses": [403]}]},
        "errors.0.statuses has 403, as item.not_found.statuses has",
    ),
    # --- pages
    "a page in the body of a GET": (listed(page={"by": "number", "in": "body"}), 'list.page.in = "body" needs method'),
    "a link after a POST": (listed(method="POST", page={"by": "link"}), 'list.page.by = "link" needs method = "GET"'),
    "a page in an array": (listed(method="POST", body=[], page={"by": "number"}), 'list.page.in must be "query"'),
    # --- words, parameters, headers
    "a word with two states": (
        {**item(), "statuses": {"completed": [True], "not_found": ["TRUE"]}},
        "statuses has TRUE",
    ),
    "nothing is ready": ({**item(), "statuses": {"not_found": ["x"]}}, "statuses.completed is missing"),
    "a parameter named as the id": ({**item(), "params": {"item_id": "x"}}, "params.'item_id' must be a name"),
    "a parameter's name": ({**item(), "params": {"a-b": "x"}}, "params.'a-b' must be a name"),
    "a blank parameter": ({**item(), "params": {"store": " "}}, "params.store must be a value"),
    "a parameter that leads up": ({**item(), "params": {"store": ".."}}, "params.store must be a value"),
    "a header in two lines": ({**item(), "headers": {"X": "a\nb"}}, "headers.'X' must be"),
    # --- form
    "an unknown key": (item(statsu="x"), "item, list or headers have an unexpected form"),
    "a number for a path": (item(path=7), "item, list or headers have an unexpected form"),
}


def problems(options):
    with pytest.raises(ConfigError) as caught:
        Generic.from_settings(settings(**options))
    return caught.value.problems


@pytest.mark.parametrize(("options", "problem"), WRONG.values(), ids=WRONG)
def test_what_can_not_work_is_named(options, problem):
    (said,) = problems(options)
    assert said.removeprefix("targets.docs").lstrip(".: ").startswith(problem)


def test_all_problems_are_named_at_once():
    said = problems(
        {
            **item(status="{item_id}", method="PUT", not_found={"absent": ["a.*"]}),
            "errors": [{"cause": "bad"}],
            "list": {"path": "x"},
            "statuses": {"completed": ["a"], "failed": ["A"]},
            "params": {"x": ""},
        }
    )
    assert len(said) == 8


GOOD = {
    "an item": item(),
    "a list alone": {"list": LIST},
    "null for what is left out": {"item": {**ITEM, "id": None, "not_found": None, "result": None}, "list": None},
    "a body of nulls": item(**BODY, body={"id": "{item_id}", "none": None}),
    "a batch in a body": item(**POST),
    "a batch of objects": item(**{**POST, "body": {"ids": [{"id": "{item_id}"}]}}),
    "keys": item(keyed=True, status=""),
    "many": item(status=["documents.*.kind", "documents.*.status"], reason="documents.*.code", message="message"),
    "a second question": item(result=RESULT),
    "conditions with a star": {
        **item(not_found={"statuses": [400, 404], "values": {"errors.*.code": ["gone"]}}),
        "errors": [{"cause": "unauthorized", "path": "error.details.*.reason", "values": ["API_KEY_INVALID"]}],
    },
    "one value with two causes, at different statuses": {
        **item(),
        "errors": [
            {"cause": "outage", "path": "code", "values": [7], "statuses": [500]},
            {"cause": "invalid", "path": "code", "values": [7], "statuses": [400]},
        ],
    },
    "a page in a body": listed(method="POST", page={"by": "number", "size": 5}),
    "an array without pages": listed(method="POST", body=["all"]),
    "parameters": {**item(path="/{store}/{item_id}"), "params": {"store": "a/b"}},
    "parameters of rows": {**item(path="/{store}/{item_id}"), "row_params": ("store",)},
}


def test_a_member_may_begin_with_a_dollar():
    assert described(**item(id="_id.$oid", status="$status")).valid_id("a")


@pytest.mark.parametrize("options", GOOD.values(), ids=GOOD)
def test_what_can_work_has_no_problem(options):
    assert Generic.from_settings(settings(**options)).name == "generic"


def test_a_null_inside_a_body_is_sent():
    assert described(**GOOD["a body of nulls"]).item_request("x").body == b'{"id":"x","none":null}'


def test_a_provider_may_have_another_name():
    provider = Generic.from_settings(settings(**item()), name="acme", token_path="/token", token_scope="read")
    assert (provider.name, provider.token_path, provider.token_scope) == ("acme", "/token", "read")


# --- parameters of rows ----------------------------------------------------------------------------------------------

ROWS = {
    "row_params": ("store", "site"),
    "item": {"path": "/{store}/{kind}/{item_id}", "method": "POST", "body": {"site": "{site}"}},
}


def test_a_row_may_give_parameters():
    provider = described(**ROWS, params={"kind": "files", "site": "main"})
    request = provider.request_for("a/b", {"store": "s 1", "other": "x"})
    assert (request.path, request.template) == ("/s%201/files/a%2Fb", "/{store}/{kind}/{item_id}")
    assert request.body == b'{"site":"main"}'
    assert provider.request_for("a", {"store": "s", "site": "own"}).body == b'{"site":"own"}'
    assert provider.valid_id("a")
    assert not provider.valid_id("a\n")


def test_without_its_row_no_request_can_be_sent():
    provider = described(**ROWS, params={"kind": "files"})
    assert provider.item_request("a").path == "{site}"
    assert provider.item_request("a").template == "/{store}/{kind}/{item_id}"


@pytest.mark.parametrize("store", ["..", ".", " ", "a\nb"])
def test_a_parameter_that_can_not_be_sent_is_named_without_its_value(store):
    provider = described(**ROWS, params={"kind": "files"})
    with pytest.raises(ValueError, match=r"^the row has no site, which the request needs$"):
        provider.request_for("a", {"store": "s"})
    with pytest.raises(ValueError, match=r"^the row's store can't be sent: it is blank, a dot segment"):
        provider.request_for("a", {"store": store, "site": "x"})


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_row_changes_neither_path_nor_structure(store, site):
    provider = described(**ROWS, params={"kind": "files"})
    try:
        request = provider.request_for("a", {"store": store, "site": site})
    except ValueError:
        return
    assert request.path.startswith("/")
    assert request.path.count("/") == 3
    assert list(json.loads(request.body)) == ["site"]


def test_the_words_of_the_tests_have_no_problem():
    assert described(statuses=STATUSES).valid_id("x")
