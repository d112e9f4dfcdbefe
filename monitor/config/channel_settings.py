"""The settings of each type of channel. Each has its own alone: what only another type has is an error."""

import base64
import binascii
import re
from collections.abc import Mapping
from email.utils import parseaddr
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator

from monitor.config.connection import CertificateFile
from monitor.config.fields import HeaderSecret, Name, Text, WebhookUrl, invalid_value, secret_validator, text_validator
from monitor.config.secret import Secret
from monitor.config.section import Remedy, Section
from monitor.config.urls import (
    is_loopback,
    validate_alertmanager_url,
    validate_apprise_url,
    validate_host,
    validate_mail_address,
    validate_pagerduty_url,
)

_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_ROUTING_KEY = re.compile(r"[A-Za-z0-9]{32}", re.ASCII)
_SIGNING_KEY_BYTES = range(24, 65)
_OR_FILE_REMEDY = "or {0}_file with the path of a file that holds it"


def _validate_signing_secret(value: str) -> str:
    try:
        key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not value.startswith("whsec_") or len(key) not in _SIGNING_KEY_BYTES:
        raise ValueError(
            'must begin with "whsec_", and go on with 24 to 64 bytes in base64: echo whsec_$(openssl rand -base64 32)'
        )
    return value


def _validate_routing_key(value: str) -> str:
    if not _ROUTING_KEY.fullmatch(value):
        raise ValueError("must be the 32 letters and digits of an integration of the type Events API v2")
    return value


def _validate_ascii(value: str) -> str:
    if not value.isascii():
        raise ValueError("must be of ASCII, as a log-in at a mail server can carry no other")
    return value


def _validate_sender(value: str) -> str:
    name, address = parseaddr(value)
    if value not in {address, f"{name} <{address}>"}:
        raise ValueError('must be a mail address, or one with a name, such as "Monitor <monitor@example.com>"')
    validate_mail_address(address)
    return value


def _validate_password(password: Secret | None, info: ValidationInfo) -> Secret | None:
    user = info.data.get("user", "")
    if password is None and user:
        raise invalid_value("is missing: give the user's password, " + _OR_FILE_REMEDY.format("password"))
    if password is not None and user is None:
        raise invalid_value("has no meaning without user: give the user that it belongs to")
    return password


_SigningSecret = Annotated[
    Secret,
    Field(json_schema_extra={"pattern": "^whsec_[A-Za-z0-9+/]+=*$"}),
    AfterValidator(secret_validator(_validate_signing_secret)),
]
_MailAddress = Annotated[Text, AfterValidator(text_validator(validate_mail_address))]


class ChannelConfig(Section):
    """What every channel has."""

    name: Annotated[Name, Remedy("give the channel a name, such as oncall")] = Field(
        description="How routes and messages about it call the channel."
    )
    type: str = Field(description="What it is.")
    include_api_message: bool = Field(
        default=False,
        description="Whether messages quote what the API said, in its own words. It may name files or quote documents: "
        "switch it on only where all who read the channel may see those.",
    )


class LogConfig(ChannelConfig):
    """A channel of type `log`: the monitor's own log. One of that name is always there."""

    type: Literal["log"] = Field(description="The monitor's own log.")

    @field_validator("include_api_message")
    @classmethod
    def _validate_not_enabled(cls, enabled: bool) -> bool:  # noqa: FBT001  # pydantic passes it by position
        if enabled:
            raise invalid_value("can't be true for the log, where the API's own words never go: remove it")
        return enabled


class WebhookConfig(ChannelConfig):
    """A channel of type `webhook`: JSON that is posted to a URL of yours."""

    type: Literal["webhook"] = Field(description="JSON that is posted to a URL of yours.")
    url: Annotated[WebhookUrl, Remedy("give the webhook's url, " + _OR_FILE_REMEDY.format("url"))] = Field(
        description="Where it listens. It is a secret: whoever knows it can post there."
    )
    secret: Annotated[Secret, AfterValidator(secret_validator(_validate_signing_secret))] | None = Field(
        default=None,
        description="What messages are signed with, as Standard Webhooks want it: `whsec_` and base64. Left out: they "
        "are not signed.",
    )


class SlackConfig(ChannelConfig):
    """A channel of type `slack`: an incoming webhook of Slack's."""

    type: Literal["slack"] = Field(description="An incoming webhook of Slack's.")
    url: Annotated[WebhookUrl, Remedy("give the url of Slack's incoming webhook, " + _OR_FILE_REMEDY.format("url"))] = (
        Field(description="The incoming webhook's URL. It is a secret: whoever knows it can post there.")
    )


class EmailConfig(ChannelConfig):
    """A channel of type `email`: a mail of text and HTML over an SMTP server."""

    type: Literal["email"] = Field(description="A mail of text and HTML over an SMTP server.")
    host: Annotated[
        Text,
        AfterValidator(text_validator(validate_host)),
        Remedy("give the mail server's name, such as smtp.example.com"),
    ] = Field(description="The mail server's name or address.")
    allow_plain: bool = Field(
        default=False, description="Lets `security` be `none` beyond this machine, where anybody can listen in."
    )
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls",
        description="How the way there is encrypted: `starttls` begins in plain and insists on going on with TLS, "
        "`tls` is TLS from the first byte, `none` is no encryption.",
    )
    port: int = Field(
        default_factory=lambda given: _PORTS[given.get("security", "starttls")],
        ge=1,
        le=65_535,
        description="The server's port; 587, 465 or 25, as `security` has it, unless said otherwise.",
    )
    user: Annotated[Text, AfterValidator(text_validator(_validate_ascii))] | None = Field(
        default=None, description="Who logs in there. Left out: nobody does."
    )
    password: Annotated[Secret, AfterValidator(secret_validator(_validate_ascii))] | None = Field(
        default=None, validate_default=True, description="The user's password."
    )
    from_: Annotated[
        Text, AfterValidator(text_validator(_validate_sender)), Remedy("give the address that mails come from")
    ] = Field(
        alias="from",
        description="The address that mails come from, with or without a name.",
        examples=["Ingestion Monitor <monitor@example.com>"],
    )
    to: Annotated[tuple[_MailAddress, ...], Remedy("give at least one address that mails go to")] = Field(
        min_length=1, max_length=100, description="The addresses that mails go to.", examples=[["oncall@example.com"]]
    )
    ca_file: CertificateFile | None = Field(
        default=None, description="Certificates of authorities to trust beside the system's, as a PEM file."
    )

    @field_validator("security")
    @classmethod
    def _validate_security(cls, security: str, info: ValidationInfo) -> str:
        local = is_loopback(str(info.data.get("host", "localhost")))
        if security == "none" and not (local or info.data.get("allow_plain", True)):
            raise invalid_value(
                'must be "starttls" or "tls"; "none" goes only to this machine, or with allow_plain = true'
            )
        return security

    _validate_password_of_user = field_validator("password")(_validate_password)


class PagerDutyConfig(ChannelConfig):
    """A channel of type `pagerduty`: an integration of the type Events API v2."""

    type: Literal["pagerduty"] = Field(description="An integration of PagerDuty's of the type Events API v2.")
    routing_key: Annotated[
        Secret,
        AfterValidator(secret_validator(_validate_routing_key)),
        Remedy("give the integration's key, " + _OR_FILE_REMEDY.format("routing_key")),
    ] = Field(description="The integration's key: 32 letters and digits.")
    url: Annotated[Secret, AfterValidator(secret_validator(validate_pagerduty_url))] | None = Field(
        default=None,
        description="Where events go. Left out: https://events.pagerduty.com/v2/enqueue; accounts in the EU have "
        "https://events.eu.pagerduty.com/v2/enqueue.",
    )


class AlertmanagerConfig(ChannelConfig):
    """A channel of type `alertmanager`: Prometheus Alertmanager, API v2."""

    type: Literal["alertmanager"] = Field(description="Prometheus Alertmanager, by its API v2.")
    url: Annotated[
        Secret,
        AfterValidator(secret_validator(validate_alertmanager_url)),
        Remedy("give Alertmanager's address, such as http://alertmanager:9093"),
    ] = Field(description="Its address, with the path that comes before `/api/v2/alerts` if there is one.")
    user: Text | None = Field(default=None, description="Who logs in there (HTTP Basic). Left out: nobody does.")
    password: Secret | None = Field(default=None, validate_default=True, description="The user's password.")
    token: HeaderSecret | None = Field(
        default=None, description="A token that is sent as `Authorization: Bearer`, in place of user and password."
    )

    _validate_password_of_user = field_validator("password")(_validate_password)

    @field_validator("token")
    @classmethod
    def _validate_token(cls, token: Secret | None, info: ValidationInfo) -> Secret | None:
        if token is not None and info.data.get("user") is not None:
            raise invalid_value("can't stand beside user and password: keep one of them")
        return token


class AppriseConfig(ChannelConfig):
    """A channel of type `apprise`: any service that the library Apprise knows."""

    type: Literal["apprise"] = Field(description="Any service that the library Apprise knows.")
    url: Annotated[
        Secret,
        AfterValidator(secret_validator(validate_apprise_url)),
        Remedy("give Apprise's URL of the service, " + _OR_FILE_REMEDY.format("url")),
    ] = Field(description="Apprise's URL of the service, such as `ntfy://topic`. It is a secret: it holds credentials.")


class UnknownChannelConfig(ChannelConfig):
    """Stands for a channel whose type is missing or unknown: what else is wrong with it is told as well."""

    model_config = ConfigDict(extra="allow")
    type: Annotated[
        Literal["log", "webhook", "slack", "email", "pagerduty", "alertmanager", "apprise"],
        Remedy('say what it is: "log", "webhook", "slack", "email", "pagerduty", "alertmanager" or "apprise"'),
    ] = Field(description="What it is.")


CHANNEL_TYPES: Mapping[str, type[ChannelConfig]] = {
    "log": LogConfig,
    "webhook": WebhookConfig,
    "slack": SlackConfig,
    "email": EmailConfig,
    "pagerduty": PagerDutyConfig,
    "alertmanager": AlertmanagerConfig,
    "apprise": AppriseConfig,
}
