"""The resilient client of a target, with its credentials; secrets are read when they are used."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path

from monitor.client.auth import ApiKey, Auth, ClientCredentials
from monitor.client.client import Client
from monitor.client.failure_log import log_failures
from monitor.client.throttle import Throttle
from monitor.client.transports.pool import ConnectionOptions
from monitor.config import ApiKeyConfig, Secret, TargetConfig, TlsConfig
from monitor.errors import ConfigError
from monitor.logs import redact_text, register_secret
from monitor.model.http import Transport
from monitor.providers import Provider


def build_connection(target: TargetConfig) -> ConnectionOptions:
    """How the host of a target is reached; files and secrets are read now.

    Raises:
        ConfigError: a file can't be read now.
    """
    tls = target.tls or TlsConfig()
    proxy = target.proxy
    if isinstance(proxy, Secret):
        proxy = proxy.reveal()
        register_secret(proxy)  # a rotated one is masked in logs from then on
    return ConnectionOptions(
        ca_pem=_read_file(target, "ca_file", tls.ca_file), identity_pem=_client_certificate(target, tls), proxy=proxy
    )


def open_transport(target: TargetConfig) -> Transport:
    """Where a target's requests go out; whoever asks for it closes it.

    Raises:
        ConfigError: a file can't be read now, or what is in it can't be used, or the system trusts no authority.
    """
    connection = build_connection(target)
    try:
        return _build_transport(target, connection)
    except ValueError as error:
        raise ConfigError([f"targets.{target.name} can't be reached: {error}"]) from None


def _build_transport(target: TargetConfig, connection: ConnectionOptions) -> Transport:
    """Only the library that was chosen is loaded."""
    if target.check.http == "httpx":
        from monitor.client.transports.httpx_transport import HttpxTransport

        return HttpxTransport(base_url=target.base_url, connection=connection)
    from monitor.client.transports.pyreqwest_transport import PyreqwestTransport

    return PyreqwestTransport(base_url=target.base_url, connection=connection)


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
        raise ConfigError(
            [f"targets.{target.name}.tls.{key} names {path}, which can't be read ({error.strerror})"]
        ) from None


@asynccontextmanager
async def open_client(
    target: TargetConfig, provider: Provider, throttle: AbstractAsyncContextManager[Throttle] | None = None
) -> AsyncIterator[Client]:
    """A resilient client for one run over a target; its connections are closed at the end.

    Args:
        target: whose API is asked.
        provider: of that target.
        throttle: what it shares with others; None: it is alone, and nothing is known of the API.
    """
    transport = open_transport(target)
    try:
        async with throttle or nullcontext(Throttle()) as shared:
            client = Client(
                transport=transport,
                auth=build_auth(target, provider),
                throttle=shared,
                attempt_timeout_s=target.check.attempt_timeout.total_seconds(),
                max_attempts=target.check.max_attempts,
                mask=redact_text,
            )
            try:
                yield client
            finally:
                log_failures(client.failure_summary)
    finally:
        await transport.close()


def build_auth(target: TargetConfig, provider: Provider) -> Auth | None:
    """Where the credentials of a target come from; None when it needs none.

    Raises:
        ConfigError: the provider has no token endpoint, and none is configured.
    """
    auth = target.auth
    if auth is None:
        return None
    if isinstance(auth, ApiKeyConfig):
        return ApiKey(
            secret_reader(auth.api_key), header=auth.header.lower(), scheme=auth.scheme, stamp=auth.api_key.stamp
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


def secret_reader(secret: Secret) -> Callable[[], str]:
    """Reads a secret at the time of use; a rotated one is masked in logs from then on, like the first."""

    def read() -> str:
        value = secret.reveal()
        register_secret(value)
        return value

    return read
