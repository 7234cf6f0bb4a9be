"""What does the log say of one request? Reads segments one at a time, in which a living process may be writing."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from gateway.audit.record import Previous
from gateway.audit.segment import StoredRecord, Tail, opening, scan
from gateway.envelope.derived import NotOpened
from gateway.envelope.keyring import KeyDestroyed
from gateway.envelope.keys import DataKey
from gateway.envelope.ports import KeyRefused, KeysUnavailable
from gateway.envelope.series import segment_of, series_key

_ORDER: Final = {"intent": 0, "outcome": 1}


class Keys(Protocol):
    """Who has the data keys that bodies were sealed with."""

    async def opening(self, tenant_id: str, key_id: str) -> DataKey:
        """Raises KeysUnavailable, KeyRefused, KeyDestroyed."""


class Found(NamedTuple):
    """A record, and where it is."""

    segment: str
    commit: int
    record: StoredRecord


class Search(NamedTuple):
    """Oldest record first. `damaged`: segments that name the request and cannot be read to their end."""

    found: tuple[Found, ...]
    damaged: tuple[str, ...]


class Body(NamedTuple):
    """What a body says, or in words why nobody hears it. `may_change`: somebody can do something about that."""

    value: Any = None
    why: str = ""
    may_change: bool = False


def of_request(
    segments: Mapping[str, bytes], request: str, told: Callable[[int], None] = lambda _: None
) -> Search:
    """`segments`: id to bytes, each read once, and no two at a time. `told` gets how many were read.

    What lies behind the end of a poisoned segment never happened, and is left out.
    """
    found: list[Found] = []
    damaged: list[str] = []
    ends: dict[str, Previous] = {}
    named = request.encode()
    for number, segment in enumerate(segments, 1):
        data = segments[segment]
        first = opening(segment, data)
        ends |= {previous.segment: previous for previous in (first.previous if first else ())}
        if named in data:
            seen = scan(segment, data)
            found += [
                Found(segment, commit.sequence, record)
                for commit in seen.commits
                for record in commit.records
                if record.entry.request == request
            ]
            damaged += [segment] * (seen.tail is Tail.DAMAGED)
        told(number)
    whole = [it for it in found if it.segment not in ends or it.commit < ends[it.segment].commits]
    whole.sort(key=lambda it: (it.record.entry.at_us, _ORDER.get(it.record.entry.kind, 2)))
    return Search(tuple(whole), tuple(damaged))


async def body_of(record: StoredRecord, keys: Keys) -> Body:
    """Opened, where it is sealed."""
    entry = record.entry
    if record.body is None:
        return Body(why="it was deleted when its time was over")
    if entry.sealed_with is None:
        if not record.body:
            return Body(why="it was never stored: no key was there to seal it")
        return Body(msgspec.json.decode(record.body))
    tenant = entry.tenant or ""
    try:
        key = await keys.opening(tenant, entry.sealed_with)
        opened = series_key(key, tenant, segment_of(record.body)).open(record.body, entry.record)
    except KeyDestroyed as fault:
        return Body(why=f"nobody can open it: {fault}")
    except KeysUnavailable as fault:
        return Body(why=f"no key can be had now: {fault}", may_change=True)
    except KeyRefused as fault:
        return Body(why=f"the KeyService refuses its key: {fault}", may_change=True)
    except NotOpened:
        return Body(
            why=f"the data key {entry.sealed_with} does not open it: it is damaged, or another record's",
            may_change=True,
        )
    return Body(msgspec.json.decode(opened))
