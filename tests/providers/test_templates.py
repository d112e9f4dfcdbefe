import json
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from providers.described import described

from monitor.model.http import is_valid_path
from monitor.providers.templates import BodyTemplate, PathTemplate, are_segments, template_problem

texts = st.text(max_size=40)
hostile = texts | st.sampled_from(
    [
        "../../admin",
        "a/../b",
        "//evil.example/x",
        "http://evil.example",
        "a?b=c&d",
        "a#b",
        "..",
        ".",
        "%2e%2e",
        "a\\..\\b",
        "@evil.example",
        "a;b",
        "x/",
        "/x",
        "{item_id}",
        "{store}",
        '","admin":"1',
        "a,b",
        "\u2028",
        " ",
    ]
)


# --- paths: a value can change neither host, nor depth, nor query ----------------------------------------------------


def sent_to(provider, item_id):
    """The parts of the URL that a request goes to, as a client reads it."""
    return urlsplit("https://api.example.com/base" + provider.item_request(item_id).path)


@given(hostile)
def test_an_id_is_one_segment_whatever_it_contains(item_id):
    there = sent_to(described(), item_id)
    assert there.netloc == "api.example.com"
    assert there.path.startswith("/base/documents/")
    assert (there.path.count("/"), there.query, there.fragment) == (3, "", "")
    assert unquote(there.path.rpartition("/")[2], errors="surrogatepass") == item_id or not described().valid_id(
        item_id
    )


@given(hostile)
def test_an_id_whose_slashes_stay_is_below_the_same_place(item_id):
    provider = described(item={"path": "/v1/{item_id:path}/status?full=1"})
    there = sent_to(provider, item_id)
    assert there.netloc == "api.example.com"
    assert there.path.startswith("/base/v1/")
    assert there.path.endswith("/status")
    assert (there.query, there.fragment) == ("full=1", "")
    if provider.valid_id(item_id):
        middle = there.path.removeprefix("/base/v1/").removesuffix("/status")
        assert unquote(middle) == item_id
        assert middle.count("/") == item_id.count("/")
        assert not {"", ".", ".."}.intersection(middle.split("/"))


def test_slashes_stay_and_everything_else_is_escaped():
    provider = described(item={"path": "/v1/{item_id:path}"})
    assert provider.item_request("stores/s 1/documents/d?x").path == "/v1/stores/s%201/documents/d%3Fx"
    assert provider.item_request("a/b").template == "/v1/{item_id:path}"


@pytest.mark.parametrize("item_id", ["a//b", "/a", "a/", "a/../b", "a/./b", "..", "."])
def test_an_id_with_an_empty_or_a_dot_segment_is_invalid_where_slashes_stay(item_id):
    provider = described(item={"path": "/v1/{item_id:path}"})
    assert not provider.valid_id(item_id)
    assert not are_segments(item_id)
    assert provider.item_request(item_id).path.count("/") == 2, "it would be one segment"


@given(hostile, hostile)
def test_a_parameter_changes_neither_path_nor_query(value, item_id):
    path = PathTemplate("/stores/{store}/files/{item_id}?filter={store}&full=1", {"store": value}).fill_id(item_id)
    assert (path.count("/"), path.count("?"), path.count("&"), path.count("="), "#" in path) == (4, 1, 1, 2, False)
    assert "{" not in path, "a value is not filled in again"


@given(st.lists(hostile.filter(lambda each: "," not in each), min_size=1, max_size=5))
def test_ids_in_a_query_stay_one_value(item_ids):
    path = PathTemplate("/documents?ids={item_ids}&full=1", {}).fill({}, item_ids)
    assert (path.count("&"), path.count("="), path.count("/"), "#" in path) == (1, 2, 1, False)
    (_, joined), _ = parse_qsl(urlsplit(path).query, keep_blank_values=True)
    assert joined.count(",") == len(item_ids) - 1


def test_a_placeholder_without_a_value_makes_no_valid_path():
    template = PathTemplate("/stores/{store}/files/{item_id}", {})
    assert template.missing == {"store", "item_id"}
    assert not is_valid_path(template.fill_id("x"))


# --- bodies: a value can't change the structure ----------------------------------------------------------------------

BODY = {"ids": "{item_ids}", "store": "in {store}", "filter": [{"id": "{item_id}"}, 7, None, True, "plain"]}


@given(st.lists(hostile, max_size=4), hostile, hostile)
def test_values_stay_inside_the_texts_of_a_body(item_ids, store, item_id):
    decoded = json.loads(
        BodyTemplate(BODY).fill({"store": _utf8(store), "item_id": _utf8(item_id)}, list(map(_utf8, item_ids)))
    )
    assert decoded == {
        "ids": list(map(_utf8, item_ids)),
        "store": f"in {_utf8(store)}",
        "filter": [{"id": _utf8(item_id)}, 7, None, True, "plain"],
    }


def _utf8(text):
    return text.encode("utf-8", "replace").decode()


def test_a_body_may_be_any_json_value():
    assert BodyTemplate("{item_ids}").fill({}, ["a", "b"]) == b'["a","b"]'
    assert BodyTemplate(["{item_id}"]).fill({"item_id": 'a"b'}) == b'["a\\"b"]'
    assert BodyTemplate(None).fill({}) == b"null"
    assert BodyTemplate({"query": "{ run(id: 1) { status } }"}).names == []


IDENTIFIERS = {"documents": [{"kind": "S3", "s3": {"uri": "{item_id}"}}], "store": "{store}"}


@given(st.lists(hostile, min_size=1, max_size=4), hostile)
def test_the_one_element_of_an_array_is_repeated_for_each_id(item_ids, store):
    item_ids = list(map(_utf8, item_ids))
    decoded = json.loads(BodyTemplate(IDENTIFIERS).fill({"store": _utf8(store)}, item_ids))
    assert decoded == {
        "documents": [{"kind": "S3", "s3": {"uri": item_id}} for item_id in item_ids],
        "store": _utf8(store),
    }


def test_the_innermost_array_around_an_id_is_the_one_that_grows():
    def filled(body):
        return json.loads(BodyTemplate(body).fill({"item_id": "a"}, ["a", "b"]))

    assert filled([{"ids": ["{item_id}"]}]) == [{"ids": ["a", "b"]}]
    assert filled([["{item_id}"]]) == [["a", "b"]]
    assert filled(["{item_id}", "x"]) == ["a", "x"], "of two elements none is repeated"
    assert filled([{"id": "{item_id}", "all": "{item_ids}"}]) == [
        {"id": "a", "all": ["a", "b"]}, {"id": "b", "all": ["a", "b"]},
    ]  # fmt: skip
    assert filled(["x"]) == ["x"]


def test_an_id_that_a_batch_does_not_repeat_is_left():
    assert BodyTemplate(IDENTIFIERS).names_in_batch == ["store"]
    assert BodyTemplate(IDENTIFIERS).names == ["item_id", "store"]
    assert BodyTemplate({"id": "{item_id}", "ids": ["{item_id}"]}).names_in_batch == ["item_id"]
    assert BodyTemplate(["{item_id}", "x"]).names_in_batch == ["item_id"]


# --- what a template can't be ----------------------------------------------------------------------------------------

WRONG = {
    "relative": ("documents/{item_id}", "must begin with a slash"),
    "another origin": ("https://evil.example/{item_id}", "must begin with a slash"),
    "another host": ("//evil.example/{item_id}", "must begin with one slash"),
    "an unknown placeholder": (
        "/{store}/{item_id}",
        'contains {store}, which the target does not set: give it, as in params = { store = "…" }',
    ),
    "slashes in the query": ("/documents?id={item_id:path}", "may have {…:path} only as whole segments"),
    "slashes in half a segment": ("/documents/x{item_id:path}", "may have {…:path} only as whole segments"),
    "many ids in the path": ("/documents/{item_ids}", "may have {item_ids} only in its query"),
    "dot segments": ("/a/../{item_id}", "must be a valid URL path"),
    "a fragment": ("/{item_id}#x", "must be a valid URL path"),
    "a backslash": ("/\\evil.example/{item_id}", "must be a valid URL path"),
}


@pytest.mark.parametrize(("template", "problem"), WRONG.values(), ids=WRONG)
def test_a_template_that_can_not_work_is_named(template, problem):
    assert template_problem(template, known=("item_id", "item_ids")).startswith(problem)


def test_the_known_parameters_are_listed():
    problem = template_problem("/{stroe}/{item_id}", known=("item_id", "store"))
    assert problem.endswith("(known here: {item_id}, {store})")
    assert template_problem("/{x}", known=()).endswith("(known here: none)")


@pytest.mark.parametrize("template", ["/{item_id}", "/a/{item_id:path}:get?x={store}", "/documents?ids={item_ids}"])
def test_a_valid_template_has_no_problem(template):
    assert template_problem(template, known=("item_id", "item_ids", "store")) is None
