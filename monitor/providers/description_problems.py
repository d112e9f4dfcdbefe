"""What can't work in a provider's description: every problem at once, each with its key and what to do. Pure.

Each is `key predicate` ("item.path must …"); the caller puts the target in front.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from monitor.model.http import Meaning
from monitor.providers.description import (
    Description,
    ErrorRule,
    ItemRule,
    ListRule,
    NotFoundRule,
    Paths,
    ResultRule,
    paths_of,
)
from monitor.providers.id_pattern import compile_id_pattern
from monitor.providers.pagination import PageRule
from monitor.providers.paths import path_problem, split_each
from monitor.providers.statuses import Word, fold_word
from monitor.providers.templates import (
    ITEM_ID,
    ITEM_IDS,
    BodyTemplate,
    is_sendable,
    placeholder_problem,
    placeholders_of,
    template_problem,
    texts_in,
)

MAX_BATCH = 1000
MAX_BATCH_IN_QUERY = 100
"""A URL has a limit: as many ids of 70 characters fit."""
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name (RFC 9110, 5.6.2)."""
_PARAMETER = re.compile(r"[A-Za-z_]\w{0,59}", re.ASCII)
_CAUSES = tuple(meaning.value for meaning in Meaning if meaning is not Meaning.NOT_FOUND)
_NOT_FOUND_STATUSES = frozenset(range(400, 500)) - {401, 402, 407, 408, 429}
"""4xx that can mean a missing item; the others are about the key, the account or the rate."""


def description_problems(
    description: Description, *, params: Mapping[str, str], row_params: Iterable[str], has_completed: bool
) -> Iterator[str]:
    """All problems of a description with the values of its target's parameters. `has_completed`: a status means so."""
    known = (*params, *(name for name in row_params if name not in params))
    if description.item is not None:
        yield from (f"item.{problem}" for problem in _item_problems(description.item, known))
        yield from (f"item.result.{problem}" for problem in _result_problems(description.item, tuple(params)))
    elif description.list is None:
        yield (
            'item is missing: add the request for one item, as in { path = "/documents/{item_id}" }, or a list that '
            "answers for all"
        )
    if description.list is not None:
        yield from (f"list.{problem}" for problem in _list_problems(description.list, tuple(params)))
    if description.upload or description.retrieve or description.delete or description.find is not None:
        from monitor.providers.canary_problems import canary_problems  # few targets have them

        yield from canary_problems(description, known)
    yield from _param_problems(params)
    yield from _error_problems(description)
    for name, value in description.headers.items():
        if not (_HEADER.fullmatch(name) and value.isascii() and value.isprintable()):
            yield f"headers.{name[:60]!r} must be a name and one line of printable ASCII"
    if not has_completed:
        yield "statuses.completed is missing: name the statuses of an item that is ready"


def _item_problems(item: ItemRule, known: Sequence[str]) -> Iterator[str]:
    ids = (ITEM_IDS,) if item.batch is not None else (ITEM_ID,)
    yield from _request_problems(item, (*ids, *known))
    yield from _id_problems(item)
    yield from _batch_problems(item)
    yield from _place_problems(item)
    if item.id is not None and (problem := path_problem(item.id)):
        yield f"id {problem}"
    if item.id_pattern is not None:
        try:
            compile_id_pattern(item.id_pattern)
        except ValueError as error:
            yield f"id_pattern {error}"
    yield from (f"not_found.{problem}" for problem in _not_found_problems(item.not_found))


def _list_problems(rule: ListRule, known: Sequence[str]) -> Iterator[str]:
    yield from _request_problems(rule, known)
    yield from _place_problems(rule)
    if problem := path_problem(rule.items, whole=True):
        yield f"items {problem}"
    if not rule.keyed and (problem := path_problem(rule.id)):
        yield f"id {problem}"
    yield from (f"page.{problem}" for problem in _page_problems(rule.page, rule))


def _request_problems(rule: ItemRule | ListRule, known: Sequence[str]) -> Iterator[str]:
    if rule.method not in {"GET", "POST"}:
        yield 'method must be "GET" or "POST": nothing else is a question'
    if problem := template_problem(rule.path, known=known):
        yield f"path {problem}"
    if rule.body is None:
        return
    if rule.method == "GET":
        yield 'body needs method = "POST": a GET has no body'
    body = BodyTemplate(rule.body)
    names = body.names_in_batch if ITEM_IDS in known else body.names
    if ITEM_IDS in known and ITEM_ID in names:
        yield (
            "body contains {item_id}, which a batch repeats only as the one element of an array, as in "
            '[{ id = "{item_id}" }]: write it so, or use {item_ids}'
        )
    elif problem := placeholder_problem(names, known=known):
        yield f"body {problem}; braces of another language need a blank inside, as in {{ status }}"
    texts = list(texts_in(rule.body))
    if any(f"{{{ITEM_IDS}}}" in text and text != f"{{{ITEM_IDS}}}" for text in texts):
        yield "body must have {item_ids} as a whole text: it becomes the array of ids"
    if any(re.search(r"\{\w+:path\}", text) for text in texts):
        yield "body must have {item_id} without :path, which is for paths"


def _id_problems(item: ItemRule) -> Iterator[str]:
    """The id must be in the request, in one place of the path or in the body."""
    in_path, in_body = placeholders_of(item.path), BodyTemplate(item.body).names
    wanted, other = (ITEM_IDS, ITEM_ID) if item.batch is not None else (ITEM_ID, ITEM_IDS)
    if other in (*in_path, *in_body) or not item.path.startswith("/"):
        return  # named as a problem of path or body; or it stands in the body for each id of a batch
    if item.method == "POST" and wanted in in_body and in_path.count(wanted) <= 1:
        return
    if in_path.count(wanted) != 1:
        place = "path or body" if item.method == "POST" else "path"
        ids = "the id" if item.batch is None else "the ids"
        yield f"{place} must contain {{{wanted}}} exactly once, in place of {ids}"


def _batch_problems(item: ItemRule) -> Iterator[str]:
    in_query = ITEM_IDS in placeholders_of(item.path)
    if item.batch is not None and not 1 <= item.batch <= MAX_BATCH:
        yield f"batch must be between 1 and {MAX_BATCH}, the number of ids that one request takes"
    elif item.batch is not None and in_query and item.batch > MAX_BATCH_IN_QUERY:
        yield f"batch must be at most {MAX_BATCH_IN_QUERY} with ids in the query: a URL has a limit"
    if item.batch is not None and item.result is not None:
        yield "result does not apply to batches: remove item.batch, or item.result"
    if item.items is not None and (problem := path_problem(item.items, whole=True)):
        yield f"items {problem}"
    if item.has_many and not item.keyed and item.id is None:
        yield "id is missing: say where each of the answers has its id, or set keyed = true if the ids are keys"
    if item.keyed and item.id is not None:
        yield "id does not apply with keyed = true, where the ids are keys: remove it"


def _place_problems(rule: ItemRule | ListRule | ResultRule) -> Iterator[str]:
    """Status, reason and message: valid paths, and `*` in the same place in all."""
    if not paths_of(rule.status):
        yield 'status must name at least one place, such as "status"'
    yield from _places("status", rule.status, whole=True)
    yield from _places("reason", rule.reason)
    yield from _places("message", rule.message)
    prefixes = {split_each(path)[:2] for path in paths_of(rule.status)}
    if len(prefixes) > 1 and any(star for _, star in prefixes):
        yield 'status must have "*" in the same place in each of its paths'
    for name, given in (("reason", rule.reason), ("message", rule.message)):
        if any(split_each(path)[1] and split_each(path)[:2] not in prefixes for path in paths_of(given)):
            yield f'{name} may have "*" only where status has it: it is that of the same element'


def _places(name: str, given: Paths | None, *, whole: bool = False) -> Iterator[str]:
    for path in paths_of(given):
        if problem := path_problem(path, each=True, whole=whole):
            yield f"{name} {problem}"


def _not_found_problems(rule: NotFoundRule) -> Iterator[str]:
    wrong = [status for status in rule.statuses if status not in _NOT_FOUND_STATUSES]
    if wrong:
        yield (
            f"statuses can't have {wrong[0]}: name statuses from 400 to 499 that are about the item, not about the "
            "key, the account or the rate"
        )
    for path in rule.absent:
        if problem := path_problem(path, whole=True):
            yield f"absent {problem}"
    for path, words in rule.values.items():
        yield from _condition_problems(path, words, f"values.{path[:60]!r}")


def _condition_problems(path: str, words: Sequence[Word], name: str) -> Iterator[str]:
    if problem := path_problem(path, each=True, whole=True):
        yield f"{name} {problem}"
    if not words:
        yield f"{name} is empty: name the values that count"


def _result_problems(item: ItemRule, known: Sequence[str]) -> Iterator[str]:
    result = item.result
    if result is None:
        return
    if not result.when:
        yield "when is missing: name the statuses of the first answer that a second question settles"
    if problem := template_problem(result.path, known=(ITEM_ID, *known)):
        yield f"path {problem}"
    elif placeholders_of(result.path).count(ITEM_ID) != 1:
        yield "path must contain {item_id} exactly once, in place of the id"
    yield from _place_problems(result)


def _error_problems(description: Description) -> Iterator[str]:
    not_found = description.item.not_found if description.item is not None else NotFoundRule()
    meanings: dict[tuple[str, str], str] = {
        (path, fold_word(word)): "item.not_found.values" for path, words in not_found.values.items() for word in words
    }
    for position, rule in enumerate(description.errors):
        yield from (f"errors.{position}.{problem}" for problem in _error_rule_problems(rule))
        if rule.path is None:
            for status in sorted(set(rule.statuses) & set(not_found.statuses)):
                yield f"errors.{position}.statuses has {status}, as item.not_found.statuses has: keep it in one of them"
        elif not rule.statuses:
            for word in sorted(set(map(fold_word, rule.values))):
                where = meanings.setdefault((rule.path, word), f"errors.{position}.values")
                if where != f"errors.{position}.values":
                    yield f"errors.{position}.values has {word[:60]!r}, as {where} has: keep it in one of them"


def _error_rule_problems(rule: ErrorRule) -> Iterator[str]:
    if rule.cause not in _CAUSES:
        yield f"cause must be one of {', '.join(_CAUSES)}"
    if rule.path is None and not rule.statuses:
        yield "path is missing: say where the body has the value, or which HTTP statuses it holds for, in statuses"
    if rule.path is None and rule.values:
        yield "values needs path: say where the body has the value"
    if rule.path is not None:
        yield from _condition_problems(rule.path, rule.values, "values")
    if any(not 200 <= status <= 599 for status in rule.statuses) or (rule.path is None and 200 in rule.statuses):
        yield "statuses must be HTTP statuses from 200 to 599; a 200 needs a path, since it is the usual answer"


def _page_problems(page: PageRule, rule: ListRule) -> Iterator[str]:
    for name, path in (("next", page.next), ("more", page.more), ("total", page.total)):
        if path is not None and (problem := path_problem(path)):
            yield f"{name} {problem}"
    in_body = (page.in_ or ("body" if rule.method == "POST" else "query")) == "body"
    if page.in_ == "body" and rule.method != "POST":
        yield 'in = "body" needs method = "POST": a GET has no body'
    if page.by == "link" and rule.method == "POST":
        yield 'by = "link" needs method = "GET": a link is followed by GET'
    paged = page.by in {"cursor", "offset", "number"} or page.size is not None
    if in_body and rule.method == "POST" and paged and not isinstance(rule.body, Mapping | None):
        yield 'in must be "query", or list.body an object: the page is put into it'


def _param_problems(params: Mapping[str, str]) -> Iterator[str]:
    for name, value in params.items():
        if name in {ITEM_ID, ITEM_IDS} or not _PARAMETER.fullmatch(name):
            yield f"params.{name[:60]!r} must be a name of letters, digits and _ other than item_id and item_ids"
        elif not is_sendable(value) or value in {".", ".."}:
            yield f"params.{name} must be a value that can be sent: not blank, no control characters, no dot segment"
