"""A value that can be used but not printed, held in memory or read from a file each time it is wanted.

It does not encrypt anything: it keeps values out of logs, tracebacks, dumps and messages.
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
"""What every printed form of a secret shows, whatever its length."""

_MAX_BYTES = 64 * 1024
_FINAL_NEWLINE = re.compile(r"\r?\n\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFileReference:
    """Stands for a secret in unchecked data whose setting was written as `name_file = path`."""

    path: object
    conflicting: bool = False
    """The secret itself was written beside it."""


class Secret:
    """A value that no printed form shows: `str`, `repr`, `format`, `vars`, JSON and pydantic dumps give the mask.

    Pickling raises TypeError, so that it can't travel to a file or another process unnoticed. Copies are the same
    object; two secrets are equal only when they are the same object.
    """

    __slots__ = ("_read", "_stamp")
    _read: Callable[[], str]
    _stamp: Callable[[], tuple[int, ...] | None]

    def __init__(self, value: str) -> None:
        # a closure, so that even a listing of the attributes shows a function
        self._read = lambda: value
        self._stamp = lambda: None

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """A secret that lives in a file; nothing is read yet."""
        return cls._with_reader(lambda: _read_file(path), lambda: _file_stamp(path))

    @classmethod
    def _with_reader(cls, read: Callable[[], str], stamp: Callable[[], tuple[int, ...] | None]) -> Self:
        made = cls.__new__(cls)
        made._read, made._stamp = read, stamp  # noqa: SLF001  # an instance of this very class
        return made

    def reveal(self) -> str:
        """The value. One from a file is read anew each time (keys rotate), without one trailing newline.

        Raises:
            ConfigError: the file can't be read now, is empty, or holds control characters.
        """
        try:
            return self._read()
        except ValueError as error:
            raise ConfigError([f"the setting of a secret {error}"]) from None

    def transform(self, change: Callable[[str], str]) -> Self:
        """A secret whose value is `change` of this one's, worked out at each `reveal`."""
        return self._with_reader(lambda: change(self.reveal()), self._stamp)

    def stamp(self) -> tuple[int, ...] | None:
        """Tells one state of the secret's file from another, at the cost of one `stat`.

        Returns:
            Inode, time of change (ns) and size of the file that the path leads to in the end, so that the swapped link
            of a mounted Kubernetes secret shows; empty while there is none. None: it lives in memory and never changes.
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
        """How pydantic reads one (text, `SecretFileReference` or a Secret) and dumps it (the mask)."""
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, object]:
        """What a file may hold in its place."""
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
            raise PydanticCustomError("secret", "can't stand beside the secret itself: keep one of them", context)
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
    """The secret in a file. Raises ValueError with our own words, which name the file and never its content."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"names {path}, which is not a regular file; name the file that holds the secret")
        with path.open("rb") as opened:
            raw = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(
            f"names {path}, which can't be read ({error.strerror}); mend the path or its permissions"
        ) from None
    try:
        text = _FINAL_NEWLINE.sub("", raw.decode())
    except UnicodeDecodeError:
        raise ValueError(f"names {path}, which is not UTF-8 text; write the secret alone into it") from None
    if len(raw) > _MAX_BYTES:
        raise ValueError(f"names {path}, which is larger than 64 KiB; write the secret alone into it")
    try:
        return _validate_text(text)
    except ValueError as error:
        raise ValueError(f"names {path}, which {error}") from None


def _validate_text(value: str) -> str:
    if not value:
        raise ValueError("is empty: give it a value")
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in value):
        raise ValueError("holds control characters: was it copied with a line break?")
    return value
