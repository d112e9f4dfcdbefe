"""A target that a preset describes, as TOML to paste, with the variables that it leaves to fill in. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from monitor.providers.preset import Preset

_COMMENT = 46
"""The column of comments."""
_AUTH_KEYS = {
    "api_key": ("api_key",),
    "client_credentials": ("client_id", "client_secret"),
    "password": ("user", "password"),
    "aws": ("region",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleTarget:
    """The table `[[targets]]`."""

    toml: str
    """Without a final newline."""
    variables: tuple[str, ...]
    """Those in `${…}` outside of comments."""
    optional: tuple[str, ...]
    """Those in a comment that a target may need."""
    url_variable: str | None
    """Of them the one with the API's URL; None if the preset has a URL."""


def example_target(preset: Preset) -> ExampleTarget:
    """The shortest target that can work."""
    prefix = preset.name.upper()
    url = preset.settings.get("base_url")
    lines = [
        _commented(f'name = "{preset.name}"', "history is stored under this name: do not change it"),
        _commented(f'provider = "{preset.name}"', preset.title),
    ]
    url_variable = None if url or not preset.is_description else f"{prefix}_URL"
    if url:
        lines.append(f"# base_url = {json.dumps(url)}")
    elif url_variable:
        added = first_path(preset)
        comment = f'what its URLs have before "{added}"' if added else "https://host, with the path that all share"
        lines.append(_commented(f'base_url = "${{{url_variable}}}"', comment))
    variables = [url_variable] if url_variable else []
    own = {name: about for name, about in preset.params.items() if name != "publisher_id"}
    if "publisher_id" in preset.params:
        variables.append(f"{prefix}_PUBLISHER_ID")
        lines.append(_commented(f'publisher_id = "${{{variables[-1]}}}"', preset.params["publisher_id"]))
    if own:
        names = {name: f"{prefix}_{name.upper()}" for name in own}
        variables += names.values()
        lines += [f"# {name}: {about}" for name, about in own.items()]
        values = ", ".join(f'{name} = "${{{variable}}}"' for name, variable in names.items())
        lines.append(f"params = {{ {values} }}")
    keys = _AUTH_KEYS.get(preset.auth_kind)
    settings = ", ".join(f'{key} = "${{{prefix}_{key.upper()}}}"' for key in keys or ("api_key",))
    auth = f"auth = {{ {settings} }}"
    if preset.auth_kind == "aws":
        lines.append(
            "# the keys are the machine's, as the AWS CLI finds them; or access_key_id and secret_access_key_file"
        )
    lines.append(auth if keys else _commented(f"# {auth}", "if yours asks for a key"))
    variables += [f"{prefix}_{key.upper()}" for key in keys or ()]
    return ExampleTarget(
        toml="\n".join(["[[targets]]", *lines]),
        variables=tuple(variables),
        optional=() if keys else (f"{prefix}_API_KEY",),
        url_variable=url_variable,
    )


def first_path(preset: Preset) -> str | None:
    """How the paths of an API begin that has no URL of its own, as in `/api/v1/…`; None if a parameter is first."""
    asked = preset.settings.get("item") or preset.settings.get("list")
    path = str(asked.get("path", "")) if isinstance(asked, Mapping) else ""
    begin = path.partition("{")[0].partition("?")[0]
    return f"{begin.rstrip('/')}/…" if begin.strip("/") else None


def _commented(setting: str, comment: str) -> str:
    line = f"{setting:<{_COMMENT}}# {comment}"
    return line if len(line) <= 118 else f"# {comment}\n{setting}"
