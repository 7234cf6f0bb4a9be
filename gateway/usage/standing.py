"""Which commits of a segment count, and how they are added in portions. Pure.

A commit counts once it can no longer turn out never to have happened: another one stands behind it in its segment, which is written only
when it was durable; or a later segment names the end of its segment, and it comes before that. So the newest commit of a segment that is
being written waits for the next one. What a segment that failed holds beyond its named end never happened, and is at most one commit.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from gateway.audit.record import Entry, OutcomeBody
from gateway.audit.segment import Behind, Commit, Fault, StoredRecord, first_chain, walk
from tenants.ports import MOST_ITEMS
from tenants.usage import UNITS, Call, Ending

MOST_GROUPS: Final = (MOST_ITEMS - 1) // len(UNITS)
"""So many (hour, tenant, key, model) go into one transaction, with where it leads to."""
_HOUR_US: Final = 3_600_000_000
_status = msgspec.json.Decoder(OutcomeBody).decode


class Standing(Struct, frozen=True, tag_field="v", tag=1, omit_defaults=True):
    """Where the folding of a segment stands: all before `commits`, and of that commit the first `records`, are in the sums. The commit
    begins at `offset_bytes`, where the segment was not rewritten since, and `chain` is the one before it, in hex. `done`: there is no more.

    Stored as JSON, version 1; another version is refused: a position that is misread counts twice. Its row is never deleted, as a row
    that comes again has a version that it had before, and somebody who was left behind would write over it.
    """

    commits: int
    records: int
    offset_bytes: int
    chain: str
    done: bool = False

    @property
    def behind(self) -> Behind:
        return Behind(self.commits, bytes.fromhex(self.chain))

    def behind_all(self, commits: Sequence[Commit]) -> "Standing":
        """Behind commits that were read from here, at least one."""
        last = commits[-1]
        return Standing(last.sequence + 1, 0, self.offset_bytes + last.end_bytes, last.chain.hex())


class Portion(NamedTuple):
    """What one transaction adds, and where the segment stands then."""

    calls: tuple[Call, ...]
    standing: Standing


class Found(NamedTuple):
    """Commits behind a standing. `waiting`: the newest one, where it does not count yet. `fault`: what stopped the reading."""

    counted: tuple[Commit, ...]
    waiting: Commit | None
    fault: Fault | None


def start(segment_id: str) -> Standing:
    return Standing(0, 0, 0, first_chain(segment_id).hex())


def found(segment_id: str, data: bytes, standing: Standing, end: int | None) -> Found:
    """What `data`, which begins where the segment stands, has of it. `end`: so many commits a later segment says that it has."""
    commits: list[Commit] = []
    fault = None
    for it in walk(segment_id, data, standing.behind):
        if end is not None and standing.commits + len(commits) >= end:
            break
        if isinstance(it, Fault):
            fault = it
            break
        commits.append(it)
    if end is None and commits:
        return Found(tuple(commits[:-1]), commits[-1], fault)
    return Found(tuple(commits), None, fault)


def portions(
    standing: Standing, commits: Iterable[Commit], most_groups: int = MOST_GROUPS
) -> Iterator[Portion]:
    """All calls of those commits, which follow the standing, in their order: as many in one portion as have no more groups than that."""
    calls: list[Call] = []
    seen: set[tuple[str, str, str, int]] = set()
    start_bytes, at = standing.offset_bytes, standing
    for commit in commits:
        for index, record in enumerate(commit.records):
            if index < at.records and commit.sequence == at.commits:
                continue
            call = call_of(record)
            if call is None:
                continue
            group = (call.tenant, call.key, call.model, call.at_us // _HOUR_US)
            if group not in seen and len(seen) >= most_groups:
                at = Standing(commit.sequence, index, at.offset_bytes, at.chain)
                yield Portion(tuple(calls), at)
                calls, seen = [], set()
            seen.add(group)
            calls.append(call)
        at = Standing(commit.sequence + 1, 0, start_bytes + commit.end_bytes, commit.chain.hex())
    yield Portion(tuple(calls), at)


def calls_of(commits: Sequence[Commit], standing: Standing) -> Iterator[Call]:
    """Those that are not in the sums yet."""
    for portion in portions(standing, commits):
        yield from portion.calls


def call_of(record: StoredRecord) -> Call | None:
    """The usage record of a request is its outcome; of other records there is none."""
    entry = record.entry
    if entry.kind != "outcome":
        return None
    return Call(
        tenant=entry.tenant or "",
        key=entry.key or "",
        model=entry.model or "",
        at_us=entry.at_us,
        ended=entry.status or _said(entry, record.body),
        requests=entry.requests,
        tokens=entry.tokens,
        bytes=entry.bytes,
        compute_us=entry.compute_us or _estimated_us(entry),
    )


def _estimated_us(entry: Entry) -> int:
    """The time on its replica, of a call that is billed: what budgets take for its compute until that is measured."""
    return entry.interval_us[1] - entry.interval_us[0] if entry.interval_us and entry.weight else 0


def _said(entry: Entry, body: bytes | None) -> Ending | None:
    """Of an outcome that an older program wrote: the log's own, of what the dead left, are in the clear."""
    if entry.sealed_with is not None or not body:
        return None
    try:
        return _status(body).status
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
