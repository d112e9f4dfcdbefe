"""What of the undelivered messages is sent together, and under which key. Pure.

A parcel is one message to one channel: of one incident, or of several of one cause and kind. Its key is the same on
every attempt, as long as it is not certain that the receiver never took it.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from monitor.incidents.condensing import condense
from monitor.incidents.merging import merge
from monitor.incidents.message import Message, MessageKind
from monitor.model import Cause

__all__ = ["Head", "Packed", "Waiting", "key_of", "pack"]

_MOST = 500
"""Messages in one parcel: a receiver must be able to take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One undelivered notification."""

    id: int
    key: str
    channel: str
    message: Message
    thread: str | None = None
    """What its receiver files it under, as far as that is known."""
    batch: str | None = None
    """The key of the parcel in which it was sent before, perhaps not in vain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A notification that is sent, and those that it tells of too."""

    id: int
    key: str
    message: Message
    """With what was superseded told in it."""
    thread: str | None
    superseded: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """One parcel: at least one head, oldest first."""

    channel: str
    key: str
    thread: str
    heads: tuple[Head, ...]
    message: Message


def pack(chains: Iterable[Sequence[Waiting]], *, threaded: Collection[str]) -> list[Packed]:
    """Packs what can be sent now.

    1. Of each chain, the next message is made of all that it supersedes (`condense`).
    2. What was sent together before, and may have arrived, goes together again under the same key, and nothing else
       with it, unless more is known of one of them by now.
    3. All else is merged by channel, environment, cause and kind; on a channel that files by thread, by that as well.

    Args:
        chains: the undelivered notifications of each incident and channel, oldest first; none is empty.
        threaded: names of the channels that file by thread.

    Returns:
        The parcels, the one with the oldest notification first.
    """
    heads = [(chain[0].channel, _head(chain), _batch(chain)) for chain in chains]
    again: dict[tuple[str, str], list[Head]] = defaultdict(list)
    groups: dict[_Likeness, list[Head]] = defaultdict(list)
    for channel, head, batch in heads:
        if batch is not None and not head.superseded:
            again[channel, batch].append(head)
        else:
            groups[_alike(channel, head, threaded)].append(head)
    parcels = []
    for (channel, batch), members in again.items():
        if key_of(head.key for head in members) == batch:
            parcels.append(_parcel(channel, members))
        else:
            for head in members:
                groups[_alike(channel, head, threaded)].append(head)
    for alike, members in groups.items():
        in_order = sorted(members, key=lambda head: head.id)
        parcels += [_parcel(alike.channel, in_order[at : at + _MOST]) for at in range(0, len(in_order), _MOST)]
    return sorted(parcels, key=lambda parcel: parcel.heads[0].id)


def key_of(keys: Iterable[str]) -> str:
    """The key of a parcel with these notifications: a single one's own, else one that any other set does not have."""
    known = sorted(keys)
    return known[0] if len(known) == 1 else hashlib.sha256("\n".join(known).encode()).hexdigest()[:32]


def _head(chain: Sequence[Waiting]) -> Head:
    told = condense([waiting.message for waiting in chain])
    kept = chain[told.kept]
    thread = next((each.thread for each in reversed(chain[: told.kept + 1]) if each.thread), None)
    superseded = tuple(chain[at].id for at in told.superseded)
    return Head(id=kept.id, key=kept.key, message=told.message, thread=thread, superseded=superseded)


def _batch(chain: Sequence[Waiting]) -> str | None:
    return chain[0].batch


class _Likeness(NamedTuple):
    """What messages have in common that can be merged."""

    channel: str
    environment: str
    cause: Cause
    kind: MessageKind
    thread: str | None


def _alike(channel: str, head: Head, threaded: Collection[str]) -> _Likeness:
    return _Likeness(
        channel=channel,
        environment=head.message.environment,
        cause=head.message.cause,
        kind=head.message.kind,
        thread=head.thread if channel in threaded else None,
    )


def _parcel(channel: str, members: Sequence[Head]) -> Packed:
    heads = sorted(members, key=lambda head: head.id)
    key = key_of(head.key for head in heads)
    filed = tuple(replace(head, thread=head.thread or key) for head in heads)
    thread = filed[0].thread or key
    message = merge([replace(head.message, thread=head.thread) for head in filed])
    if message.kind is MessageKind.OPENED and len(filed) > 1:
        message = replace(message, thread=thread)
    return Packed(channel=channel, key=key, thread=thread, heads=filed, message=message)
