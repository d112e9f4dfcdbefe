"""The requests that a description asks: one item, a batch of items, a list. Pure."""

from collections.abc import Collection, Mapping, Sequence

from monitor.model.http import Request, is_valid_path
from monitor.providers.templates import ITEM_ID, ITEM_IDS, BodyTemplate, PathTemplate, are_segments, is_sendable

_SAMPLE = "x"
"""Stands for a parameter of the row when only the id is in question."""


class Question:
    """One request as a description has it, with the target's parameters filled in."""

    __slots__ = ("_around_id", "_body", "_headers", "_in_query", "_max_bytes", "_method", "_needed", "_params", "_path")

    def __init__(
        self,
        path: str,
        *,
        method: str = "GET",
        body: object = None,
        params: Mapping[str, str],
        row_params: Collection[str] = (),
        headers: Mapping[str, str],
        max_bytes: int,
    ) -> None:
        """`row_params` name the parameters that a row may replace; `params` has the value of those that it lacks."""
        self._method, self._max_bytes, self._params = method, max_bytes, params
        self._path = PathTemplate(path, {name: value for name, value in params.items() if name not in row_params})
        self._body = None if body is None else BodyTemplate(body)
        names = set(self._body.names) if self._body is not None else set()
        self._needed = frozenset((self._path.missing | names) & set(row_params))
        """What a row may give."""
        self._around_id = None if self._needed else self._path.around_id
        self._in_query = ITEM_IDS in self._path.missing
        named = {name.lower() for name in headers}
        add_type = method == "POST" and "content-type" not in named
        self._headers = {"content-type": "application/json", **headers} if add_type else headers

    def accepts(self, item_id: str) -> bool:
        """Whether the id can be sent: it is not blank, has no control characters, and leads to no other path."""
        if not is_sendable(item_id) or (self._path.keeps_slashes and not are_segments(item_id)):
            return False
        if self._in_query and "," in item_id:
            return False  # ids are joined with commas there
        if not self._needed and not self._in_query:
            return is_valid_path(self._path.fill_id(item_id))
        sample = dict.fromkeys(self._needed, _SAMPLE)
        return is_valid_path(self._path.fill({**sample, ITEM_ID: item_id}, (item_id,)))

    def about(self, item_id: str) -> Request:
        """The request for one item."""
        if self._around_id is None:
            return self._request({ITEM_ID: item_id}, (item_id,), item_id=item_id)
        before, escaped, after = self._around_id
        return Request(
            method=self._method,
            path=f"{before}{escaped(item_id)}{after}",
            template=self._path.shown,
            item_id=item_id,
            headers=self._headers,
            body=None if self._body is None else self._body.fill({**self._params, ITEM_ID: item_id}, (item_id,)),
            max_bytes=self._max_bytes,
        )

    def about_row(self, item_id: str, row: Mapping[str, str]) -> Request:
        """The request for one item with the parameters of its row.

        Raises:
            ValueError: one is missing, or can't be sent. The text is a sentence without their values.
        """
        for name in sorted(self._needed):
            value = row.get(name) or self._params.get(name)
            if value is None:
                raise ValueError(f"the row has no {name}, which the request needs")
            if not is_sendable(value) or value in {".", ".."}:
                raise ValueError(
                    f"the row's {name} can't be sent: it is blank, a dot segment, or has control characters"
                )
        given = {name: row[name] for name in self._needed if row.get(name)}
        return self._request({**given, ITEM_ID: item_id}, (item_id,), item_id=item_id)

    def about_all(self, item_ids: Sequence[str] = ()) -> Request:
        """The request for a batch of items, or for the list."""
        return self._request({}, item_ids, item_id=item_ids[0] if len(item_ids) == 1 else "")

    def _request(self, given: Mapping[str, str], item_ids: Sequence[str], *, item_id: str) -> Request:
        values = {**self._params, **given}
        lacking = self._needed - values.keys()
        return Request(
            method=self._method,
            # without a value that only a row has, it is a path that no transport sends
            path=self._path.fill(values, item_ids) if not lacking else f"{{{min(lacking)}}}",
            template=self._path.shown,
            item_id=item_id,
            headers=self._headers,
            body=None if self._body is None else self._body.fill(values, item_ids),
            max_bytes=self._max_bytes,
        )
