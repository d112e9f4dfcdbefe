"""How a target's API is reached: its certificates, its proxy, and the HTTP client that it was given."""

from pathlib import Path

from monitor.client.wire.pool import Connection
from monitor.config import Secret, Target, TlsConfig
from monitor.errors import ConfigError
from monitor.exchange import Wire
from monitor.log import register_secret

__all__ = ["connection_of", "wire_of"]


def connection_of(target: Target) -> Connection:
    """How the host of a target is reached; files and secrets are read now.

    Raises:
        ConfigError: a file can't be read now.
    """
    tls = target.tls or TlsConfig()
    proxy = target.proxy
    if isinstance(proxy, Secret):
        proxy = proxy.reveal()
        register_secret(proxy)  # a rotated one is masked in logs from then on
    return Connection(ca_pem=_read(target, "ca_file", tls.ca_file), identity_pem=_identity(target, tls), proxy=proxy)


def wire_of(target: Target) -> Wire:
    """Where a target's requests go out; whoever asks for it closes it.

    Raises:
        ConfigError: a file can't be read now, or what is in it can't be used, or the system trusts no authority.
    """
    connection = connection_of(target)
    try:
        return _wire(target, connection)
    except ValueError as error:
        raise ConfigError([f"targets.{target.name} can't be reached: {error}"]) from None


def _wire(target: Target, connection: Connection) -> Wire:
    """Only the library that was chosen is loaded."""
    if target.check.http == "httpx":
        from monitor.client.wire.via_httpx import HttpxWire

        return HttpxWire(base_url=target.base_url, connection=connection)
    from monitor.client.wire.via_reqwest import ReqwestWire

    return ReqwestWire(base_url=target.base_url, connection=connection)


def _identity(target: Target, tls: TlsConfig) -> bytes | None:
    certificate = _read(target, "cert_file", tls.cert_file)
    if certificate is None or tls.key_file == tls.cert_file:
        return certificate
    return certificate + b"\n" + (_read(target, "key_file", tls.key_file) or b"")


def _read(target: Target, key: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            [f"targets.{target.name}.tls.{key} names {path}, which can't be read ({error.strerror})"]
        ) from None
