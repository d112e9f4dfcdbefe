"""The simulated data engine: credentials, items that walk through their stages, and what each call is answered.

It speaks no HTTP and reads no clock: every call takes `now_s`, in seconds on any steady clock.
"""

import hashlib
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from monitor.sandbox import bodies
from monitor.sandbox.bodies import Body

__all__ = ["STAGES", "Answer", "Engine", "Item", "SandboxSettings"]

STAGES = (
    "STARTED", "QUEUED", "FETCHING", "NORMALIZING", "CHUNKING", "EMBEDDING", "SYNCED", "ENRICHED", "COMPLETED",
)  # fmt: skip
"""What a document walks through, in equal steps; TRANSCRIBING is for sound and occurs only when set."""

STUCK_AT = "CHUNKING"
MOST_IDS = 1000

Answer = tuple[int, Body | Sequence[Body]]
"""A status and a JSON body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """How the sandbox behaves. Its credentials are no secret: they open nothing but the sandbox."""

    host: str = "127.0.0.1"
    port: int = 0
    client_id: str = "sandbox-client"
    client_secret: str = "sandbox-secret"  # noqa: S105  # opens nothing but the sandbox
    api_key: str = "sandbox-key"
    publisher_id: str = "11111111-1111-4111-8111-111111111111"
    token_seconds: float = 3600.0
    """How long a token lives; it really expires."""
    item_seconds: float = 6.0
    """How long an item takes through all its stages."""


@dataclass(slots=True, kw_only=True)
class Item:
    """One document in the engine."""

    item_id: str
    publisher_id: str
    filename: str
    created_s: float
    status: str | None = None
    """A status that it keeps; None while it walks through the stages."""
    ends: str = "COMPLETED"
    """What it walks to: COMPLETED, FAILED, or a stage where it gets stuck."""


@dataclass(slots=True, kw_only=True)
class _Token:
    subject: str
    expires_s: float


@dataclass(slots=True, kw_only=True)
class Engine:
    """The state of the simulated engine, and its answers."""

    settings: SandboxSettings
    items: dict[str, Item] = field(default_factory=dict)
    _digests: dict[bytes, str] = field(default_factory=dict)
    _tokens: dict[str, _Token] = field(default_factory=dict)
    _revoked: set[str] = field(default_factory=set)

    def token(self, credentials: tuple[str, str] | None, form: Mapping[str, str], now_s: float) -> Answer:
        """Answers the token endpoint: OAuth2 client credentials with HTTP Basic (RFC 6749, 4.4)."""
        settings = self.settings
        if credentials != (settings.client_id, settings.client_secret) or settings.client_id in self._revoked:
            return 401, bodies.INVALID_CLIENT
        if form.get("grant_type") != "client_credentials":
            return 400, bodies.UNSUPPORTED_GRANT
        token = secrets.token_urlsafe(24)
        self._tokens[token] = _Token(subject=settings.client_id, expires_s=now_s + settings.token_seconds)
        scope = form.get("scope", "api/access")
        life: Body = {"expires_in": int(settings.token_seconds), "token_type": "Bearer", "scope": scope}
        return 200, {"access_token": token, **life}

    def refusal(self, authorization: str | None, now_s: float) -> Answer | None:
        """Why a call with this `Authorization` header is refused, or None when it is let in.

        A rejected or malformed token answers 403, an expired one and one of a revoked client 401, as Gloo's do.
        """
        if not authorization:
            return 401, bodies.MISSING_AUTHORIZATION
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return 403, bodies.BAD_TOKEN
        if value == self.settings.api_key:
            return (403, bodies.BAD_TOKEN) if value in self._revoked else None
        token = self._tokens.get(value)
        if token is None:
            return 403, bodies.BAD_TOKEN
        if token.expires_s <= now_s or token.subject in self._revoked:
            return 401, bodies.EXPIRED_TOKEN
        return None

    def item(self, item_id: str, now_s: float) -> Answer:
        """Answers the question for one item."""
        found = self.items.get(item_id.lower())
        if found is None:
            return (404, bodies.ITEM_NOT_FOUND) if _is_uuid(item_id) else (400, bodies.MALFORMED_ID)
        if found.publisher_id != self.settings.publisher_id:
            return 403, bodies.ITEM_MISMATCH
        return 200, self._view(found, now_s) | {"author": [], "item_tags": [], "updated_at": _moment(found, now_s)}

    def listing(self, publisher_id: str, now_s: float) -> Answer:
        """Answers the question for all items of a publisher: a bare array."""
        if publisher_id != self.settings.publisher_id:
            return 400, bodies.PUBLISHER_NOT_FOUND
        return 200, [self._view(item, now_s) for item in self.items.values() if item.publisher_id == publisher_id]

    def upload(
        self, publisher_id: str | None, files: Sequence[tuple[str, bytes]], *, producer_id: str | None, now_s: float
    ) -> Answer:
        """Answers an upload: new documents start to be processed, known content is a duplicate, never a 409."""
        if publisher_id is None or not files:
            return 422, bodies.missing_field("files" if publisher_id else "publisher_id")
        if publisher_id != self.settings.publisher_id:
            return 403, bodies.PUBLISHER_MISMATCH
        if producer_id is not None and len(files) > 1:
            return 400, bodies.TOO_MANY_FILES
        ingesting, duplicates = [], []
        for filename, content in files:
            digest = hashlib.sha256(content).digest()
            known = self._digests.get(digest)
            if known in self.items:
                duplicates.append(known)
            else:
                self._digests[digest] = self.add(filename, now_s=now_s)
                ingesting.append(self._digests[digest])
        message = "File processing started in background."
        return 200, {"success": True, "message": message, "ingesting": ingesting, "duplicates": duplicates}

    def add(self, filename: str, *, now_s: float, status: str | None = None, publisher_id: str | None = None) -> str:
        """Adds one item and gives back its id. A filename with `fail` or `stuck` in it comes to that end."""
        ends = "FAILED" if "fail" in filename else STUCK_AT if "stuck" in filename else "COMPLETED"
        item = Item(
            item_id=str(uuid.uuid4()),
            publisher_id=publisher_id or self.settings.publisher_id,
            filename=filename,
            created_s=now_s,
            status=status,
            ends=ends,
        )
        self.items[item.item_id] = item
        return item.item_id

    def delete(self, item_ids: object) -> Answer:
        """Answers a bulk delete."""
        if not isinstance(item_ids, list) or not item_ids:
            return 400, bodies.MISSING_ITEM_IDS
        if len(item_ids) > MOST_IDS:
            return 400, bodies.TOO_MANY_ITEM_IDS
        results = [
            {"item_id": each, "success": self.items.pop(str(each).lower(), None) is not None} for each in item_ids
        ]
        deleted = sum(result["success"] for result in results)
        return 200, {
            "success": deleted == len(results),
            "mode": "sync",
            "total_requested": len(results),
            "total_deleted": deleted,
            "total_failed": len(results) - deleted,
            "results": results,
            "message": f"{deleted} of {len(results)} items deleted",
        }

    def revoke(self, name: str) -> None:
        """Revokes a client id or an API key until it is restored."""
        self._revoked.add(name)

    def restore(self, name: str) -> None:
        """Undoes a revocation; tokens that were issued before it work again."""
        self._revoked.discard(name)

    def expire_tokens(self) -> None:
        """Makes every issued token expire now."""
        for token in self._tokens.values():
            token.expires_s = float("-inf")

    def status(self, item: Item, now_s: float) -> str:
        """Where an item stands now."""
        if item.status is not None:
            return item.status
        walked = (now_s - item.created_s) / self.settings.item_seconds if self.settings.item_seconds else 1.0
        stage = STAGES[min(int(walked * (len(STAGES) - 1)), len(STAGES) - 1)]
        if item.ends == "FAILED":
            return "FAILED" if stage == "COMPLETED" else stage
        if STAGES.index(stage) >= STAGES.index(item.ends):
            return item.ends
        return stage

    def _view(self, item: Item, now_s: float) -> dict[str, object]:
        return {
            "item_id": item.item_id,
            "item_title": item.filename.rsplit(".", 1)[0],
            "filename": item.filename,
            "status": self.status(item, now_s),
            "etag": hashlib.sha256(item.item_id.encode()).hexdigest()[:16],
        }


def _moment(item: Item, now_s: float) -> str:
    """A made-up but steady time: seconds that the item has been known."""
    seconds = int(now_s - item.created_s)
    return f"2026-01-01T{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}Z"


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
