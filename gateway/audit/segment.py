"""How records become commits, and commits a segment; how one is read after anything happened. Pure.

    chain(-1) = SHA-256("gateway audit segment v1" 00 segment id)
    chain(i)  = SHA-256(chain(i-1) entry(i))

    payload = records, each: u32 entry bytes | u32 body bytes | 32-byte chain | entry | body
    commit  = "GWC1" | u64 sequence in it, from 0 | u32 records | u32 payload bytes | u32 crc32 | payload

Integers are big-endian; the crc covers the three integers before it and the payload. Zeros follow the last
commit. Compatibility: this is all of version 1; another layout has another magic.

A commit of which some bodies are forgotten has "GWC2": the same layout, but u32 body bytes of 0xFFFFFFFF say that the body is forgotten,
and none follows; and the crc covers the magic too, first. The entries and the chain are those of the commit as it was written.
"""

import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

import msgspec

from gateway.audit.record import Entry, Record, SegmentBody, digest

MAGIC = b"GWC1"
FORGETFUL = b"GWC2"
_MAGICS = re.compile(b"GWC[12]")
_FORGOTTEN = 0xFFFFFFFF  # in place of a body's length, which a commit has no room for
_COMMIT = struct.Struct(">4sQIII")
_COVERED = struct.Struct(">QII")
_RECORD = struct.Struct(">II32s")
COMMIT_HEAD_BYTES = _COMMIT.size
RECORD_HEAD_BYTES = _RECORD.size


class Frame(NamedTuple):
    data: bytes
    chain: bytes  # after its last record


class StoredRecord(NamedTuple):
    entry: Entry
    body: bytes | None  # None: forgotten

    @property
    def present(self) -> bytes:
        """The body of a record that has it. Raises ValueError for one that is forgotten."""
        if self.body is None:
            raise ValueError("the body is forgotten")
        return self.body


class Commit(NamedTuple):
    sequence: int
    records: tuple[StoredRecord, ...]
    chain: bytes
    end_bytes: int


class Fault(msgspec.Struct, frozen=True):
    """The first thing that is wrong: in which record, or in none when the commit around it is what is bad."""

    segment: str
    commit: int
    record: int | None
    record_id: str | None
    reason: str


class Tail(Enum):
    """What follows the good commits: zeros; a write that never finished; or something that was good once."""

    CLEAN = "clean"
    TORN = "torn"
    DAMAGED = "damaged"


class Scan(NamedTuple):
    commits: tuple[Commit, ...]
    tail: Tail
    fault: Fault | None  # None exactly when the tail is clean

    @property
    def end_bytes(self) -> int:
        return self.commits[-1].end_bytes if self.commits else 0


class _BadRecord(Exception):
    def __init__(self, reason: str, index: int | None, record_id: str | None) -> None:
        super().__init__(reason)
        self.index = index
        self.record_id = record_id


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode_entry = msgspec.json.Decoder(Entry).decode
_decode_segment = msgspec.json.Decoder(SegmentBody).decode


def first_chain(segment_id: str) -> bytes:
    return hashlib.sha256(b"gateway audit segment v1\0" + segment_id.encode()).digest()


def frame(sequence: int, records: Sequence[Record], chain: bytes) -> Frame:
    """One commit. `chain` is the value after the segment's last record so far."""
    parts: list[bytes] = []
    for record in records:
        entry, body = record.entry, record.body
        chain = hashlib.sha256(chain + entry).digest()
        parts += (_RECORD.pack(len(entry), len(body), chain), entry, body)
    return Frame(_commit(MAGIC, sequence, len(records), b"".join(parts)), chain)


def forgotten(segment_id: str, data: bytes, is_over: Callable[[Entry], bool]) -> bytes | None:
    """The segment without the bodies that are over, or None when none is. All of `data` must be good commits: ValueError else. The first
    record of a segment and probes keep theirs.
    """
    parts: list[bytes] = []
    start, is_changed = 0, False
    for commit in walk(segment_id, data):
        if isinstance(commit, Fault):
            why = f"commit {commit.commit} of segment {segment_id}: {commit.reason}"
            raise ValueError(why)  # noqa: TRY004 - the bytes are bad, no type is
        whole = data[start : commit.end_bytes]
        start = commit.end_bytes
        over = {
            index
            for index, (entry, body) in enumerate(commit.records)
            if body and not is_needed(entry) and is_over(entry)
        }
        parts.append(_without(whole, over) if over else whole)
        is_changed = is_changed or bool(over)
    return b"".join(parts) if is_changed else None


def is_needed(entry: Entry) -> bool:
    """Whether its body may not be forgotten: recovery reads what segments say of each other."""
    return entry.kind in ("segment", "probe")


def opening(segment_id: str, data: bytes) -> SegmentBody | None:
    """What the first record of a segment says; None while its first commit is absent, incomplete or unreadable."""
    commit = _read(data, 0, 0, first_chain(segment_id), segment_id)
    if isinstance(commit, Fault):
        return None
    entry, body = commit.records[0]
    if entry.kind != "segment" or body is None:
        return None
    try:
        return _decode_segment(body)
    except _UNREADABLE:
        return None


def opened_us(segment_id: str, data: bytes) -> int | None:
    """When a segment got its first commit; None where `opening` says so."""
    commit = _read(data, 0, 0, first_chain(segment_id), segment_id)
    return None if isinstance(commit, Fault) else commit.records[0].entry.at_us


def scan(segment_id: str, data: bytes) -> Scan:
    """Every good commit from the start, checked by crc, chain and body digest, and what follows them."""
    commits: list[Commit] = []
    for found in walk(segment_id, data):
        if isinstance(found, Fault):
            end = commits[-1].end_bytes if commits else 0
            return Scan(tuple(commits), _tail(data, end, len(commits)), found)
        commits.append(found)
    return Scan(tuple(commits), Tail.CLEAN, None)


class Behind(NamedTuple):
    """A place in a segment: so many commits are before it, and the chain after the last of them."""

    commits: int
    chain: bytes


def walk(segment_id: str, data: bytes, behind: Behind | None = None) -> Iterator[Commit | Fault]:
    """The same one by one, and behind them the fault if there is one. Who needs no more than one at a time has no more in memory: to
    free all of a segment at once takes hundreds of milliseconds, in which no other thread runs. `behind`: where `data` begins, if not at
    the segment's start; `end_bytes` are counted from there.
    """
    number, chain = behind or Behind(0, first_chain(segment_id))
    offset = 0
    while not _is_rest(data, offset):
        found = _read(data, offset, number, chain, segment_id)
        yield found
        if isinstance(found, Fault):
            return
        offset, chain, number = found.end_bytes, found.chain, number + 1


def _is_rest(data: bytes, offset: int) -> bool:
    return not data.startswith((MAGIC, FORGETFUL), offset) and data.count(0, offset) == len(data) - offset


def _tail(data: bytes, offset: int, sequence: int) -> Tail:
    """Torn only if nothing from the offset on was ever committed: a good crc over bad records is damage."""
    while magic := _MAGICS.search(data, offset):
        found = _head(data, magic.start())
        if found is not None and found >= sequence:
            return Tail.DAMAGED
        offset = magic.start() + 1
    return Tail.TORN


def _head(data: bytes, offset: int) -> int | None:
    """The sequence of the commit at the offset, if all of it is there and its crc is right."""
    if len(data) - offset < COMMIT_HEAD_BYTES:
        return None
    magic, sequence, count, length, crc = _COMMIT.unpack_from(data, offset)
    start = offset + COMMIT_HEAD_BYTES
    if not _MAGICS.fullmatch(magic) or len(data) - start < length:
        return None
    found = _crc(magic, sequence, count, memoryview(data)[start : start + length])
    return int(sequence) if found == crc else None


def _commit(magic: bytes, sequence: int, count: int, payload: bytes) -> bytes:
    crc = _crc(magic, sequence, count, payload)
    return _COMMIT.pack(magic, sequence, count, len(payload), crc) + payload


def _crc(magic: bytes, sequence: int, count: int, payload: bytes | memoryview) -> int:
    covered = zlib.crc32(magic) if magic == FORGETFUL else 0
    return zlib.crc32(payload, zlib.crc32(_COVERED.pack(sequence, count, len(payload)), covered))


def _read(data: bytes, offset: int, sequence: int, chain: bytes, segment_id: str) -> Commit | Fault:
    """The commit at the offset, or the first thing that is wrong with it: a record if one can be named."""
    if len(data) - offset < COMMIT_HEAD_BYTES:
        return Fault(segment_id, sequence, None, None, "the commit is cut short")
    magic, _, count, length, _ = _COMMIT.unpack_from(data, offset)
    start = offset + COMMIT_HEAD_BYTES
    if not count:
        return Fault(segment_id, sequence, None, None, "the commit holds no record")
    try:
        records, chain = _records(magic, data[start : start + length], count, chain)
    except _BadRecord as bad:
        return Fault(segment_id, sequence, bad.index, bad.record_id, str(bad))
    if _head(data, offset) != sequence:
        return Fault(segment_id, sequence, None, None, "the head of the commit is bad")
    return Commit(sequence, records, chain, start + length)


class _Records(NamedTuple):
    records: tuple[StoredRecord, ...]
    chain: bytes


class _Raw(NamedTuple):
    entry: bytes
    body: bytes | None
    chain: bytes


def _records(magic: bytes, payload: bytes, count: int, chain: bytes) -> _Records:
    records: list[StoredRecord] = []
    for index, (entry, body, stored_chain) in enumerate(_raw(magic, payload, count)):
        records.append(_checked(entry, body, index))
        chain = hashlib.sha256(chain + entry).digest()
        if chain != stored_chain:
            raise _BadRecord("the chain is broken", index, records[-1].entry.record)
    return _Records(tuple(records), chain)


def _raw(magic: bytes, payload: bytes, count: int) -> Iterator[_Raw]:
    offset = 0
    for index in range(count):
        if len(payload) - offset < RECORD_HEAD_BYTES:
            raise _BadRecord("the record is cut short", index, None)
        entry_bytes, body_bytes, chain = _RECORD.unpack_from(payload, offset)
        body_start = offset + RECORD_HEAD_BYTES + entry_bytes
        entry = payload[offset + RECORD_HEAD_BYTES : body_start]
        if magic == FORGETFUL and body_bytes == _FORGOTTEN:
            offset = body_start
            yield _Raw(entry, None, chain)
        else:
            offset = body_start + body_bytes
            yield _Raw(entry, payload[body_start:offset], chain)
    if offset != len(payload):
        raise _BadRecord("the records do not fill the commit", None, None)


def _without(commit: bytes, over: set[int]) -> bytes:
    """A good commit, without the bodies of some of its records."""
    magic, sequence, count, _, _ = _COMMIT.unpack_from(commit)
    parts: list[bytes] = []
    for index, (entry, body, chain) in enumerate(_raw(magic, commit[COMMIT_HEAD_BYTES:], count)):
        if body is None or index in over:
            parts += (_RECORD.pack(len(entry), _FORGOTTEN, chain), entry)
        else:
            parts += (_RECORD.pack(len(entry), len(body), chain), entry, body)
    return _commit(FORGETFUL, sequence, count, b"".join(parts))


def _checked(entry: bytes, body: bytes | None, index: int) -> StoredRecord:
    try:
        decoded = _decode_entry(entry)
    except _UNREADABLE as error:
        raise _BadRecord(f"not an entry of version 1: {error}", index, None) from error
    if body is None:
        if is_needed(decoded):
            raise _BadRecord("a body that may not be forgotten is", index, decoded.record)
    elif digest(body) != decoded.body_sha256:
        raise _BadRecord("the body is not the one the entry names", index, decoded.record)
    return StoredRecord(decoded, body)
