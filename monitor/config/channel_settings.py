"""The tables `[[channels]]`: one class per channel type. A key that belongs to another type is an error."""

import base64
import binascii
import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Union

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator

from monitor.config.connection import CertificateFile
from monitor.config.fields import (
    HeaderSecret,
    Name,
    Text,
    WebhookUrl,
    format_choices,
    invalid_choice,
    invalid_value,
    require,
    secret_validator,
    text_validator,
)
from monitor.config.secret import Secret
from monitor.config.section import Remedy, Section
from monitor.config.urls import (
    is_loopback,
    require_apprise_tls,
    require_https,
    validate_alertmanager_url,
    validate_apprise_url,
    validate_host,
    validate_mail_address,
    validate_pagerduty_url,
    validate_sender,
)

_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_SIGNING_KEY_BYTES = range(24, 65)
_OR_FILE_REMEDY = "or {0}_file with the path of a file that holds it"


def _validate_signing_secret(value: str) -> str:
    try:
        key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not value.startswith("whsec_") or len(key) not in _SIGNING_KEY_BYTES:
        raise ValueError(
            'must be "whsec_" followed by 24 to 64 bytes in base64: run echo whsec_$(openssl rand -base64 32)'
        )
    return value


_validate_ascii = require(str.isascii, "must be ASCII: the mail server's login accepts nothing else")
_validate_routing_key = require(
    re.compile(r"[A-Za-z0-9]{32}", re.ASCII).fullmatch,
    "must be the integration key of an Events API v2 integration: 32 letters and digits",
)


def _validate_password(password: Secret | None, info: ValidationInfo) -> Secret | None:
    user = info.data.get("user", "")
    if password is None and user:
        raise invalid_value("is missing: give the user's password, " + _OR_FILE_REMEDY.format("password"))
    if password is not None and user is None:
        raise invalid_value("needs user: give the user that the password belongs to")
    return password


_MailAddress = Annotated[Text, AfterValidator(text_validator(validate_mail_address))]


class ChannelConfig(Section):
    """The settings that every channel has."""

    name: Annotated[Name, Remedy("give the channel a name, such as oncall")] = Field(
        description="The channel's name in routes, incidents and logs."
    )
    type: str = Field(description="The type of the channel.")
    takes_reports: ClassVar[bool] = True
    """Whether it can be sent reports; those that raise alerts can't."""
    include_api_message: bool = Field(
        default=False,
        description="Whether messages quote the API's own error text. It may contain file names or document text: "
        "enable it only if everyone who reads the channel may see them.",
    )


class _HttpChannelConfig(ChannelConfig):
    """What channels have whose URL may use http."""

    allow_http: bool = Field(
        default=False, description="Allows plain http to other machines, where others can read the channel's secrets."
    )


def _validate_secret_url(url: Secret, info: ValidationInfo) -> Secret:
    """The URL, which is a secret by itself."""
    allow_http = info.data.get("allow_http", True)
    return secret_validator(partial(require_https, allow_http=allow_http))(url)


class LogConfig(ChannelConfig):
    """The monitor's own log. A channel named `log` always exists."""

    type: Literal["log"] = Field(description="The monitor's own log.")

    @field_validator("include_api_message")
    @classmethod
    def _validate_not_enabled(cls, enabled: bool) -> bool:  # noqa: FBT001  # pydantic passes it by position
        if enabled:
            raise invalid_value("can't be true for the log, which never holds the API's text: remove it")
        return enabled


class WebhookConfig(_HttpChannelConfig):
    """JSON posted to your own URL."""

    type: Literal["webhook"] = Field(description="JSON posted to your own URL.")
    url: Annotated[WebhookUrl, Remedy("give the webhook's url, " + _OR_FILE_REMEDY.format("url"))] = Field(
        description="The receiver's URL. It is a secret: anyone who knows it can post there."
    )
    secret: Annotated[Secret, AfterValidator(secret_validator(_validate_signing_secret))] | None = Field(
        default=None,
        json_schema_extra={"pattern": "^whsec_[A-Za-z0-9+/]+=*$"},
        description="The key that signs messages, in the form of Standard Webhooks: `whsec_` and base64. Without it, "
        "messages are not signed.",
    )

    _validate_url = field_validator("url")(_validate_secret_url)


class SlackConfig(_HttpChannelConfig):
    """A Slack incoming webhook."""

    type: Literal["slack"] = Field(description="A Slack incoming webhook.")
    url: Annotated[WebhookUrl, Remedy("give the url of Slack's incoming webhook, " + _OR_FILE_REMEDY.format("url"))] = (
        Field(description="The incoming webhook's URL. It is a secret: anyone who knows it can post there.")
    )

    _validate_url = field_validator("url")(_validate_secret_url)


class EmailConfig(ChannelConfig):
    """Mail (text and HTML) over an SMTP server."""

    type: Literal["email"] = Field(description="Mail (text and HTML) over an SMTP server.")
    host: Annotated[
        Text,
        AfterValidator(text_validator(validate_host)),
        Remedy("give the mail server's name, such as smtp.example.com"),
    ] = Field(description="The mail server's name or address.")
    allow_plain: bool = Field(
        default=False, description='Allows `security = "none"` to other machines, where others can read the mail.'
    )
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls",
        description="Encryption: `starttls` connects in plain text and requires an upgrade to TLS, `tls` is TLS from "
        "the first byte, `none` is no encryption.",
    )
    port: int = Field(
        default_factory=lambda given: _PORTS[given.get("security", "starttls")],
        ge=1,
        le=65_535,
        description="The server's port. Default: 587 for `starttls`, 465 for `tls`, 25 for `none`.",
    )
    user: Annotated[Text, AfterValidator(_validate_ascii)] | None = Field(
        default=None, description="The user to log in as. Without it, there is no login."
    )
    password: Annotated[Secret, AfterValidator(secret_validator(_validate_ascii))] | None = Field(
        default=None, validate_default=True, description="The user's password."
    )
    from_: Annotated[Text, AfterValidator(text_validator(validate_sender)), Remedy("give the sender's address")] = (
        Field(
            alias="from",
            description="The sender's address, with or without a name. A name with a comma or another special "
            "character stands in double quotes.",
            examples=["Ingestion Monitor <monitor@example.com>"],
        )
    )
    to: Annotated[tuple[_MailAddress, ...], Remedy("give at least one recipient")] = Field(
        min_length=1, max_length=100, description="The recipients' addresses.", examples=[["oncall@example.com"]]
    )
    ehlo_name: Annotated[Text, AfterValidator(text_validator(validate_host))] | None = Field(
        default=None,
        description="The name by which this machine greets the mail server (EHLO). Default: its full host name, or, "
        "if it has none, the address that the connection comes from, in brackets.",
        examples=["monitor.example.com"],
    )
    ca_file: CertificateFile | None = Field(
        default=None, description="A PEM file of CA certificates to trust in addition to the system's."
    )

    @field_validator("security")
    @classmethod
    def _validate_security(cls, security: str, info: ValidationInfo) -> str:
        local = is_loopback(str(info.data.get("host", "localhost")))
        if security == "none" and not (local or info.data.get("allow_plain", True)):
            raise invalid_value(
                'must be "starttls" or "tls"; "none" is only allowed to this machine, or with allow_plain = true'
            )
        return security

    _validate_password_of_user = field_validator("password")(_validate_password)


class PagerDutyConfig(ChannelConfig):
    """A PagerDuty integration of the type Events API v2."""

    takes_reports: ClassVar[bool] = False
    type: Literal["pagerduty"] = Field(description="A PagerDuty integration of the type Events API v2.")
    routing_key: Annotated[
        Secret,
        AfterValidator(secret_validator(_validate_routing_key)),
        Remedy("give the integration's key, " + _OR_FILE_REMEDY.format("routing_key")),
    ] = Field(description="The integration's key: 32 letters and digits.")
    url: Annotated[Secret, AfterValidator(secret_validator(validate_pagerduty_url))] | None = Field(
        default=None,
        description="The URL that receives events. Default: https://events.pagerduty.com/v2/enqueue. EU accounts use "
        "https://events.eu.pagerduty.com/v2/enqueue.",
    )


class AlertmanagerConfig(_HttpChannelConfig):
    """Prometheus Alertmanager, API v2."""

    takes_reports: ClassVar[bool] = False
    type: Literal["alertmanager"] = Field(description="Prometheus Alertmanager, API v2.")
    url: Annotated[
        Secret,
        AfterValidator(secret_validator(validate_alertmanager_url)),
        Remedy("give Alertmanager's address, such as http://alertmanager:9093"),
    ] = Field(description="Alertmanager's address. Include a path prefix, but not `/api/v2/alerts`.")
    user: Text | None = Field(default=None, description="The user for HTTP Basic authentication.")
    password: Secret | None = Field(default=None, validate_default=True, description="The user's password.")
    token: HeaderSecret | None = Field(
        default=None, description="A token to send as `Authorization: Bearer`, instead of user and password."
    )

    @field_validator("password", "token")
    @classmethod
    def _validate_not_in_the_clear(cls, secret: Secret | None, info: ValidationInfo) -> Secret | None:
        url, allow_http = info.data.get("url"), info.data.get("allow_http", True)
        if secret is not None and url is not None:
            try:
                require_https(url.reveal(), allow_http=allow_http)
            except ValueError:
                raise invalid_value(
                    "would be sent in the clear: use https in url; plain http is only allowed to this machine, or with "
                    "allow_http = true"
                ) from None
        return secret

    _validate_password_of_user = field_validator("password")(_validate_password)

    @field_validator("token")
    @classmethod
    def _validate_token(cls, token: Secret | None, info: ValidationInfo) -> Secret | None:
        if token is not None and info.data.get("user") is not None:
            raise invalid_value("can't be used together with user and password: keep one of them")
        return token


class AppriseConfig(_HttpChannelConfig):
    """Any service that the Apprise library supports."""

    type: Literal["apprise"] = Field(description="Any service that the Apprise library supports.")
    url: Annotated[
        Secret,
        AfterValidator(secret_validator(validate_apprise_url)),
        Remedy("give Apprise's URL of the service, " + _OR_FILE_REMEDY.format("url")),
    ] = Field(description="The service's Apprise URL, such as `ntfy://topic`. It is a secret: it holds credentials.")

    @field_validator("url")
    @classmethod
    def _validate_tls(cls, url: Secret, info: ValidationInfo) -> Secret:
        allow_http = info.data.get("allow_http", True)
        return secret_validator(partial(require_apprise_tls, allow_http=allow_http))(url)


CHANNEL_TYPES: Mapping[str, type[ChannelConfig]] = {
    "log": LogConfig,
    "webhook": WebhookConfig,
    "slack": SlackConfig,
    "email": EmailConfig,
    "pagerduty": PagerDutyConfig,
    "alertmanager": AlertmanagerConfig,
    "apprise": AppriseConfig,
}
"""Every channel type and its settings. Unions, error messages and the JSON Schema follow from this table."""


_MIN_SERVICE_NAME, _MAX_SERVICES = 4, 3


def apprise_services(name: str) -> list[str]:
    """Services of Apprise with this name, such as `discord:// (Discord)`; at most three. It imports Apprise: slow."""
    from apprise import Apprise

    wanted, found = name.lower(), []
    for service in Apprise().details()["schemas"] if len(wanted) >= _MIN_SERVICE_NAME else ():
        schemas = [*(service["secure_protocols"] or ()), *(service["protocols"] or ())]
        title = str(service["service_name"])
        if wanted in schemas or any(wanted in word for word in re.findall(r"[a-z0-9]+", title.lower())):
            found.append(f"{schemas[0]}:// ({title})")
    return found[:_MAX_SERVICES]


def _reject_type(type_: str) -> str:
    if services := apprise_services(type_):
        named = f'type "apprise" has it, with a url that begins with {" or ".join(services)}'
        raise invalid_value(f"must be {format_choices(CHANNEL_TYPES)}; {named}")
    raise invalid_choice(type_, tuple(CHANNEL_TYPES))


class UnknownChannelConfig(ChannelConfig):
    """Checks a channel whose type is missing or unknown, so that its other errors are reported too."""

    model_config = ConfigDict(extra="allow")
    type: Annotated[
        str, AfterValidator(_reject_type), Remedy(f"say which type it is: {format_choices(CHANNEL_TYPES)}")
    ] = Field(description="The type of the channel.", json_schema_extra={"enum": [*CHANNEL_TYPES]})


CHANNEL_TAG = "channel:"
"""Prefix of the type in the location of pydantic's errors."""


def _channel_tag(raw: object) -> str:
    type_ = raw.get("type") if isinstance(raw, Mapping) else getattr(raw, "type", None)
    return f"{CHANNEL_TAG}{type_}" if isinstance(type_, str) and type_ in CHANNEL_TYPES else CHANNEL_TAG


if TYPE_CHECKING:
    AnyChannelConfig = ChannelConfig
else:
    AnyChannelConfig = Annotated[
        Union[  # the members come from the table
            (
                *(Annotated[model, Tag(f"{CHANNEL_TAG}{type_}")] for type_, model in CHANNEL_TYPES.items()),
                Annotated[UnknownChannelConfig, Tag(CHANNEL_TAG)],
            )
        ],
        Discriminator(_channel_tag),
    ]
