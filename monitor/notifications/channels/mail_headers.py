"""The header lines of a mail, built from any text. Pure.

The standard library decodes what looks like an encoded word, even in a text that is only a name, and so may find a line
break in it: an error in some versions of Python, a second header in others. Here a text is cleared of control
characters, and encoded (RFC 2047) if it is not plain: it arrives to the letter, and never as anything else.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_MAX_LINE = 76
"""Characters of a line with an encoded word (RFC 2047, 2)."""
_WORD = "=?utf-8?b?{}?="
_MAX_WORD = 75
_WORD_BYTES = (_MAX_WORD - len(_WORD.format(""))) // 4 * 3
"""Bytes of UTF-8 in one encoded word."""
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*", re.ASCII)
"""A name that needs no quotes (RFC 5322, 3.2.3)."""


class Mailbox(NamedTuple):
    """A sender: an address, which is ASCII and has no quotes, and a name, which may be empty."""

    name: str
    address: str


def text_header(name: str, text: str) -> bytes:
    """A header of text for people, such as the subject."""
    clean = _cleared(text)
    words = _folded_words(name, clean) if _is_plain(clean) else _encoded_words(name, clean)
    return _header(name, words, joiner=" ")


def sender_header(sender: Mailbox) -> bytes:
    """`From`."""
    clean = _cleared(sender.name)
    if not clean:
        return _header("From", [sender.address], joiner=" ")
    if not _is_plain(clean):
        words = _encoded_words("From", clean)
    else:
        words = [clean if _ATOMS.fullmatch(clean) else '"{}"'.format(re.sub(r'(["\\])', r"\\\1", clean))]
    return _header("From", [*words, f"<{sender.address}>"], joiner=" ")


def recipients_header(addresses: Sequence[str]) -> bytes:
    """`To`, one address per line."""
    return _header("To", addresses, joiner=", ")


def token_header(name: str, value: str) -> bytes:
    """A header whose value is our own ASCII word or words, such as a date or a Message-ID."""
    return _header(name, [value], joiner=" ")


def _header(name: str, lines: Iterable[str], *, joiner: str) -> bytes:
    """A header that is folded between the lines. ASCII: whatever is not was encoded before."""
    value = f"{joiner.rstrip()}\r\n ".join(lines)
    return f"{name}: {value}\r\n".encode("ascii")


def _cleared(text: str) -> str:
    """The text with each control, bidi or surrogate character as a space."""
    return "".join(each if each.isprintable() else " " for each in text).strip()


def _is_plain(text: str) -> bool:
    """Whether a header may hold the text as it is: ASCII, not like an encoded word, and folded at single spaces."""
    longest = max(map(len, text.split(" ")), default=0)
    return text.isascii() and "=?" not in text and "  " not in text and longest < _MAX_LINE - len("Subject: ")


def _folded_words(name: str, text: str) -> list[str]:
    """The lines of a plain text: as many of its words in each as fit."""
    lines, room = [""], _MAX_LINE - len(name) - 2
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".lstrip()
        if len(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
            room = _MAX_LINE - 1
    return lines


def _encoded_words(name: str, text: str) -> list[str]:
    """The encoded words of a text, each on a line of its own, with whole characters in each."""
    words, current, room = [], b"", _WORD_BYTES - len(name) // 4 * 3 - 3
    for character in text:
        encoded = character.encode()
        if len(current) + len(encoded) > room:
            words.append(current)
            current, room = b"", _WORD_BYTES
        current += encoded
    return [_WORD.format(base64.b64encode(each).decode()) for each in (*words, current)]
