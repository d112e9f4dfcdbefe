"""The form of an id as a regular expression, matched in linear time. Pure.

Python's own engine backtracks: a pattern such as `(a+)+b` holds the process for years. The engine of pydantic, the
`regex` crate of Rust, can't; it has neither look-around nor back-references, and refuses what needs over 10 MB.
"""

from collections.abc import Callable
from typing import cast

from pydantic_core import SchemaError, SchemaValidator, core_schema


def compile_id_pattern(pattern: str) -> Callable[[str], bool]:
    """Whether a whole id matches the pattern, as a function.

    Raises:
        ValueError: the pattern can't be used. The text is a predicate ("must …").
    """
    _compile(pattern)  # alone first: "a)(b" would be valid inside the group
    return cast("Callable[[str], bool]", _compile(rf"\A(?:{pattern})\z").isinstance_python)


def _compile(pattern: str) -> SchemaValidator:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError as error:
        raise ValueError(_problem(str(error))) from None


def _problem(message: str) -> str:
    if "look-around" in message or "backreferences" in message:
        return "must do without look-around and back-references, so that no id takes long to match"
    if "size limit" in message:
        return (
            r"must be smaller: name the characters that are counted, as in [A-Za-z0-9_]{1,200}, since \w and \d stand "
            "for thousands of them"
        )
    return "must be a valid regular expression, in the syntax of Rust's regex (docs.rs/regex)"
