"""The table `[web]`: where the daemon's page and health endpoints are, and who may use the page."""

import re
from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from monitor.config.fields import secret_validator, text_validator
from monitor.config.secret import Secret
from monitor.config.section import Section
from monitor.config.urls import is_loopback, parse_listen_address, validate_public_url

OFF = "off"
MIN_TOKEN_CHARS = 16
_TOKEN = re.compile(r"[!-~]+", re.ASCII)


def _validate_listen(value: str) -> str:
    if value != OFF:
        parse_listen_address(value)
    return value


def _validate_token(value: str) -> str:
    if len(value) < MIN_TOKEN_CHARS or not _TOKEN.fullmatch(value):
        raise ValueError(
            f"must be at least {MIN_TOKEN_CHARS} letters, digits and signs of ASCII, without a blank: "
            "run openssl rand -base64 32"
        )
    return value


class WebConfig(Section):
    """The daemon's page and its health endpoints: /healthz, /readyz and /metrics."""

    listen: Annotated[str, Field(max_length=300), AfterValidator(text_validator(_validate_listen))] = Field(
        default="127.0.0.1:8990",
        description="Host and port of the page and the health endpoints. By default only this machine can reach them; "
        'in a container, use "0.0.0.0:8990". Port 0 picks a free port and logs it. "off" disables them. The health '
        "endpoints are read-only and show no secrets, and need no token. The page needs one, except on loopback.",
        examples=["0.0.0.0:8990"],
    )
    public_url: Annotated[str, Field(max_length=300), AfterValidator(text_validator(validate_public_url))] | None = (
        Field(
            default=None,
            description="The address under which people reach the page, through a proxy that speaks https: messages "
            "link to their incidents there, and the page answers under its name. Scheme, host and port, without a "
            "path. Without it, messages have no links.",
            examples=["https://monitor.example.com"],
        )
    )
    token: Annotated[Secret, AfterValidator(secret_validator(_validate_token))] | None = Field(
        default=None,
        description="The token of the page and of the API, at least 16 characters: people enter it once, programs send "
        "it as `Authorization: Bearer`. Without one, the page is shown on a loopback address alone. A file is read "
        "again when it changes, which ends all logins.",
    )
    actions: bool = Field(
        default=False, description="Whether incidents can be acknowledged, silenced and resolved from the page."
    )

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port to listen on; None if page and endpoints are off."""
        return None if self.listen == OFF else parse_listen_address(self.listen)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.address is None or is_loopback(self.address[0])


_REMEDY = "set web.token_file to the path of a file with a token (openssl rand -base64 32 makes one)"


def access_warnings(web: WebConfig) -> Iterator[str]:
    """What is doubtful about access to the page, one sentence each; nothing is contacted."""
    if web.address is None or web.token is not None:
        return
    if not web.on_loopback:
        yield f"web.listen is no loopback address, so that the page answers 403 to everybody: {_REMEDY}."
    elif web.public_url is not None and not is_loopback(urlsplit(web.public_url).hostname or ""):
        yield (
            "web.public_url is set and web.token_file is not: whoever reaches the proxy may use the page. "
            f"Unless the proxy asks for a login, {_REMEDY}."
        )
