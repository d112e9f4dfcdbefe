"""Runs the commands of a document and rewrites their outputs: `python scripts/transcript.py docs/quickstart.md`.

Output that differs only in ids, times and the port stays as committed, so that a correct document does not change.
Blocks, in the order of the document:

- `console`: commands after `$ `, continued after `> `, each with its output on both streams;
- `diff NAME`: lines of a file (`-`), and their replacement by the reader (`+`);
- any other block with a NAME: a file that the reader writes.

An id in a command, an edit or a file comes from an earlier output; it is replaced by the id that this run printed.
"""

import os
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path

from support.world import environment

FOLDER, PORT = "/srv/watching", "8080"
"""The reader's folder in the document, as long as `/tmp/` and eight letters; and the sandbox's port."""
LOGGED = re.compile(r'^\{.*"level": ?"(?:info|warning)".*\}\n', re.MULTILINE)
SERVES = "ingestion-monitor sandbox"
LAST_WORD = "faults"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(\$ .*(?:\n> .*)*)\n?", re.MULTILINE)
ID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
VARIES = re.compile(
    r"\d{4}-\d\d-\d\d(?:T|\s+)\d\d:\d\d(?::\d\d)?(?:\.\d+)?Z?"  # points in time
    r"|\d+(?:\.\d+)?\s+(?:ms|s|min|h)\b(?:\s+\d+\s+(?:s|min)\b)*"  # durations
)


def renewed(text):
    """The document with the current outputs of its commands."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=""))).resolve()
        reader = Reader(folder, shown=dict.fromkeys(ID.findall(text)), stack=stack)
        return BLOCK.sub(lambda block: f"```{block[1]}{_after(block[2])}\n{reader.follow(*block.groups())}```", text)


def kept(printed, committed, *, moved=False):
    """The printed text; a paragraph that differs only in changing values stays as committed.

    If a time, a duration or the folder's path (`moved`) is longer now, line breaks and columns may differ.
    """
    widths = {tuple(len("".join(each.split())) for each in VARIES.findall(text)) for text in (printed, committed)}
    loose = moved or len(widths) > 1
    pairs = zip_longest(paragraphs(printed), paragraphs(committed))
    return "".join(old if old and masked(old, loose) == masked(new, loose) else new for new, old in pairs if new)


def paragraphs(text):
    """Lines with the indented ones below them, because the line breaks of a long one may depend on a duration."""
    made, depth = [], sys.maxsize
    for line in text.splitlines(keepends=True):
        indent = len(line) - len(line.lstrip())
        if made and line.strip() and indent > depth:
            made[-1] += line
        else:
            made.append(line)
            depth = indent if line.strip() else sys.maxsize
    return made


def masked(text, loose):
    """A paragraph without values that differ per run."""
    return VARIES.sub("~", " ".join(text.split()) if loose else text)


class Reader:
    """Follows the document in its own folder."""

    def __init__(self, folder, *, shown, stack):
        self.folder, self.stack = folder, stack
        self.shown, self.ids, self.port = list(shown), {}, PORT
        left_out = ("COLUMNS", "LINES", "FORCE_COLOR")
        kept_variables = {
            name: value
            for name, value in environment().items()
            if name not in left_out and not name.lower().endswith("_proxy")
        }
        self.environ = {**kept_variables, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def follow(self, kind, name, content):
        """Follows one block of the document; returns its current text."""
        if kind == "console":
            before, *steps = COMMAND.split(content)
            assert not before, f"an output without a command: {before}"
            return "".join(self._step(*step) for step in zip(steps[::2], steps[1::2], strict=True))
        if name and kind == "diff":
            self._edit(self.folder / name, content)
        elif name:
            (self.folder / name).write_text(self._ours(content), encoding="utf-8")
        return content

    def _step(self, command, committed):
        line = self._ours("\n".join(part[2:] for part in command.split("\n")))
        printed = self._serve(line) if line.startswith(SERVES) else self._run(line)
        moved = len(str(self.folder)) != len(FOLDER)
        return f"{command}\n{kept(self._theirs(printed), committed, moved=moved)}"

    def _run(self, line):
        done = subprocess.run(  # noqa: S602  # the document's own line
            line, shell=True, cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, encoding="utf-8", timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line} ended with {done.returncode}:\n{done.stdout}"
        # the reader sees a terminal, where the log does not show these
        return LOGGED.sub("", done.stdout)

    def _serve(self, line):
        running = self.stack.enter_context(
            subprocess.Popen(
                line.replace(f"--port {PORT}", "--port 0").split(), cwd=self.folder, env=self.environ,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
            )
        )  # fmt: skip
        self.stack.callback(running.terminate)
        printed = ""
        while LAST_WORD not in printed:
            line_read = running.stdout.readline()
            assert line_read, f"{line} ended:\n{printed}"
            printed += line_read
        self.port = re.search(r"127\.0\.0\.1:(\d+)", printed)[1]
        return printed

    def _edit(self, path, edit):
        text = path.read_text(encoding="utf-8")
        for old, new in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)+)", edit, re.MULTILINE):
            there, wanted = ("".join(line[1:] for line in part.splitlines(keepends=True)) for part in (old, new))
            assert f"\n{text}".count(f"\n{there}") == 1, f"{path.name} has no such line, or more than one:\n{there}"
            text = f"\n{text}".replace(f"\n{there}", f"\n{self._ours(wanted)}")[1:]
        path.write_text(text, encoding="utf-8")

    def _ours(self, text):
        """Text of the document with this run's ids and addresses."""
        there = {shown: ours for ours, shown in self.ids.items()}
        return ID.sub(lambda m: there.get(m[0], m[0]), text).replace(f"127.0.0.1:{PORT}", f"127.0.0.1:{self.port}")

    def _theirs(self, text):
        """Printed text with the document's ids and addresses; new ids get the document's next ones."""
        for new in ID.findall(text):
            unused = [shown for shown in self.shown if shown not in self.ids.values()]
            # ids that are fixed in the document, such as the sandbox's publisher, stay
            self.ids.setdefault(new, new if new in unused or not unused else unused[0])
        translated = ID.sub(lambda m: self.ids[m[0]], text)
        return translated.replace(str(self.folder), FOLDER).replace(f"127.0.0.1:{self.port}", f"127.0.0.1:{PORT}")


def _after(name):
    return f" {name}" if name else ""


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(renewed(document.read_text(encoding="utf-8")), encoding="utf-8")
