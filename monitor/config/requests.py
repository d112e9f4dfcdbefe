"""Reads settings that become part of a request (paths, headers) or say where in an answer to look. Pure."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from monitor.config.checks import Text, wrong
from monitor.config.wording import shown

__all__ = [
    "Dotted",
    "DottedOrBody",
    "HeaderName",
    "Headers",
    "ItemPath",
    "ListPath",
    "Parameter",
    "Path",
    "Regex",
    "Scheme",
]

_PATH = re.compile(r"/(?!/)[!-~]*", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", re.ASCII)
_PARAMETER = re.compile(r"[A-Za-z0-9._~\[\]-]{1,100}", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z0-9._-]{0,50}", re.ASCII)
_VALUE = re.compile(r"[!-~](?:[ -~]{0,998}[!-~])?", re.ASCII)
_OURS = {
    "accept-encoding", "authorization", "connection", "content-encoding", "content-length", "content-type", "cookie",
    "expect", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding",
    "upgrade",
}  # fmt: skip
"""Headers that the client itself decides on, or that carry credentials, which belong under auth."""


def _path(path: str) -> str:
    if not _PATH.fullmatch(path) or "#" in path:
        raise wrong('must begin with one "/" and hold neither spaces nor "#": escape them as %20 and %23')
    return path


def _path_with(*allowed: str) -> Callable[[str], str]:
    braced = " and ".join(f"{{{name}}}" for name in allowed)

    def check(path: str) -> str:
        unknown = [name for name in _PLACEHOLDER.findall(_path(path)) if name not in allowed]
        if unknown or set("{}") & set(_PLACEHOLDER.sub("", path)):
            raise wrong(f"holds braces around something else: only {braced} may stand in them")
        return path

    return check


def _asks_for_one(path: str) -> str:
    if path.count("{item_id}") != 1:
        raise wrong('must hold {item_id} once, where the id belongs, as in "/documents/{item_id}"')
    return path


def _dotted(path: str) -> str:
    if not all(part.strip() for part in path.split(".")):
        raise wrong('must be names with dots between them, such as "status" or "document.status"')
    return path


def _regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error:
        raise wrong("must be a regular expression as Python reads them") from None
    return pattern


def _parameter(name: str) -> str:
    if not _PARAMETER.fullmatch(name):
        raise wrong('must be the name of a query parameter, such as "page" or "limit"')
    return name


def _header_name(name: str) -> str:
    if not _TOKEN.fullmatch(name) or name.lower() in _OURS - {"authorization"}:
        raise wrong(f'must be the name of a header that carries a key, such as "X-API-Key"; {shown(name)} is none')
    return name


def _scheme(word: str) -> str:
    if not _SCHEME.fullmatch(word):
        raise wrong('must be one word such as "Bearer", or "" for the bare key')
    return word


def _headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise wrong(f"names {shown(name)}, which is no header's name: use letters, digits and hyphens")
        if name.lower() in _OURS:
            raise wrong(
                f"names {shown(name)}, which the monitor sets itself: remove it (credentials belong under auth)"
            )
        if not _VALUE.fullmatch(value):
            raise wrong(f"gives {shown(name)} a value that no header can carry: use 1 to 1000 plain ASCII characters")
    if len({name.lower() for name in headers}) < len(headers):
        raise wrong("names one header twice: case does not count in their names")
    return headers


Path = Annotated[str, Field(max_length=1000, json_schema_extra={"pattern": "^/"}), AfterValidator(_path)]
"""A path below the base URL, query included."""

ItemPath = Annotated[
    str,
    Field(max_length=1000, json_schema_extra={"pattern": r"^/.*\{item_id\}"}),
    AfterValidator(_path_with("item_id", "publisher_id")),
    AfterValidator(_asks_for_one),
]
"""The path of one item: a template."""

ListPath = Annotated[
    str, Field(max_length=1000, json_schema_extra={"pattern": "^/"}), AfterValidator(_path_with("publisher_id"))
]
"""The path of the list: a template."""

Dotted = Annotated[Text, AfterValidator(_dotted)]
"""Where in a JSON body to look: names of objects' keys, and positions in arrays, with dots between them."""

DottedOrBody = Annotated[str, Field(max_length=200), AfterValidator(lambda path: path and _dotted(path))]
"""The same, or nothing for the body itself."""

Parameter = Annotated[str, AfterValidator(_parameter)]
"""The name of a query parameter."""

Regex = Annotated[str, Field(max_length=1000), AfterValidator(_regex)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
Headers = Annotated[Mapping[str, str], AfterValidator(_headers)]
Scheme = Annotated[str, AfterValidator(_scheme)]
