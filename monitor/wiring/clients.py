"""The resilient client of a target, with its credentials; secrets are read when they are used."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from monitor.client.auth import ApiKey, Auth, ClientCredentials
from monitor.client.client import Client
from monitor.client.digest import log_failures
from monitor.client.throttle import Throttle
from monitor.config import ApiKeyAuth, Secret, Target
from monitor.errors import ConfigError
from monitor.log import masked, register_secret
from monitor.providers import Provider
from monitor.wiring.connections import wire_of

__all__ = ["auth_of", "open_client", "reader"]


@asynccontextmanager
async def open_client(
    target: Target, provider: Provider, throttle: AbstractAsyncContextManager[Throttle] | None = None
) -> AsyncIterator[Client]:
    """A resilient client for one run over a target; its connections are closed at the end.

    Args:
        target: whose API is asked.
        provider: of that target.
        throttle: what it shares with others; None: it is alone, and nothing is known of the API.
    """
    wire = wire_of(target)
    try:
        async with throttle or nullcontext(Throttle()) as shared:
            client = Client(
                wire=wire,
                auth=auth_of(target, provider),
                throttle=shared,
                attempt_timeout_s=target.check.attempt_timeout.total_seconds(),
                max_attempts=target.check.max_attempts,
                mask=masked,
            )
            try:
                yield client
            finally:
                log_failures(client.digest)
    finally:
        await wire.close()


def auth_of(target: Target, provider: Provider) -> Auth | None:
    """Where the credentials of a target come from; None when it needs none.

    Raises:
        ConfigError: the provider has no token endpoint, and none is configured.
    """
    auth = target.auth
    if auth is None:
        return None
    if isinstance(auth, ApiKeyAuth):
        return ApiKey(reader(auth.api_key), header=auth.header.lower(), scheme=auth.scheme, stamp=auth.api_key.stamp)
    token_path = auth.token_path or provider.token_path
    if token_path is None:
        raise ConfigError([f"targets.{target.name}.auth: {provider.name} has no token endpoint; give an api_key"])
    return ClientCredentials(
        token_path=token_path,
        client_id=auth.client_id,
        read_secret=reader(auth.client_secret),
        stamp=auth.client_secret.stamp,
        scope=provider.token_scope if auth.scope is None else auth.scope,
    )


def reader(secret: Secret) -> Callable[[], str]:
    """Reads a secret at the time of use; a rotated one is masked in logs from then on, like the first."""

    def read() -> str:
        value = secret.reveal()
        register_secret(value)
        return value

    return read
