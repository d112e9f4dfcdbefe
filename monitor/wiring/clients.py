"""The resilient client of a target, with its credentials; secrets are read when they are used."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from monitor.client.auth import ApiKey, Auth, ClientCredentials
from monitor.client.client import Client
from monitor.client.limits import Breaker
from monitor.client.wire import HttpxWire
from monitor.config import ApiKeyAuth, Secret, Target
from monitor.errors import ConfigError
from monitor.log import masked, register_secret
from monitor.providers import Provider

__all__ = ["auth_of", "open_client", "reader"]


@asynccontextmanager
async def open_client(target: Target, provider: Provider) -> AsyncIterator[Client]:
    """A resilient client for one run over a target; its connections are closed at the end."""
    wire = HttpxWire(base_url=target.base_url)
    try:
        yield Client(
            wire=wire,
            auth=auth_of(target, provider),
            breaker=Breaker(),
            attempt_timeout_s=target.check.attempt_timeout.total_seconds(),
            max_attempts=target.check.max_attempts,
            mask=masked,
        )
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
        return ApiKey(reader(auth.api_key), header=auth.header.lower(), scheme=auth.scheme)
    token_path = auth.token_path or provider.token_path
    if token_path is None:
        raise ConfigError([f"targets.{target.name}.auth: {provider.name} has no token endpoint; give an api_key"])
    return ClientCredentials(
        token_path=token_path,
        client_id=auth.client_id,
        read_secret=reader(auth.client_secret),
        scope=provider.token_scope if auth.scope is None else auth.scope,
    )


def reader(secret: Secret) -> Callable[[], str]:
    """Reads a secret at the time of use; a rotated one is masked in logs from then on, like the first."""

    def read() -> str:
        value = secret.reveal()
        register_secret(value)
        return value

    return read
