"""The simulated data engine: credentials, items, and what each call is answered.

It speaks no HTTP and reads no clock: every call takes `now_s`, in seconds on any steady clock.
"""

import hashlib
import math
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from monitor.sandbox import bodies
from monitor.sandbox.bodies import Body
from monitor.sandbox.item import Item
from monitor.sandbox.settings import SandboxSettings

__all__ = ["Answer", "Engine"]

SCOPE = "api/access"
MOST_IDS = 1000

Answer = tuple[int, Body | Sequence[Body]]
"""A status and a JSON body."""


@dataclass(slots=True, kw_only=True)
class _Token:
    subject: str
    expires_s: float


@dataclass(slots=True, kw_only=True)
class Engine:
    """The state of the simulated engine, and its answers."""

    settings: SandboxSettings
    epoch: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    """The moment (aware) at which the clock that `now_s` is read from stood at zero."""
    items: dict[str, Item] = field(default_factory=dict)
    """By id, in lower case."""
    _digests: dict[bytes, str] = field(default_factory=dict)
    _tokens: dict[str, _Token] = field(default_factory=dict)
    _revoked: set[str] = field(default_factory=set)

    def token(self, credentials: tuple[str, str] | None, form: Mapping[str, str], now_s: float) -> Answer:
        """Answers the token endpoint: OAuth2 client credentials with HTTP Basic (RFC 6749, 4.4, 5.1, 5.2)."""
        settings = self.settings
        if credentials != (settings.client_id, settings.client_secret) or settings.client_id in self._revoked:
            return 401, bodies.INVALID_CLIENT
        if not form.get("grant_type"):
            return 400, bodies.MISSING_GRANT
        if form["grant_type"] != "client_credentials":
            return 400, bodies.UNSUPPORTED_GRANT
        if form.get("scope", SCOPE) not in {SCOPE, ""}:
            return 400, bodies.INVALID_SCOPE
        token = secrets.token_urlsafe(24)
        self._tokens[token] = _Token(subject=settings.client_id, expires_s=now_s + settings.token_seconds)
        life = int(settings.token_seconds)
        return 200, {"access_token": token, "expires_in": life, "token_type": "Bearer", "scope": SCOPE}

    def refusal(self, authorization: str | None, now_s: float) -> Answer | None:
        """Why a call with this `Authorization` header is refused, or None when it is let in.

        A rejected or malformed token answers 403, an expired one and one of a revoked client 401, as Gloo's do.
        """
        if not authorization:
            return 401, bodies.MISSING_AUTHORIZATION
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return 403, bodies.FORBIDDEN
        if value == self.settings.api_key:
            return (403, bodies.FORBIDDEN) if value in self._revoked else None
        token = self._tokens.get(value)
        if token is None:
            return 403, bodies.FORBIDDEN
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
        row, since_s = self._row(found, now_s)
        updated_at = (self.epoch + timedelta(seconds=since_s)).isoformat(timespec="milliseconds")
        etag = hashlib.sha256(f"{row} {since_s}".encode()).hexdigest()[:16]
        more: Body = {"author": [], "item_tags": [], "etag": etag, "updated_at": updated_at.replace("+00:00", "Z")}
        return 200, {**row, **more}

    def listing(self, publisher_id: str, now_s: float) -> Answer:
        """Answers the question for all items of a publisher: a bare array."""
        if publisher_id != self.settings.publisher_id:
            return self._closed(publisher_id, bodies.FORBIDDEN)
        return 200, [self._row(item, now_s)[0] for item in self.items.values() if item.publisher_id == publisher_id]

    def upload(
        self, publisher_id: str | None, files: Sequence[tuple[str, bytes]], *, producer_id: str | None, now_s: float
    ) -> Answer:
        """Answers an upload: new documents start to be processed, known content is a duplicate, never a 409."""
        if not publisher_id or not files:
            given = {"publisher_id": publisher_id, "files": files}
            return 422, bodies.missing_fields([name for name, value in given.items() if not value])
        if publisher_id != self.settings.publisher_id:
            return self._closed(publisher_id, bodies.PUBLISHER_MISMATCH)
        if producer_id is not None and len(files) > 1:
            return 400, bodies.TOO_MANY_FILES
        ingesting, duplicates = [], []
        for filename, content in files:
            digest = hashlib.sha256(content).digest()
            known = self._digests.get(digest)
            if known in self.items:
                duplicates.append(known)
            else:
                (self._digests[digest],) = self.make(1, now_s=now_s, filename=filename)
                ingesting.append(self._digests[digest])
        message = "File processing started in background."
        return 200, {"success": True, "message": message, "ingesting": ingesting, "duplicates": duplicates}

    def delete(self, item_ids: object) -> Answer:
        """Answers a bulk delete of 1 to 1000 ids: all or, when one of them is another publisher's, none."""
        if not isinstance(item_ids, list) or not item_ids:
            return 400, bodies.MISSING_ITEM_IDS
        if len(item_ids) > MOST_IDS:
            return 400, bodies.TOO_MANY_ITEM_IDS
        for position, each in enumerate(item_ids):
            if not isinstance(each, str):
                return 422, bodies.not_text(["item_ids", position], each)
        found = {each: self.items.get(each.lower()) for each in item_ids}
        foreign = [each for each, item in found.items() if item and item.publisher_id != self.settings.publisher_id]
        if foreign:
            return 403, bodies.unauthorized_delete(foreign)
        return 200, _deleted({each: self.items.pop(each.lower(), None) is not None for each in found})

    def make(
        self,
        count: int,
        *,
        now_s: float,
        status: str | None = None,
        filename: str = "made.txt",
        publisher_id: str | None = None,
    ) -> list[str]:
        """Makes items that keep a status, or walk to the end that their filename says (`item.end_of`)."""
        made = [str(uuid.uuid4()) for _ in range(count)]
        for item_id in made:
            self.items[item_id] = Item(
                item_id=item_id,
                publisher_id=publisher_id or self.settings.publisher_id,
                filename=filename,
                created_s=now_s,
                changed_s=now_s,
                status=status,
            )
        return made

    def revoke(self, name: str) -> None:
        """Revokes a client id or an API key until it is restored."""
        self._revoked.add(name)

    def restore(self, name: str) -> None:
        """Undoes a revocation; tokens that were issued before it work again."""
        self._revoked.discard(name)

    def expire_tokens(self) -> None:
        """Makes every issued token expire now."""
        for token in self._tokens.values():
            token.expires_s = -math.inf

    def _closed(self, publisher_id: str, foreign: Body) -> Answer:
        known = publisher_id == self.settings.foreign_publisher_id
        return (403, foreign) if known else (400, bodies.PUBLISHER_NOT_FOUND)

    def _row(self, item: Item, now_s: float) -> tuple[dict[str, object], float]:
        status, since_s = item.standing(now_s, item_seconds=self.settings.item_seconds)
        title = item.filename.rsplit(".", 1)[0]
        return {"item_id": item.item_id, "item_title": title, "filename": item.filename, "status": status}, since_s


def _deleted(successes: Mapping[str, bool]) -> Body:
    total, deleted = len(successes), sum(successes.values())
    return {
        "success": deleted == total,
        "mode": "sync",
        "total_requested": total,
        "total_deleted": deleted,
        "total_failed": total - deleted,
        "results": [{"item_id": item_id, "success": success} for item_id, success in successes.items()],
        "message": f"{deleted} of {total} items deleted",
    }


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
