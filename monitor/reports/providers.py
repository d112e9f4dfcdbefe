"""The APIs that a target can name, and what each needs, as text and JSON values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monitor.config.examples import example_target, first_path
from monitor.providers.preset import Preset, find_preset
from monitor.providers.registry import GENERIC, built_in_names, installed_providers
from monitor.reports.formatting import cut_list, fit, wrap_lines

_CREDENTIALS = {
    "api_key": "an API key",
    "client_credentials": "a client id and secret",
    "password": "a user and password",
    "aws": "the keys of an AWS account; without auth, those of the machine (needs ingestion-monitor[bedrock])",
    "none": "no credentials, unless yours asks for them",
}


def provider_rows() -> list[dict[str, Any]]:
    """Each API that `provider` can name: name, title, kind (`built in`, `yours`, `installed`) and params."""
    rows = []
    for name in built_in_names():
        preset = find_preset(name)
        if name == GENERIC or preset is None:
            rows.append({"name": name, "kind": "yours", "title": "Any API that your target describes", "params": []})
        else:
            rows.append({"name": name, "kind": "built in", "title": preset.title, "params": [*preset.params]})
    return rows + [
        {"name": name, "kind": "installed", "title": "Of an installed package", "params": []}
        for name in installed_providers()
    ]


def providers_text(rows: Sequence[Mapping[str, Any]], *, width: int | None) -> str:
    """The table of APIs."""
    columns = {
        "PROVIDER": [row["name"] for row in rows],
        "WHAT IT IS": [row["title"] for row in rows],
        "NEEDS": [", ".join(row["params"]) or None for row in rows],
    }
    table = fit(columns, width=width, shorten={"WHAT IT IS": 24})
    return f"{table}\n\n`ingestion-monitor providers show NAME` says what one needs, with a target to paste."


def providers_json(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The APIs as JSON values."""
    return cut_list("providers", rows)


def preset_json(preset: Preset) -> dict[str, Any]:
    """What is known of one API."""
    example = example_target(preset)
    return {
        "name": preset.name,
        "title": preset.title,
        "docs": preset.docs,
        "tested": preset.tested,
        "id": preset.id,
        "params": dict(preset.params),
        "auth": {"kind": preset.auth_kind, **preset.auth},
        "settings": dict(preset.settings),
        "cannot": limits(preset),
        "canary": has_canary(preset),
        "example": example.toml,
        "variables": [*example.variables],
    }


def preset_text(preset: Preset) -> str:
    """The same for a person."""
    lines = [f"{preset.name}: {preset.title}"]
    lines += [f"  {label:<12} {text}" for label, text in _facts(preset) if text]
    lines += ["", "A target must have"]
    needs = [
        f"{'publisher_id' if name == 'publisher_id' else f'params.{name}'}: {what}"
        for name, what in preset.params.items()
    ]
    if "base_url" not in preset.settings and preset.is_description:
        added = first_path(preset)
        where = f'as it stands before "{added}"' if added else "with the path that all requests share"
        needs.insert(0, f"base_url: the URL of the API, {where}")
    needs.append(f"auth: {_CREDENTIALS[preset.auth_kind]}")
    lines += [line for need in needs for line in wrap_lines(need, indent=2)]
    statuses = preset.settings.get("statuses")
    if isinstance(statuses, Mapping):
        lines += ["", "Statuses"]
        lines += [line for state, words in statuses.items() for line in _status_lines(state, words)]
    if found := limits(preset):
        lines += ["", "What it can't do", *(line for each in found for line in wrap_lines(each, indent=2))]
    lines += ["", "A target to paste (a key of the description that you write in it wins)", ""]
    return "\n".join([*lines, example_target(preset).toml])


def _facts(preset: Preset) -> Iterator[tuple[str, str | None]]:
    yield "tested with", preset.tested
    yield "id", preset.id
    if preset.docs is not None:
        page = preset.docs.removeprefix("docs/").removesuffix(".md")
        yield "page", f"ingestion-monitor docs {page}"


def _status_lines(state: str, words: Sequence[object]) -> Iterator[str]:
    spelled = ", ".join(str(word).lower() if isinstance(word, bool) else str(word) for word in words)
    yield from wrap_lines(f"{state:<10} {spelled}", indent=2, hang=13)


def has_canary(preset: Preset) -> bool:
    """Whether it says how a canary uploads, retrieves and deletes its document."""
    return {"upload", "retrieve", "delete"} <= preset.settings.keys()


def limits(preset: Preset) -> list[str]:
    """What the description can't say of this API, as sentences."""
    if not preset.is_description:
        return ["It is code: item, list and headers can't be overridden."]
    item, list_ = preset.settings.get("item"), preset.settings.get("list")
    found = [preset.cannot] if preset.cannot else []
    if not has_canary(preset):
        found.append("It has no canary: it does not say how a document is uploaded, retrieved and deleted.")
    if not isinstance(item, Mapping):
        found.append("It has no question for one item: every run fetches the whole list.")
    elif not isinstance(list_, Mapping):
        found.append("It has no list: a run asks about each item" + (" in batches." if "batch" in item else "."))
    if not any(isinstance(table, Mapping) and {"reason", "message"} & table.keys() for table in (item, list_)):
        found.append("It does not say why an item failed.")
    return found
