"""How a target proves who it is: an API key, or OAuth2 client credentials."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Discriminator, Field, Tag

from monitor.config.checks import HeaderSecret, Text, wrong
from monitor.config.requests import HeaderName, Path, Scheme
from monitor.config.secret import Secret
from monitor.config.section import Remedy, Section

__all__ = ["ApiKeyAuth", "Auth", "ClientCredentialsAuth"]


class ClientCredentialsAuth(Section):
    """OAuth2 client credentials: the monitor fetches tokens with them, and renews those before they expire."""

    client_id: Annotated[Text, Remedy("give the id that belongs to the client secret")] = Field(
        description="The client's id, as the provider's console shows it."
    )
    client_secret: Annotated[Secret, Remedy("give it, or client_secret_file with the path of a file that holds it")] = (
        Field(description="The client's secret. Best kept in a file or a variable, not in this file.")
    )
    token_path: Path | None = Field(
        default=None,
        description="Path of the token endpoint below `base_url`. Gloo's own is known; the generic provider needs it.",
        examples=["/oauth2/token"],
    )
    scope: Text | None = Field(
        default=None, description="The scope to ask a token for; left out, the one that the provider documents."
    )


class ApiKeyAuth(Section):
    """One long-lived key, sent with every request."""

    api_key: HeaderSecret = Field(description="The key. Best kept in a file or a variable, not in this file.")
    header: HeaderName = Field(
        default="Authorization", description="The header that carries the key.", examples=["X-API-Key"]
    )
    scheme: Scheme = Field(
        default_factory=lambda given: "Bearer" if str(given.get("header", "")).lower() == "authorization" else "",
        description="The word before the key: `Bearer` in the header Authorization, none (an empty text) in any other.",
    )


def _one_form(raw: object) -> object:
    if isinstance(raw, ClientCredentialsAuth | ApiKeyAuth):
        return raw
    if not isinstance(raw, dict):
        raise wrong('must be a table, such as { client_id = "…", client_secret_file = "…" }')
    forms = [_is_key(raw), bool({"client_id", "client_secret", "client_secret_file"} & raw.keys())]
    if all(forms):
        raise wrong("holds both an API key and client credentials: keep one of them")
    if not any(forms):
        raise wrong(
            "is missing: give client_id and client_secret (or client_secret_file), or api_key (or api_key_file)"
        )
    return raw


def _is_key(raw: Mapping[str, object]) -> bool:
    return bool({"api_key", "api_key_file"} & raw.keys())


def _form(raw: object) -> str:
    return "auth:key" if isinstance(raw, ApiKeyAuth) or (isinstance(raw, dict) and _is_key(raw)) else "auth:client"


Auth = Annotated[
    Annotated[ClientCredentialsAuth, Tag("auth:client")] | Annotated[ApiKeyAuth, Tag("auth:key")],
    Discriminator(_form),
    BeforeValidator(_one_form),
]
"""Either form; which one, the keys say."""
