"""`Secret`: a value that can be used but not printed, in memory or in a file that is read at each use.

It keeps values out of logs, tracebacks, dumps and messages. It does not encrypt anything.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from monitor.errors import ConfigError

MASK = "**********"

_MAX_BYTES = 64 * 1024
_BYTE_ORDER_MARK = "\ufeff"
"""Some editors write it before the text."""
_FINAL_NEWLINE = re.compile(r"\r?\n\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFileReference:
    """A secret that was written as `name_file = path`, before validation; `conflicting`: also as itself."""

    path: object
    conflicting: bool = False


class Secret:
    """A value that is never printed: `str`, `repr`, `format`, JSON and pydantic dumps return the same mask for all.

    Pickling raises TypeError, so that it can't reach a file or another process unnoticed. A copy is the same object;
    two secrets are equal only if they are the same object.
    """

    __slots__ = ("_read", "_stamp")
    _read: Callable[[], str]
    _stamp: Callable[[], tuple[int, ...] | None]

    def __init__(self, value: str) -> None:
        # a closure, so that a listing of the attributes shows a function
        self._read = lambda: value
        self._stamp = lambda: None

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """A secret in a file, which is not read yet."""
        return cls._with_reader(lambda: _read_file(path), lambda: _file_stamp(path))

    @classmethod
    def _with_reader(cls, read: Callable[[], str], stamp: Callable[[], tuple[int, ...] | None]) -> Self:
        made = cls.__new__(cls)
        made._read, made._stamp = read, stamp  # noqa: SLF001  # an instance of this very class
        return made

    def reveal(self) -> str:
        """The value. A file is read at each call (keys rotate); a byte order mark and one trailing newline are removed.

        Raises ConfigError if the file can't be read, is empty, or contains control or invisible characters.
        """
        try:
            return self._read()
        except ValueError as error:
            raise ConfigError([f"the setting of a secret {error}"]) from None

    def transform(self, change: Callable[[str], str]) -> Self:
        """A secret whose value is `change` applied to this one's, at each `reveal`."""
        return self._with_reader(lambda: change(self.reveal()), self._stamp)

    def stamp(self) -> tuple[int, ...] | None:
        """Inode, modification time (ns) and size of the secret's file; empty if there is none, None for one in memory.

        Links are followed, so that a Kubernetes secret that is swapped by a link is noticed.
        """
        return self._stamp()

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __format__(self, format_spec: str) -> str:
        return MASK

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret can't be pickled")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accepts text, a `SecretFileReference` or a Secret; dumps the mask."""
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, object]:
        """The schema of the text in the file."""
        return {"type": "string", "minLength": 1, "writeOnly": True}

    @classmethod
    def _validate(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, SecretFileReference):
            return cls._validate_file(value)
        if not isinstance(value, str):
            raise PydanticCustomError("secret", "must be text in quotes")
        try:
            return cls(_validate_text(value))
        except ValueError as error:
            raise PydanticCustomError("secret", "{fault}", {"fault": str(error)}) from None

    @classmethod
    def _validate_file(cls, file: SecretFileReference) -> Self:
        context = {"suffix": "_file"}
        if file.conflicting:
            raise PydanticCustomError(
                "secret", "can't be used together with the secret itself: keep one of them", context
            )
        if not isinstance(file.path, str) or not file.path:
            raise PydanticCustomError("secret", "must be the path of a file, in quotes", context)
        path = Path(file.path)
        try:
            _read_file(path)
        except ValueError as error:
            raise PydanticCustomError("secret", "{fault}", {"fault": str(error), **context}) from None
        return cls.from_file(path)


def _file_stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_file(path: Path) -> str:
    """The secret in a file. Raises ValueError with a text that contains the path and never the content."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"names {path}, which is not a regular file; give the path of the file with the secret")
        with path.open("rb") as opened:
            raw = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(
            f"names {path}, which can't be read ({error.strerror}); fix the path or its permissions"
        ) from None
    try:
        text = _FINAL_NEWLINE.sub("", raw.decode())
    except UnicodeDecodeError:
        raise ValueError(f"names {path}, which is not UTF-8 text; write only the secret into it") from None
    if len(raw) > _MAX_BYTES:
        raise ValueError(f"names {path}, which is larger than 64 KiB; write only the secret into it")
    try:
        return _validate_text(text)
    except ValueError as error:
        raise ValueError(f"names {path}, which {error}") from None


def _validate_text(value: str) -> str:
    value = value.removeprefix(_BYTE_ORDER_MARK)
    if not value:
        raise ValueError("is empty: give it a value")
    # a path may hold bytes that are no UTF-8: Python has them as lone surrogates
    refused = {"Cc", "Zl", "Zp"} if value.startswith("sqlite:") else {"Cc", "Cs", "Zl", "Zp"}
    if any(unicodedata.category(character) in refused for character in value):
        raise ValueError("contains control characters, such as a line break: remove them")
    if any(_is_invisible(character) for character in value):
        raise ValueError("contains an invisible character, such as a zero-width space: copy it again without it")
    return value


def _is_invisible(character: str) -> bool:
    """Zero-width and directional characters, and blanks other than the space: they come along when text is copied."""
    return unicodedata.category(character) == "Cf" or (unicodedata.category(character) == "Zs" and character != " ")
