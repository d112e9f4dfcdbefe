"""Builds a target's client, connection and credentials. Secrets are read at each use."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.client.auth import ApiKey, Auth, ClientCredentials, SecretSource, basic_credential
from monitor.client.failure_log import log_failures
from monitor.client.secret_headers import SecretHeaders
from monitor.client.throttle import Throttle
from monitor.config import ApiKeyConfig, AwsConfig, PasswordConfig, Secret, TargetConfig, TlsConfig
from monitor.errors import ConfigError
from monitor.logs import redact_text, register_secret
from monitor.model.http import Transport
from monitor.providers import Provider

if TYPE_CHECKING:
    from monitor.client.client import Client
    from monitor.client.transports.options import ConnectionOptions


def build_connection(target: TargetConfig) -> "ConnectionOptions":
    """How the host of a target is reached; files and secrets are read now. ConfigError: a file can't be read."""
    from monitor.client.transports.options import ConnectionOptions

    tls, proxy = target.tls or TlsConfig(), target.proxy
    if isinstance(proxy, Secret):
        proxy = secret_reader(proxy)()
    return ConnectionOptions(
        ca_pem=_read_file(target, "ca_file", tls.ca_file),
        identity_pem=_client_certificate(target, tls),
        proxy=proxy,
        attempt_timeout_s=target.check.attempt_timeout.total_seconds(),
    )


def open_transport(target: TargetConfig) -> Transport:
    """The target's transport. The caller closes it.

    Raises ConfigError if a file can't be read or used, or the system has no CA certificates.
    """
    connection = build_connection(target)
    try:  # only the library that was chosen is loaded
        if target.check.http == "httpx":
            from monitor.client.transports.httpx_transport import HttpxTransport

            return HttpxTransport(base_url=target.base_url, connection=connection)
        from monitor.client.transports import fast_transport

        return fast_transport(base_url=target.base_url, connection=connection)
    except ValueError as error:
        raise ConfigError([f"targets.{target.name} can't be connected to: {error}"]) from None


def _client_certificate(target: TargetConfig, tls: TlsConfig) -> bytes | None:
    certificate = _read_file(target, "cert_file", tls.cert_file)
    if certificate is None or tls.key_file == tls.cert_file:
        return certificate
    return certificate + b"\n" + (_read_file(target, "key_file", tls.key_file) or b"")


def _read_file(target: TargetConfig, key: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        where = f"targets.{target.name}.tls.{key} names {path}"
        raise ConfigError([f"{where}, which can't be read ({error.strerror})"]) from None


@asynccontextmanager
async def open_client(
    target: TargetConfig, provider: Provider, throttle: AbstractAsyncContextManager[Throttle] | None = None
) -> "AsyncIterator[Client]":
    """A resilient client for one run over a target. Targets may share a throttle; None makes a new one."""
    from monitor.client.client import Client

    transport = open_transport(target)
    try:
        async with throttle or nullcontext(Throttle()) as shared:
            client = Client(
                transport=transport,
                auth=build_auth(target, provider),
                secret_headers=build_secret_headers(target),
                throttle=shared,
                attempt_timeout_s=target.check.attempt_timeout.total_seconds(),
                max_attempts=target.check.max_attempts,
                mask=redact_text,
                text_errors=bool(getattr(provider, "text_errors", False)),
                read_meaning=getattr(provider, "read_meaning", None),
            )
            try:
                yield client
            finally:
                log_failures(client.failure_summary)
    finally:
        await transport.close()


def build_auth(target: TargetConfig, provider: Provider) -> Auth | None:
    """The target's credentials, if it needs any. Raises ConfigError if a token endpoint or what signs is missing."""
    auth = target.auth
    if auth is None:
        return None
    if isinstance(auth, ApiKeyConfig):
        return ApiKey(
            secret_reader(auth.api_key), header=auth.header.lower(), scheme=auth.scheme, stamp=auth.api_key.stamp
        )
    if isinstance(auth, PasswordConfig):
        user, read_password = auth.user, secret_reader(auth.password)
        return ApiKey(
            lambda: _registered(basic_credential(user, read_password())),
            scheme="Basic",
            name="password",
            stamp=auth.password.stamp,
        )
    if isinstance(auth, AwsConfig):
        from monitor.app.aws import build_signed_auth

        secret, token = auth.secret_access_key, auth.session_token
        return build_signed_auth(
            target,
            auth,
            secret=_source(secret, "secret access key") if secret else None,
            token=_source(token, "session token") if token else None,
        )
    token_path = auth.token_path or provider.token_path
    if token_path is None:
        raise ConfigError([f"targets.{target.name}.auth: {provider.name} has no token endpoint; give an api_key"])
    return ClientCredentials(
        token_path=token_path,
        client_id=auth.client_id,
        read_secret=secret_reader(auth.client_secret),
        stamp=auth.client_secret.stamp,
        scope=provider.token_scope if auth.scope is None else auth.scope,
    )


def build_secret_headers(target: TargetConfig) -> SecretHeaders | None:
    """The target's further secret headers, if it has any."""
    sources = {name.lower(): _source(secret, f"secret header {name}") for name, secret in target.secret_headers.items()}
    return SecretHeaders(sources) if sources else None


def _source(secret: Secret, name: str) -> SecretSource:
    return SecretSource(secret_reader(secret), name=name, stamp=secret.stamp)


def _registered(value: str) -> str:
    register_secret(value)
    return value


def secret_reader(secret: Secret) -> Callable[[], str]:
    """A function that reads a secret at each use, so that logs also mask a rotated one."""

    def read() -> str:
        value = secret.reveal()
        register_secret(value)
        return value

    return read
