"""Texts that stand for all texts, as far as a few glob patterns can tell them apart. Pure.

Patterns mean what `fnmatch.fnmatchcase` says. What a name could be is open, but a pattern looks at a text character by
character: it is enough to walk through the states that all patterns can be in together (Rabin and Scott, 1959).
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import translate
from itertools import pairwise

__all__ = ["MOST_STATES", "representatives"]

MOST_STATES = 5000
"""So many states are walked through at the most: patterns full of stars can be made to have any number."""

_LAST = 0x110000
_State = tuple[tuple[int, int], ...]
"""Of each pattern that can still match, its number and the positions (a bit each) that it may have come to."""


def representatives(patterns: Iterable[str], *, most: int = MOST_STATES) -> tuple[str, ...] | None:
    """Texts of which one matches exactly the same of the patterns as any text that there is, the empty one apart.

    Returns:
        The texts, each as short as can be; None when more than `most` states would have to be looked at.
    """
    compiled = [_Pattern(text) for text in dict.fromkeys(patterns)]
    letters = _letters(compiled)
    start: _State = tuple((number, pattern.start) for number, pattern in enumerate(compiled))
    seen, waiting, found = {start}, deque([(start, "")]), dict[frozenset[int], str]()
    while waiting:
        state, text = waiting.popleft()
        for letter in letters:
            after = tuple(_stepped(compiled, state, letter))
            matching = frozenset(number for number, at in after if at & compiled[number].end)
            found.setdefault(matching, text + letter)
            if after not in seen:
                seen.add(after)
                waiting.append((after, text + letter))
        if len(seen) > most:
            return None
    return tuple(found.values())


def _stepped(compiled: Sequence["_Pattern"], state: _State, letter: str) -> Iterator[tuple[int, int]]:
    for number, at in state:
        if after := compiled[number].step(at, letter):
            yield number, after


class _Pattern:
    """One pattern as an automaton without memory: a bit per position in its parts."""

    def __init__(self, text: str) -> None:
        self.parts = tuple(_parts(text))
        self._accepts = [re.compile(translate(part)) for part in self.parts]
        self.end = 1 << len(self.parts)
        self.start = self._closed(1)

    def step(self, at: int, letter: str) -> int:
        after = 0
        for position, part in enumerate(self.parts):
            if at >> position & 1:
                if part == "*":
                    after |= 1 << position
                elif self._accepts[position].match(letter):
                    after |= 2 << position
        return self._closed(after)

    def _closed(self, at: int) -> int:
        """With the positions that are reached by letting a star match nothing."""
        for position, part in enumerate(self.parts):
            if part == "*" and at >> position & 1:
                at |= 2 << position
        return at


def _parts(text: str) -> Iterator[str]:
    """A pattern's parts, each a pattern for one character, or a star."""
    at = 0
    while at < len(text):
        end = _end_of_set(text, at) if text[at] == "[" else at
        yield text[at : end + 1] if end > at or text[at] != "[" else "[[]"
        at = end + 1


def _end_of_set(text: str, at: int) -> int:
    """Where the set that begins here ends; where it begins if it never does: then its bracket stands for itself."""
    end = at + 1
    end += text[end : end + 1] == "!"
    return max(at, text.find("]", end + 1))


def _letters(compiled: Iterable[_Pattern]) -> tuple[str, ...]:
    """One character for all those that no part of any pattern tells apart: printable, and no space if possible."""
    named = {ord(letter) for pattern in compiled for part in pattern.parts for letter in part}
    bounds = sorted({0, _LAST} | named | {code + 1 for code in named})
    return tuple(letter for one, next_one in pairwise(bounds) if (letter := _printable(one, next_one)))


def _printable(first: int, beyond: int) -> str | None:
    space = None
    for code in range(first, beyond):
        letter = chr(code)
        if letter.isprintable():
            if not letter.isspace():
                return letter
            space = space or letter
    return space
