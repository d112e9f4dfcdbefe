"""What can't work in a description's canary: upload, retrieve, delete and find. Pure.

Each problem is `key predicate` ("upload.0.path must …"), as in `description_problems`.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence

from monitor.providers.canary import NAME, PLACEHOLDERS, TEXT, method_of, missing_steps, names_in
from monitor.providers.description import Description, FindRule, Paths, StepRule, paths_of
from monitor.providers.paths import path_problem
from monitor.providers.templates import ITEM_ID, BodyTemplate, placeholder_problem, placeholders_of, template_problem

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_WHY = "a canary needs upload, retrieve and delete"


def canary_problems(description: Description, known: Sequence[str]) -> Iterator[str]:
    """All problems of the steps; `known` are the names of the target's parameters."""
    missing = missing_steps(description)
    has_any = len(missing) < 3 or description.find is not None
    if has_any:
        yield from (f"{kind} is missing: {_WHY}; add [[targets.{kind}]]" for kind in missing)
    names = [*known, *PLACEHOLDERS]
    uploaded = yield from _step_problems("upload", description.upload, names)
    if description.upload:
        yield from _upload_problems(description, uploaded)
    after_upload = [*names, ITEM_ID, *uploaded]
    yield from _step_problems("retrieve", description.retrieve, after_upload)
    if description.retrieve and not any(paths_of(rule.snippets) for rule in description.retrieve):
        yield (
            f"retrieve.{len(description.retrieve) - 1}.snippets is missing: say where the answer has texts of the "
            'document, such as "data.*.text"'
        )
    yield from _step_problems("delete", description.delete, after_upload)
    yield from _delete_problems(description, uploaded)
    if description.find is not None:
        yield from (f"find.{problem}" for problem in _find_problems(description.find, names))


def _step_problems(kind: str, rules: Sequence[StepRule], names: Sequence[str]) -> Generator[str, None, list[str]]:
    """The problems of the steps of one kind; returns the names of what their answers give."""
    kept: list[str] = []
    for position, rule in enumerate(rules):
        where = f"{kind}.{position}"
        yield from (f"{where}.{problem}" for problem in _request_problems(kind, rule, [*names, *kept]))
        yield from (f"{where}.{problem}" for problem in _answer_problems(kind, rule, names))
        kept += rule.keep
    return kept


def _request_problems(kind: str, rule: StepRule, known: Sequence[str]) -> Iterator[str]:
    method = method_of(kind, rule)
    if method not in METHODS:
        yield f"method must be one of {', '.join(METHODS)}"
    if problem := template_problem(rule.path, known=known):
        yield f"path {problem}"
    if rule.body is not None:
        if method == "GET":
            yield "body needs another method than GET, which has no body"
        if rule.form or rule.file is not None:
            yield "body does not go with form and file: keep one of them"
        if problem := placeholder_problem(BodyTemplate(rule.body).names, known=known):
            yield f"body {problem}"
    if (rule.form or rule.file is not None) and method == "GET":
        yield "form needs another method than GET, which has no body"
    if rule.file is not None and kind != "upload":
        yield "file belongs to an upload: remove it"
    yield from _form_problems(rule.form, known)


def _form_problems(form: Mapping[str, str], known: Sequence[str]) -> Iterator[str]:
    for name, text in form.items():
        if problem := placeholder_problem(placeholders_of(text), known=known):
            yield f"form.{name[:60]} {problem}"


def _answer_problems(kind: str, rule: StepRule, taken: Sequence[str]) -> Iterator[str]:
    for name, paths in rule.keep.items():
        if not name.isidentifier() or name in taken:
            yield f"keep.{name[:60]!r} must be a name of its own: letters, digits and _, and no name that is in use"
        yield from _path_problems(f"keep.{name[:60]}", paths)
    for path, words in rule.expect.items():
        if problem := path_problem(path, each=True, whole=True):
            yield f"expect.{path[:60]!r} {problem}"
        if not words:
            yield f"expect.{path[:60]!r} is empty: name the values that count"
    if rule.snippets is not None and kind != "retrieve":
        yield "snippets belongs to retrieve: remove it"
    for path in paths_of(rule.snippets):
        if problem := path_problem(path, each=True, whole=True):
            yield f"snippets {problem}"


def _path_problems(key: str, paths: Paths) -> Iterator[str]:
    for path in paths_of(paths):
        if problem := path_problem(path, whole=True):
            yield f"{key} {problem}"


def _upload_problems(description: Description, kept: Sequence[str]) -> Iterator[str]:
    """The document must be in the upload, its id in an answer, and its name where `find` looks for it."""
    rules = description.upload
    used = {name for rule in rules for name in names_in(rule)}
    has_file = any(rule.file is not None for rule in rules)
    if ITEM_ID not in kept:
        yield 'upload.0.keep needs item_id: say where the answer has the id, as in keep = { item_id = "id" }'
    if not (has_file or TEXT in used):
        yield "upload.0 does not send the document: name the form's field for it in file, or put {text} into body"
    if description.find is not None and not (has_file or NAME in used):
        yield "upload.0 does not send {name}, by which find looks for the document: add it"


def _delete_problems(description: Description, uploaded: Sequence[str]) -> Iterator[str]:
    rules = description.delete
    used = {name for rule in rules for name in names_in(rule)}
    own: Mapping[str, object] = {name: place for rule in rules for name, place in rule.keep.items()}
    if rules and not used & {ITEM_ID, *uploaded, *own}:
        yield "delete.0 does not say what to delete: put {item_id} into path or body"
    foreign = sorted((used & set(uploaded)) - {ITEM_ID} - own.keys())
    if description.find is not None and foreign:
        yield (
            f"delete uses {{{foreign[0]}}}, which find does not give: ask for it in a step of delete before, with keep"
        )


def _find_problems(rule: FindRule, known: Sequence[str]) -> Iterator[str]:
    method = method_of("find", rule)
    if method not in {"GET", "POST"}:
        yield 'method must be "GET" or "POST": nothing else is a question'
    if problem := template_problem(rule.path, known=known):
        yield f"path {problem}"
    if rule.body is not None and method == "GET":
        yield 'body needs method = "POST": a GET has no body'
    if problem := placeholder_problem(BodyTemplate(rule.body).names, known=known):
        yield f"body {problem}"
    for key, path, whole in (("items", rule.items, True), ("id", rule.id, False), ("name", rule.name, False)):
        if path is not None and (problem := path_problem(path, whole=whole)):
            yield f"{key} {problem}"
    if rule.name is None and NAME not in names_in(rule):
        yield "name is missing: say where each item has its name, or ask for {name} in path or body"
