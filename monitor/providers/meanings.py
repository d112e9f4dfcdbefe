"""What an answer means according to a description, whatever its HTTP status says. Pure; nothing raises."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from monitor.model import BadBody
from monitor.model.http import Meaning
from monitor.model.json_body import decode_json
from monitor.providers.description import Description, NotFoundRule
from monitor.providers.paths import JsonPath, elements, is_null, split_each, word_text
from monitor.providers.status_reader import null_status, reports_error
from monitor.providers.statuses import Word, fold_word


def decoded_body(body: bytes, what: str) -> object:
    """The JSON value, or a `BadBody`."""
    try:
        return decode_json(body)
    except (ValueError, RecursionError):
        return BadBody(reason=f"{what} is not JSON" if body else f"{what} is empty")


class ValueCondition:
    """Whether a body has one of some words at a path; with `*` in the path, in any element."""

    __slots__ = ("_before", "_in_element", "_words")

    def __init__(self, path: str, words: Iterable[Word]) -> None:
        before, star, after = split_each(path)
        self._before, self._in_element = JsonPath(before), JsonPath(after) if star else None
        self._words = frozenset(map(fold_word, words))

    def holds(self, body: object) -> bool:
        """Whether it does; case does not count."""
        value = self._before.find(body)
        if self._in_element is None:
            return self._is_word(value, is_missing=value is None and not is_null(body, self._before.text))
        for element in elements(value) or ():
            found = self._in_element.find(element)
            if self._is_word(found, is_missing=found is None and not is_null(element, self._in_element.text)):
                return True
        return False

    def _is_word(self, value: object, *, is_missing: bool) -> bool:
        word = None if is_missing else word_text(value)
        return word is not None and fold_word(word) in self._words


def value_conditions(values: Iterable[tuple[str, Sequence[Word]]]) -> tuple[ValueCondition, ...]:
    """One condition for each path with its words."""
    return tuple(ValueCondition(path, words) for path, words in values)


@dataclass(frozen=True, slots=True)
class _MeaningRule:
    meaning: Meaning
    statuses: Collection[int]
    """HTTP statuses that it holds for; empty for any."""
    condition: ValueCondition | None


class Meanings:
    """The rules of a description by which an answer means something else; the first that holds counts."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Iterable[_MeaningRule]) -> None:
        self._rules = tuple(rules)

    @classmethod
    def of(cls, description: Description) -> "Meanings":
        """First `errors` in their order, then the values and at last the statuses of `item.not_found`.

        Those of a batch are looked for in each answer, not here: the body is about many items.
        """
        rules = [
            _MeaningRule(Meaning(each.cause), frozenset(each.statuses), condition)
            for each in description.errors
            for condition in (value_conditions([(each.path, each.values)]) if each.path is not None else (None,))
        ]
        if description.item is not None:
            not_found = description.item.not_found
            values = () if description.item.batch is not None else value_conditions(not_found.values.items())
            rules += [_MeaningRule(Meaning.NOT_FOUND, (), condition) for condition in values]
            if not_found.statuses:
                rules.append(_MeaningRule(Meaning.NOT_FOUND, frozenset(not_found.statuses), None))
        return cls(rules)

    def __len__(self) -> int:
        return len(self._rules)

    def read(self, status: int, body: bytes) -> Meaning | None:
        """What a complete answer means; None: what its status says."""
        decoded: object = None
        ready = False
        for rule in self._rules:
            if rule.statuses and status not in rule.statuses:
                continue
            if rule.condition is None:
                return rule.meaning
            if not ready:
                decoded, ready = decoded_body(body, ""), True
            if rule.condition.holds(decoded):
                return rule.meaning
        return None

    def read_decoded(self, body: object) -> Meaning | None:
        """What the decoded body of a 200 means."""
        for rule in self._rules:
            if (not rule.statuses or 200 in rule.statuses) and (rule.condition is None or rule.condition.holds(body)):
                return rule.meaning
        return None


@dataclass(frozen=True, slots=True)
class Absence:
    """Whether an answer in a 2xx says that there is no such item."""

    paths: tuple[JsonPath, ...]
    conditions: tuple[ValueCondition, ...]

    @classmethod
    def of(cls, rule: NotFoundRule) -> "Absence":
        """As `not_found.absent` and `not_found.values` say."""
        return cls(tuple(map(JsonPath, rule.absent)), value_conditions(rule.values.items()))

    def __bool__(self) -> bool:
        return bool(self.paths or self.conditions)

    @property
    def without_answer(self) -> bool:
        """Whether an item that a complete body leaves out is not found: `absent` has the empty path."""
        return any(not path.text for path in self.paths)

    def holds(self, answer: object) -> bool:
        """Whether it says so. A path that is missing in an answer that reports an error says nothing."""
        return self.has_value(answer) or any(self._is_absent(path, answer) for path in self.paths)

    def has_value(self, answer: object) -> bool:
        """Whether a value in it says so."""
        return any(condition.holds(answer) for condition in self.conditions)

    @staticmethod
    def _is_absent(path: JsonPath, answer: object) -> bool:
        value = path.find(answer)
        if value is not None:
            return value in ([], {})
        if isinstance(answer, dict | list) and not reports_error(answer):
            return True
        return null_status(answer, path.text) is not None or (answer is None and not path.text)
