"""What the dead left behind: repairs their segments and says whose outcome will never come."""

import logging
from typing import NamedTuple

from gateway.audit.ports import SegmentStore
from gateway.audit.record import Owed, Previous, SegmentBody
from gateway.audit.segment import Scan, Tail, first_chain, opening, scan

_HEAD_BYTES = 65_536
_log = logging.getLogger(__name__)


class Orphan(NamedTuple):
    owed: Owed
    segment: str


class Recovered(NamedTuple):
    """`previous`: segments that none names yet. `orphans`: their open intents. `damaged`: left untouched."""

    previous: tuple[Previous, ...]
    orphans: tuple[Orphan, ...]
    damaged: tuple[str, ...]


async def recover(store: SegmentStore) -> Recovered:
    """Call inside `store.recovery()`, and stay there until a segment that names `previous` is durable."""
    stored = await store.stored()
    named: set[str] = set()
    for segment_id, _ in stored:
        first = await _opening(store, segment_id)
        named.update(p.segment for p in (first.previous if first else ()))
    previous: list[Previous] = []
    damaged: list[str] = []
    orphans: dict[str, Orphan] = {}
    settled: set[str] = set()
    for segment_id, is_locked in stored:
        if is_locked or segment_id in named:
            continue
        data = await store.read(segment_id)
        found = scan(segment_id, data)
        if found.tail is Tail.DAMAGED or _is_forgetful(found):
            damaged.append(segment_id)
            continue
        await store.cut(segment_id, data[: found.end_bytes])
        chain = found.commits[-1].chain if found.commits else first_chain(segment_id)
        torn_bytes = len(data[found.end_bytes :].rstrip(b"\0"))
        if torn_bytes:
            _log.warning(
                "segment %s of a dead process ended in %d torn bytes, now cut", segment_id, torn_bytes
            )
        previous.append(
            Previous(segment=segment_id, commits=len(found.commits), chain=chain.hex(), torn_bytes=torn_bytes)
        )
        first = opening(segment_id, data)
        _collect(segment_id, first, found, orphans, settled)
    open_ = tuple(orphan for request, orphan in orphans.items() if request not in settled)
    return Recovered(tuple(previous), open_, tuple(damaged))


def _is_forgetful(found: Scan) -> bool:
    """Whether it lacks a body: bodies are forgotten only once a later segment names theirs, so that one was lost."""
    return any(body is None for commit in found.commits for _, body in commit.records)


async def _opening(store: SegmentStore, segment_id: str) -> SegmentBody | None:
    return opening(segment_id, await head(store, segment_id))


async def head(store: SegmentStore, segment_id: str) -> bytes:
    """So much of a segment that `opening` can read it."""
    found = await store.read(segment_id, _HEAD_BYTES)
    if len(found) == _HEAD_BYTES and any(found) and opening(segment_id, found) is None:
        return await store.read(segment_id)
    return found


def _collect(
    segment_id: str, first: SegmentBody | None, found: Scan, orphans: dict[str, Orphan], settled: set[str]
) -> None:
    for owed in first.owed if first else ():
        orphans[owed.request] = Orphan(owed, segment_id)
    for commit in found.commits:
        for entry, _ in commit.records:
            if entry.kind == "outcome":
                settled.add(entry.request)
            elif entry.kind == "intent":
                owed = Owed(
                    request=entry.request,
                    tenant=entry.tenant or "",
                    key=entry.key or "",
                    model=entry.model or "",
                    model_version=entry.model_version or "",
                )
                orphans[entry.request] = Orphan(owed, segment_id)
