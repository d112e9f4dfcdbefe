"""Writes the table of built-in descriptions: `python scripts/providers_table.py docs/providers/README.md`.

It replaces the table between the document's two marks, from `monitor/providers/presets`.
"""

import sys
from pathlib import Path

from monitor.providers.preset import Preset, find_preset, preset_names

BEGIN, END = "<!-- providers -->", "<!-- /providers -->"


def main(arguments: list[str]) -> None:
    """Rewrites the documents that are named."""
    for name in arguments:
        path = Path(name)
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")


def renewed(document: str) -> str:
    """The document with its table made anew."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}{END}{after}"


def table() -> str:
    """One row per description, sorted by name."""
    presets = [preset for name in preset_names() if (preset := find_preset(name)) is not None]
    rows = [f"| {_name(preset)} | {preset.title} | {preset.tested or 'the sandbox'} |\n" for preset in presets]
    return "| `provider` | what it watches | tested with |\n|---|---|---|\n" + "".join(rows)


def _name(preset: Preset) -> str:
    page = Path(preset.docs or "").name
    return f"`{preset.name}`" if page in {"", "README.md"} else f"[`{preset.name}`]({page})"


if __name__ == "__main__":
    main(sys.argv[1:])
