"""A request with credentials."""

from monitor.model.http import Request

CANARY = "s3cret-canary"


def get(path="/x", **kwargs):
    headers = {"authorization": f"Bearer {CANARY}", "x-api-key": CANARY}
    return Request(method="GET", path=path, template="/x", headers=headers, **kwargs)
