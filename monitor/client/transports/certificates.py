"""TLS by OpenSSL: 1.2 or newer, always verified by the system's certificate authorities and those of the target.

`SSL_CERT_FILE` and `SSL_CERT_DIR` replace the system's, as they do for pyreqwest.
"""

import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

NO_AUTHORITIES = "this system has no CA certificates: install ca-certificates, or set SSL_CERT_FILE"
UNUSABLE_AUTHORITIES = "the CA certificates can't be used"
NO_CERTIFICATE = "the CA file has no certificate in PEM form"
UNREADABLE_IDENTITY = "the client's certificate and private key can't be read as PEM"
MIXED_IDENTITY = "the client's certificate and private key can't be used, or don't belong together"

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_HASHED_NAME = re.compile(r"[0-9a-f]{8}\.\d+")
_USUAL_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",  # Alpine, the BSDs, macOS
)
"""A Python that was built elsewhere looks in the folders of its builder."""


@dataclass(slots=True)
class TrustedTls:
    """What connections to one target share."""

    context: ssl.SSLContext
    unread_file: str | None
    """The system's authorities in one file. Reading them takes as long as the rest of a start, so it is only done when
    its folder, of which OpenSSL reads one authority at a time, has not the one that is needed.
    """

    @property
    def is_complete(self) -> bool:
        """Whether all of the system's authorities can be found."""
        return self.unread_file is None

    def complete(self) -> None:
        """Reads the file, unless that was done."""
        file, self.unread_file = self.unread_file, None
        if file is not None:
            _trust_file(self.context, file)


def trusted_tls(*, ca_pem: bytes | None, identity_pem: bytes | None) -> TrustedTls:
    """TLS with these certificates; the same one while they and the system's stay the same.

    Raises:
        ValueError: the certificates or the key can't be used, or the system has no CA certificates. The text says
            which, and quotes nothing.
    """
    return _trusted_tls(ca_pem, identity_pem, *((path, _changed_ns(path)) for path in _system_authorities()))


@lru_cache(maxsize=16)
def _trusted_tls(
    ca_pem: bytes | None, identity_pem: bytes | None, file: tuple[str | None, int], folder: tuple[str | None, int]
) -> TrustedTls:
    """`file` and `folder` come with the time of their last change, so that they are read again then."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    # whatever is trusted may end a chain, also an intermediate authority
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    if ca_pem is not None:
        _trust(context, ca_pem)
    unread_file = _trust_system(context, file[0], folder[0])
    if identity_pem is not None:
        _identify(context, identity_pem)
    return TrustedTls(context, unread_file)


def _changed_ns(path: str | None) -> int:
    try:
        return Path(path).stat().st_mtime_ns if path is not None else 0
    except OSError:
        return 0


def _system_authorities() -> tuple[str | None, str | None]:
    """A file and a folder with the system's certificate authorities; None: there is none."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file is None and folder is None:
        default = ssl.get_default_verify_paths()
        usual = (each for each in _USUAL_FILES if Path(each).is_file())
        return default.cafile or next(usual, None), default.capath
    return file, folder


def _trust_system(context: ssl.SSLContext, file: str | None, folder: str | None) -> str | None:
    """Trusts the system's authorities; returns the file if it need not be read yet."""
    if folder is not None and _has_hashed_names(Path(folder)):
        context.load_verify_locations(capath=folder)
        return file
    if file is None or not _trust_file(context, file):
        raise ValueError(NO_AUTHORITIES)
    return None


def _has_hashed_names(folder: Path) -> bool:
    return folder.is_dir() and any(_HASHED_NAME.fullmatch(each.name) for each in folder.iterdir())


def _trust_file(context: ssl.SSLContext, file: str) -> bool:
    """Whether the file holds certificates."""
    try:
        context.load_verify_locations(cafile=file)
    except OSError:  # an SSLError too
        return False
    return True


def _trust(context: ssl.SSLContext, ca_pem: bytes) -> None:
    found = _CERTIFICATE.findall(ca_pem)
    if b"-----BEGIN CERTIFICATE-----" not in ca_pem:
        raise ValueError(NO_CERTIFICATE)
    try:
        context.load_verify_locations(cadata=b"\n".join(found).decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise ValueError(UNUSABLE_AUTHORITIES) from None


def _identify(context: ssl.SSLContext, identity_pem: bytes) -> None:
    try:
        with _as_file(identity_pem) as path:
            # an encrypted key would make OpenSSL ask for its password on the terminal
            context.load_cert_chain(path, password=lambda: "")
    except ssl.SSLError as error:
        mixed = error.reason == "KEY_VALUES_MISMATCH"
        raise ValueError(MIXED_IDENTITY if mixed else UNREADABLE_IDENTITY) from None


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path that holds these bytes, for OpenSSL, which takes no others. In memory, where the system can do that."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        with os.fdopen(os.memfd_create("identity"), "wb") as memory:
            memory.write(content)
            memory.flush()
            yield f"/proc/self/fd/{memory.fileno()}"
    else:
        import tempfile

        with tempfile.NamedTemporaryFile() as file:  # only its owner may read it
            file.write(content)
            file.flush()
            yield file.name
