"""The OpenAPI description of the API. Pure, but for the routes that FastAPI describes."""

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "What is wrong, as one sentence."}},
}
_ERRORS = {
    "400": "A parameter is wrong.",
    "401": "No token was sent, or a wrong one.",
    "404": "There is no such thing.",
    "503": "The database can't be read now.",
}
_COUNT = {"type": "integer", "minimum": 0}
_OBJECT = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of one route."""

    summary: str
    rows: str | None = None
    """The key of its list of objects, if it has one."""
    counted: bool = False
    """Whether it says how many rows there are (`total`, or `total_at_least`), and how many are in it (`shown`)."""
    found: bool = False
    """Whether what is asked for may not exist."""


def responses(answer: Answer) -> dict[int | str, dict[str, Any]]:
    """What a route may answer."""
    properties: dict[str, Any] = {answer.rows: {"type": "array", "items": _OBJECT}} if answer.rows else {}
    if answer.counted:
        properties |= {"total": _COUNT, "shown": _COUNT}
    schema = {"type": "object", "required": list(properties), "properties": properties}
    failures: dict[int | str, dict[str, Any]] = {
        status: {"description": text, "content": {"application/json": {"schema": _ERROR}}}
        for status, text in _ERRORS.items()
        if status != "404" or answer.found
    }
    # "4XX" keeps FastAPI from describing its own form of an error
    return {
        200: {"description": answer.summary, "content": {"application/json": {"schema": schema}}},
        **failures,
        "4XX": {"description": "The request is refused.", "content": {"application/json": {"schema": _ERROR}}},
    }


def document(app: FastAPI, *, prefix: str, public_url: str | None) -> dict[str, Any]:
    """The description of all routes below `prefix`."""
    found = get_openapi(
        title="Ingestion Monitor",
        version="1",
        description="What the commands print with --json, as of the database. Read-only.",
        routes=[route for route in app.routes if getattr(route, "path", "").startswith(f"{prefix}/")],
        servers=[{"url": public_url or "/"}],
    )
    found["components"] = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
    found["security"] = [{"token": []}, {}]
    return found
