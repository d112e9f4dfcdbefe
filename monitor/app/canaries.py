"""Builds what a canary needs: the provider with the canary's own parameters, its requests, and the job."""

import secrets
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from monitor.app.app import App, holder, provider_settings
from monitor.app.clients import open_client
from monitor.config import TargetConfig
from monitor.config.canary import CanaryConfig
from monitor.database import leases
from monitor.errors import ConfigError
from monitor.providers import Provider
from monitor.providers.registry import provider_for
from monitor.runs.canary.canary import CanaryJob

if TYPE_CHECKING:
    from monitor.providers.canary import CanaryRequests

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""Without characters that look alike: a person may read the name in a list of files."""
_LENGTH = 16


def new_token() -> str:
    """A random token: 80 bits, so that no two canaries anywhere share a name."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def canary_config(target: TargetConfig) -> CanaryConfig:
    """The target's `canary`, or the defaults: the command needs none."""
    return target.canary or CanaryConfig()


def build_canary_requests(target: TargetConfig) -> "tuple[Provider, CanaryRequests]":
    """The provider with the canary's own parameters, and its requests.

    Raises ConfigError if the provider can't upload, retrieve and delete, or a parameter is missing.
    """
    settings = provider_settings(target, with_canary=True)
    # rows of a sync log, which may give parameters, are none of the canary's business
    own = replace(settings, params={**settings.params, **canary_config(target).params}, row_params=())
    provider = provider_for(target.provider, own)
    make = getattr(provider, "canary_requests", None)
    requests: CanaryRequests | None = make() if make is not None else None
    if requests is None:
        problem = (
            f"targets.{target.name}.canary can't be used with provider {target.provider}, whose description does not "
            "say how to upload, retrieve and delete a document: add [[targets.upload]], [[targets.retrieve]] and "
            "[[targets.delete]], or remove it (`ingestion-monitor docs canary`)"
        )
        raise ConfigError([problem])
    return provider, requests


def build_canary_job(app: App, target: TargetConfig, *, budget: timedelta | None = None) -> CanaryJob:
    """Everything that a canary of the target needs; `budget` replaces the configured timeout.

    Raises ConfigError as `build_canary_requests`.
    """
    provider, requests = build_canary_requests(target)
    config = canary_config(target)
    return CanaryJob(
        target=target.name,
        environment=app.config.environment,
        engine=app.engine,
        provider=provider,
        requests=requests,
        open_client=lambda: open_client(
            target, provider, app.throttles.throttle(target, app.config.targets, app.engine, utcnow=app.clock)
        ),
        slow_after=config.slow_after,
        timeout=budget or config.timeout,
        holder=holder(),
        utcnow=app.clock,
        lease_now=partial(leases.lease_now, utcnow=app.clock),
        new_token=new_token,
        log_fields={"publisher_id": target.publisher_id} if target.publisher_id else {},
    )
