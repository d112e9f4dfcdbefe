"""What may leave: checks a request before any library sees it, so that both wires refuse the same."""

from monitor.exchange import Request, sendable, sendable_headers

__all__ = ["UNREADABLE_URL", "url_of"]

UNREADABLE_URL = "a request's URL can't be read; check the address in the configuration"
"""Libraries' own words would quote the URL, which may be a secret."""


def url_of(base_url: str, request: Request) -> str:
    """Where a request goes; its headers are looked at, too.

    Raises:
        ValueError: the path could lead elsewhere than it says, an absolute URL holds control characters, or a header's
            value is not one line of ASCII.
    """
    if not sendable_headers(request.headers):
        raise ValueError("a request's header values must each be one line of printable ASCII")
    if request.path.startswith(("https://", "http://")):  # whoever gives a whole URL vouches for it
        if not request.path.isprintable():
            raise ValueError(UNREADABLE_URL)
        return request.path
    if not sendable(request.path):
        raise ValueError("a request's path must be escaped, free of dot segments and below 8 KiB")
    return base_url + request.path
