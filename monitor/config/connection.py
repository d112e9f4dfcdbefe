"""The tables `tls` and `auth`, and proxy URLs. Certificate files are read when the configuration is checked."""

import re
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
    WrapValidator,
    field_validator,
)

from monitor.config.fields import HeaderSecret, Text, invalid_value, require, secret_validator
from monitor.config.request_fields import AuthScheme, HeaderName, RequestPath
from monitor.config.secret import Secret
from monitor.config.section import Remedy, Section
from monitor.config.urls import DIRECT, validate_proxy_url

_MAX_BYTES = 1 << 20
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_PRIVATE_KEY = b"PRIVATE KEY-----"
_SCOPE_NAME = re.compile(r"[a-z0-9-]+")
_FORMS = {
    "auth:key": {"api_key", "api_key_file"},
    "auth:client": {"client_id", "client_secret", "client_secret_file"},
    "auth:password": {"user", "password", "password_file"},
    "auth:aws": {
        *("access_key_id", "secret_access_key", "secret_access_key_file", "session_token", "session_token_file"),
        *("service", "region", "profile"),
    },
}
"""The forms of `auth`, each with the settings that no other has."""


ProxyUrl = Annotated[
    Secret | str,
    GetPydanticSchema(lambda _, schema_of: schema_of(Secret)),
    AfterValidator(secret_validator(validate_proxy_url)),
    WrapValidator(lambda value, handler: value if value == DIRECT else handler(value)),
]
"""A proxy's URL, or `DIRECT` as plain text: as a secret, the word would be masked everywhere."""


def _validate_certificates(path: str) -> str:
    if _CERTIFICATE not in _read_pem(path):
        raise invalid_value(f"names {path}, which contains no PEM certificate: give a PEM file")
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (ssl.SSLError, OSError):
        raise invalid_value(f"names {path}, which contains a broken certificate: copy it again") from None
    return path


CertificateFile = Annotated[str, AfterValidator(_validate_certificates)]


class TlsConfig(Section):
    """CA and client certificates, as PEM files. Each run reads them again."""

    ca_file: CertificateFile | None = Field(
        default=None,
        description="CA certificates to trust in addition to the system's, such as a company's own. The system's are "
        "those in its store, or in the file `SSL_CERT_FILE` or the folder `SSL_CERT_DIR` (environment variables).",
        examples=["/etc/ssl/corp.pem"],
    )
    cert_file: CertificateFile | None = Field(
        default=None, description="The client certificate with its chain, for an API that requires one."
    )
    key_file: str | None = Field(
        default=None,
        validate_default=True,
        description="The certificate's private key, not encrypted; it can be in the same file. Only the monitor should "
        "be able to read it.",
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
            raise invalid_value("needs cert_file: give the certificate that the key belongs to")
        if _PRIVATE_KEY not in _read_pem(path):
            raise invalid_value(f"names {path}, which contains no PEM private key: give a PEM file")
        if certificate:
            _validate_key_pair(certificate, path)
        return path


def _read_pem(path: str) -> bytes:
    """The file's content, up to 1 MiB."""
    if not path or "\0" in path:
        raise invalid_value("must be the path of a file")
    file = Path(path)
    try:
        if file.exists() and not file.is_file():  # a folder, or a pipe, which could block forever
            raise invalid_value(f"names {path}, which is not a regular file: give the path of a file")
        with file.open("rb") as opened:
            return opened.read(_MAX_BYTES)
    except OSError as error:
        raise invalid_value(
            f"names {path}, which can't be read ({error.strerror}); fix the path or its permissions"
        ) from None


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
        raise invalid_value(f"names {key}, which is broken, or not the key of the certificate in cert_file") from None


class ClientCredentialsConfig(Section):
    """OAuth2 client credentials. The monitor requests tokens with them and renews these before they expire."""

    client_id: Annotated[Text, Remedy("give the id that belongs to the client secret")] = Field(
        description="The client's id, as the provider's console shows it."
    )
    client_secret: Annotated[Secret, Remedy("give it, or client_secret_file with the path of a file that holds it")] = (
        Field(description="The client's secret. Keep it in a file or a variable rather than in this file.")
    )
    token_path: RequestPath | None = Field(
        default=None,
        description="The path of the token endpoint below `base_url`. Required for generic; gloo has a default.",
        examples=["/oauth2/token"],
    )
    scope: Text | None = Field(default=None, description="The scope of the token. Default: the provider's own.")


class ApiKeyConfig(Section):
    """One long-lived key, sent with every request."""

    api_key: HeaderSecret = Field(description="The key. Keep it in a file or a variable rather than in this file.")
    header: HeaderName = Field(default="Authorization", description="The header for the key.", examples=["X-API-Key"])
    scheme: AuthScheme = Field(
        default_factory=lambda given: "Bearer" if str(given.get("header", "")).lower() == "authorization" else "",
        description="The word before the key. Default: `Bearer` in the header Authorization, none in any other.",
    )


class PasswordConfig(Section):
    """A user and a password, sent with every request as HTTP Basic in UTF-8 (RFC 7617)."""

    user: Annotated[Text, Remedy("give the user that the password belongs to")] = Field(
        description="The user. It contains no colon, which separates it from the password."
    )
    password: Annotated[Secret, Remedy("give it, or password_file with the path of a file that holds it")] = Field(
        description="The password. Keep it in a file or a variable rather than in this file."
    )

    @field_validator("user")
    @classmethod
    def _validate_user(cls, user: str) -> str:
        if ":" in user:
            raise invalid_value("contains a colon, which HTTP Basic does not allow in a user: use another user")
        return user


_AccessKeyId = Annotated[
    Text,
    AfterValidator(
        require(
            lambda text: text.isascii() and text.isalnum(),
            "must be the id of an access key: letters and digits, such as AKIAIOSFODNN7EXAMPLE",
        )
    ),
]
_ScopeName = Annotated[
    Text, AfterValidator(require(_SCOPE_NAME.fullmatch, "must be lower-case letters, digits and hyphens"))
]
"""The name of a region or service, as signatures have it."""


class AwsConfig(Section):
    """Requests signed for AWS (Signature Version 4). Without keys, they are those of the machine, as the AWS CLI finds
    them: environment, profile, role of the container or instance. It needs `ingestion-monitor[bedrock]`.
    """

    service: Annotated[_ScopeName, Remedy('name the service that signatures are for, such as "bedrock"')] = Field(
        description="The service's name in signatures; the preset bedrock sets it.", examples=["bedrock"]
    )
    region: _ScopeName | None = Field(
        default=None,
        description="The region in signatures. Default: the one in the host of `base_url`.",
        examples=["eu-central-1"],
    )
    access_key_id: _AccessKeyId | None = Field(default=None, description="The id of the access key.")
    secret_access_key: HeaderSecret | None = Field(
        default=None,
        validate_default=True,
        description="The secret of the access key. Keep it in a file or a variable rather than in this file.",
    )
    session_token: HeaderSecret | None = Field(
        default=None, description="The token that belongs to temporary keys. These end: let AWS's own chain renew them."
    )
    profile: Text | None = Field(
        default=None, description="The profile of the AWS configuration files that has the keys, in place of keys here."
    )

    @field_validator("secret_access_key")
    @classmethod
    def _validate_secret(cls, secret: Secret | None, info: ValidationInfo) -> Secret | None:
        if "access_key_id" in info.data and (secret is None) != (info.data["access_key_id"] is None):
            predicate = "needs access_key_id" if secret else "is missing"
            raise invalid_value(f"{predicate}: give both, or neither to use the keys of this machine")
        return secret

    @field_validator("session_token", "profile")
    @classmethod
    def _validate_with_keys(cls, value: object, info: ValidationInfo) -> object:
        if value is None or "secret_access_key" not in info.data:
            return value
        has_keys = info.data["secret_access_key"] is not None
        if info.field_name == "profile" and has_keys:
            raise invalid_value("names other keys than those that are set here: keep one of them")
        if info.field_name == "session_token" and not has_keys:
            raise invalid_value("belongs to temporary keys: give access_key_id and secret_access_key too")
        return value


def auth_form(raw: Mapping[str, object]) -> str | None:
    """The tag of the form that settings of `auth` have; None if they have none, or several."""
    forms = [tag for tag, settings in _FORMS.items() if settings & raw.keys()]
    return forms[0] if len(forms) == 1 else None


def _validate_auth_form(raw: object) -> object:
    if isinstance(raw, ClientCredentialsConfig | ApiKeyConfig | PasswordConfig | AwsConfig):
        return raw
    if not isinstance(raw, dict):
        raise invalid_value('must be a table, such as { client_id = "…", client_secret_file = "…" }')
    if not any(settings & raw.keys() for settings in _FORMS.values()):
        raise invalid_value(
            "is missing: give client_id and client_secret (or client_secret_file), api_key (or api_key_file), user and "
            "password (or password_file), or for AWS access_key_id and secret_access_key"
        )
    if auth_form(raw) is None:
        raise invalid_value("contains credentials of several forms (API key, client, user, AWS): keep one of them")
    return raw


def _auth_tag(raw: object) -> str:
    if isinstance(raw, ClientCredentialsConfig | ApiKeyConfig | PasswordConfig | AwsConfig):
        return _TAGS[type(raw)]
    return (auth_form(raw) if isinstance(raw, dict) else None) or "auth:client"


_TAGS = {
    ClientCredentialsConfig: "auth:client",
    ApiKeyConfig: "auth:key",
    PasswordConfig: "auth:password",
    AwsConfig: "auth:aws",
}

AuthConfig = Annotated[
    Annotated[ClientCredentialsConfig, Tag("auth:client")]
    | Annotated[ApiKeyConfig, Tag("auth:key")]
    | Annotated[PasswordConfig, Tag("auth:password")]
    | Annotated[AwsConfig, Tag("auth:aws")],
    Discriminator(_auth_tag),
    BeforeValidator(_validate_auth_form),
]
