"""A report as Markdown for a ticket: headings, sentences and tables that GitHub, GitLab and Jira read. Pure.

Text from outside stands in code spans, in which no system finds a link, a mention, a reference or HTML. All other text
is ours; a name that is a part of it is escaped.
"""

import re
from collections.abc import Iterator

from monitor.notifications.messages import one_line
from monitor.reports.document import Cell, DataTable, Document, Link, Outside

_SPECIAL = re.compile(r"[\\`*_\[\]<>|~$&{}!]")
"""Characters that begin markup; `&` an entity, `$` a formula."""
_LIVE = re.compile(r"[@#]|(?<=:)//|www(?=\.)", re.IGNORECASE)
"""What services make live in any text: mentions, references to other tickets, addresses."""
_ZERO_WIDTH_SPACE = "\u200b"
_BACKTICKS = re.compile(r"`+")
_COMMAND = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def report_markdown(document: Document) -> str:
    """The whole report."""
    return "\n".join(_blocks(document))


def _blocks(document: Document) -> Iterator[str]:
    yield f"# {escape(document.title)}\n"
    for sentence in document.sentences:
        yield f"{prose(sentence)}\n"
    for table in (document.summary, document.incidents, *document.changes):
        if table is not None:
            yield from _table(table, level=2)
    for section in document.sections:
        yield f"## {code(section.name)}\n"
        for sentence in section.sentences:
            yield f"{prose(sentence)}\n"
        for table in (section.trend, *section.tables):
            if table is not None:
                yield from _table(table, level=3)


def _table(table: DataTable, *, level: int) -> Iterator[str]:
    yield f"{'#' * level} {escape(table.caption)}\n"
    numeric = [all(isinstance(row[n], int | None) for row in table.rows) for n in range(len(table.heading))]
    yield _row([escape(name) for name in table.heading])
    yield _row(["--:" if each else "---" for each in numeric])
    for row in table.rows:
        yield _row([_cell(value) for value in row])
    yield ""


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Cell) -> str:
    match value:
        case None:
            return "–"
        case Link():
            return f"[{escape(value)}]({value.url})"
        case Outside():
            return code(value)
        case _:
            return escape(str(value))


def code(text: str) -> str:
    """A text from outside as a code span that a table may hold, on one line. A copy of it is the text itself."""
    clean = one_line(text)
    longest = max((len(each) for each in _BACKTICKS.findall(clean)), default=0)
    fence = "`" * (longest + 1)
    # a space is taken off at both ends, so that the text may begin or end with a backtick
    pad = " " if clean.startswith("`") or clean.endswith("`") else ""
    # in a table a bar ends the cell, even in code, unless it has a backslash, which is not shown
    return f"{fence}{pad}{clean}{pad}{fence}".replace("|", r"\|")


def prose(text: str) -> str:
    """A sentence of ours, on one line: commands, which stand between backticks, are code; all else as `escape`."""
    parts = _COMMAND.split(one_line(text))
    return "".join(code(part) if n % 2 else escape(part) for n, part in enumerate(parts))


def escape(text: str) -> str:
    """A sentence of ours, on one line, in which nothing is markup and nothing becomes live."""
    clean = _SPECIAL.sub(r"\\\g<0>", one_line(text))
    return _LIVE.sub(
        lambda found: f"{found[0]}{_ZERO_WIDTH_SPACE}" if found[0] != "//" else f"{_ZERO_WIDTH_SPACE}//", clean
    )
