"""How a target is reached: the table `tls`, and which proxy. Files are looked at when the configuration is checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    GetPydanticSchema,
    Tag,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

from monitor.config.fields import (
    AuthScheme,
    HeaderName,
    HeaderSecret,
    RequestPath,
    Text,
    invalid_value,
    secret_validator,
)
from monitor.config.secret import Secret
from monitor.config.section import Remedy, Section
from monitor.config.urls import DIRECT, validate_proxy_url

_MAX_BYTES = 1 << 20
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_PRIVATE_KEY = b"PRIVATE KEY-----"


def _validate_proxy(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    return value if value == DIRECT else handler(value)


ProxyUrl = Annotated[
    Secret | str,
    GetPydanticSchema(lambda _, schema_of: schema_of(Secret)),
    AfterValidator(secret_validator(validate_proxy_url)),
    WrapValidator(_validate_proxy),
]
"""A proxy's URL, or `DIRECT` as plain text: a secret would be masked wherever the word appears."""


def _validate_certificates(path: str) -> str:
    if _CERTIFICATE not in _read_pem(path):
        raise invalid_value(f"names {path}, which holds no certificate in PEM form")
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError):
        raise invalid_value(f"names {path}, in which a certificate is broken: was it copied whole?") from None
    return path


CertificateFile = Annotated[str, AfterValidator(_validate_certificates)]
"""The path of a file with certificates in PEM form."""


class TlsConfig(Section):
    """Certificates beyond the system's, as PEM files, which are read anew by each run."""

    ca_file: CertificateFile | None = Field(
        default=None,
        description="Certificates of authorities to trust beside the system's, such as a company's own. The system's "
        "are those of its own store, or of the file in the variable `SSL_CERT_FILE` (the folder in `SSL_CERT_DIR`).",
        examples=["/etc/ssl/corp.pem"],
    )
    cert_file: CertificateFile | None = Field(
        default=None, description="The monitor's own certificate, and its chain, for an API that asks for one."
    )
    key_file: str | None = Field(
        default=None,
        validate_default=True,
        description="Its private key, not encrypted; it may stand in the same file. Keep it readable by the monitor "
        "alone.",
    )

    @field_validator("key_file")
    @classmethod
    def _validate_key_file(cls, path: str | None, info: ValidationInfo) -> str | None:
        certificate = info.data.get("cert_file", "")
        if path is None:
            if certificate:
                raise invalid_value("is missing: give the private key that belongs to cert_file")
            return None
        if certificate is None:
            raise invalid_value("has no meaning without cert_file: give the certificate that the key belongs to")
        if _PRIVATE_KEY not in _read_pem(path):
            raise invalid_value(f"names {path}, which holds no private key in PEM form")
        if certificate:
            _validate_key_pair(certificate, path)
        return path


def _read_pem(path: str) -> bytes:
    """A file's content, as far as it could be PEM."""
    if not path or "\0" in path:
        raise invalid_value("must be the path of a file")
    try:
        content = _read_regular_file(Path(path))
    except OSError as error:
        raise invalid_value(
            f"names {path}, which can't be read ({error.strerror}); mend the path or its permissions"
        ) from None
    if content is None:
        raise invalid_value(f"names {path}, which is not a regular file")
    return content


def _read_regular_file(file: Path) -> bytes | None:
    """None: it is no file, but a folder, or a pipe that could be waited at for ever."""
    if file.exists() and not file.is_file():
        return None
    with file.open("rb") as opened:
        return opened.read(_MAX_BYTES)


def _validate_key_pair(certificate: str, key: str) -> None:
    import ssl

    prompted = []

    def no_password() -> str:
        prompted.append(True)
        return ""

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=no_password)
    except (ssl.SSLError, OSError):
        if prompted:
            raise invalid_value(f"names {key}, which is encrypted: give the key without a password") from None
        raise invalid_value(
            f"names {key}, which does not belong to the certificate in cert_file, or is broken"
        ) from None


class ClientCredentialsConfig(Section):
    """OAuth2 client credentials: the monitor fetches tokens with them, and renews those before they expire."""

    client_id: Annotated[Text, Remedy("give the id that belongs to the client secret")] = Field(
        description="The client's id, as the provider's console shows it."
    )
    client_secret: Annotated[Secret, Remedy("give it, or client_secret_file with the path of a file that holds it")] = (
        Field(description="The client's secret. Best kept in a file or a variable, not in this file.")
    )
    token_path: RequestPath | None = Field(
        default=None,
        description="Path of the token endpoint below `base_url`. Gloo's own is known; the generic provider needs it.",
        examples=["/oauth2/token"],
    )
    scope: Text | None = Field(
        default=None, description="The scope to ask a token for; left out, the one that the provider documents."
    )


class ApiKeyConfig(Section):
    """One long-lived key, sent with every request."""

    api_key: HeaderSecret = Field(description="The key. Best kept in a file or a variable, not in this file.")
    header: HeaderName = Field(
        default="Authorization", description="The header that carries the key.", examples=["X-API-Key"]
    )
    scheme: AuthScheme = Field(
        default_factory=lambda given: "Bearer" if str(given.get("header", "")).lower() == "authorization" else "",
        description="The word before the key: `Bearer` in the header Authorization, none (an empty text) in any other.",
    )


def _validate_auth_form(raw: object) -> object:
    if isinstance(raw, ClientCredentialsConfig | ApiKeyConfig):
        return raw
    if not isinstance(raw, dict):
        raise invalid_value('must be a table, such as { client_id = "…", client_secret_file = "…" }')
    forms = [_has_api_key(raw), bool({"client_id", "client_secret", "client_secret_file"} & raw.keys())]
    if all(forms):
        raise invalid_value("holds both an API key and client credentials: keep one of them")
    if not any(forms):
        raise invalid_value(
            "is missing: give client_id and client_secret (or client_secret_file), or api_key (or api_key_file)"
        )
    return raw


def _has_api_key(raw: Mapping[str, object]) -> bool:
    return bool({"api_key", "api_key_file"} & raw.keys())


def _auth_tag(raw: object) -> str:
    return (
        "auth:key" if isinstance(raw, ApiKeyConfig) or (isinstance(raw, dict) and _has_api_key(raw)) else "auth:client"
    )


AuthConfig = Annotated[
    Annotated[ClientCredentialsConfig, Tag("auth:client")] | Annotated[ApiKeyConfig, Tag("auth:key")],
    Discriminator(_auth_tag),
    BeforeValidator(_validate_auth_form),
]
"""Either form; which one, the keys say."""
