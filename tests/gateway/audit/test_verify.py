"""Whatever is done to a log, verify names the first record that is not as it was written."""

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pytest

from gateway.audit.record import (
    IntentBody,
    Outcome,
    Owed,
    Previous,
    Record,
    SegmentBody,
    intent_record,
    outcome_record,
    own_record,
)
from gateway.audit.segment import COMMIT_HEAD_BYTES, RECORD_HEAD_BYTES, Fault, first_chain, frame, scan
from gateway.audit.verify import verify
from tests.gateway.audit.support import NOW_US, bad_openings, opening_of

A, B, C = "00000001", "00000002", "00000003"
Log = dict[str, bytes]


def opening(number: int, *previous: Previous) -> Record:
    return own_record(f"o{number}", "segment", SegmentBody(previous=previous), at_us=NOW_US)


def intent(number: int, name: str = "") -> Record:
    body = IntentBody(tenant_name="acme", key_name="ci", address="192.0.2.7", action="infer", protocol="oip")
    return intent_record(name or f"i{number}", owed(number), body, at_us=NOW_US)


def outcome(number: int, *, requests: int = 0, name: str = "") -> Record:
    return outcome_record(
        name or f"e{number}", owed(number), Outcome(status="unknown", requests=requests), at_us=0
    )


def owed(number: int) -> Owed:
    return Owed(request=f"r{number}", tenant="t_a", key="k_a", model="m_a", model_version="1")


def segment(name: str, *commits: list[Record]) -> bytes:
    chain, data = first_chain(name), b""
    for sequence, records in enumerate(commits):
        made = frame(sequence, records, chain)
        chain, data = made.chain, data + made.data
    return data


def end(name: str, data: bytes, *, commits: int | None = None, poisoned: bool = False) -> Previous:
    found = scan(name, data).commits[:commits]
    chain = found[-1].chain if found else first_chain(name)
    return Previous(segment=name, commits=len(found), chain=chain.hex(), poisoned=poisoned)


FIRST = [[opening(1)], [intent(1), intent(2), outcome(1, requests=1)], [intent(3)]]
A_BYTES = segment(A, *FIRST)
B_BYTES = segment(B, [opening(2, end(A, A_BYTES)), outcome(2)], [intent(4), outcome(3)])
LOG: Log = {A: A_BYTES, B: B_BYTES}


def fault_of(log: Log) -> Fault:
    fault = verify(log).fault
    assert fault is not None
    return fault


class Place(NamedTuple):
    segment: str
    commit: int
    record: int | None


def where(fault: Fault) -> Place:
    return Place(fault.segment, fault.commit, fault.record)


def test_an_untouched_log_is_clean_and_counted() -> None:
    report = verify(LOG)
    assert report.fault is None
    assert (report.segments, report.records, report.intents, report.outcomes, report.open) == (2, 9, 4, 3, 1)
    assert verify({}).fault is None


@pytest.mark.parametrize("name", [A, B])
def test_every_flipped_byte_is_found_in_its_segment_and_commit(name: str) -> None:
    data = LOG[name]
    ends = [commit.end_bytes for commit in scan(name, data).commits]
    for at in range(len(data)):
        fault = fault_of(LOG | {name: data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :]})
        assert (fault.segment, fault.commit) == (name, next(n for n, end in enumerate(ends) if at < end)), at


def test_a_flip_in_an_entry_a_body_or_a_chain_value_names_its_record() -> None:
    start = len(segment(A, *FIRST[:1])) + COMMIT_HEAD_BYTES
    for index, record in enumerate(FIRST[1]):
        chain = start + 8
        entry = start + RECORD_HEAD_BYTES
        body = entry + len(record.entry)
        for at in (chain, chain + 31, entry + 20, body - 80, body, body + len(record.body) - 1):
            fault = fault_of(LOG | {A: A_BYTES[:at] + bytes([A_BYTES[at] ^ 1]) + A_BYTES[at + 1 :]})
            assert where(fault) == (A, 1, index), at
        start = body + len(record.body)


def test_a_flip_in_the_head_of_a_commit_names_the_commit() -> None:
    start = len(segment(A, *FIRST[:1]))
    for at in (start, start + 5, start + COMMIT_HEAD_BYTES - 1):
        fault = fault_of(LOG | {A: A_BYTES[:at] + bytes([A_BYTES[at] ^ 1]) + A_BYTES[at + 1 :]})
        assert where(fault) == (A, 1, None)


def reframed(change: Callable[[list[bytes]], None]) -> bytes:
    """Segment A with the framed records of its second commit changed, under a right crc, chain values kept."""
    first = segment(A, *FIRST[:1])
    payload = segment(A, *FIRST[:2])[len(first) + COMMIT_HEAD_BYTES :]
    parts: list[bytes] = []
    for record in FIRST[1]:
        size = RECORD_HEAD_BYTES + len(record.entry) + len(record.body)
        parts.append(payload[:size])
        payload = payload[size:]
    change(parts)
    joined = b"".join(parts)
    covered = struct.pack(">QII", 1, len(parts), len(joined))
    head = b"GWC1" + covered + struct.pack(">I", zlib.crc32(covered + joined))
    return first + head + joined + A_BYTES[len(segment(A, *FIRST[:2])) :]


def test_a_dropped_record_is_named_by_the_one_after_it() -> None:
    fault = fault_of(LOG | {A: reframed(lambda parts: parts.__delitem__(0))})
    assert where(fault) == (A, 1, 0)
    assert fault.record_id == "i2"


def test_a_dropped_last_record_of_a_commit_is_named_by_the_next_commit() -> None:
    assert where(fault_of(LOG | {A: reframed(lambda parts: parts.__delitem__(-1))})) == (A, 2, 0)


def test_two_swapped_records_are_named_by_the_first_of_them() -> None:
    fault = fault_of(LOG | {A: reframed(lambda parts: parts.reverse())})
    assert where(fault) == (A, 1, 0)
    assert fault.record_id == "e1"


def test_a_segment_rewritten_with_a_right_chain_is_not_the_one_that_was_named() -> None:
    fault = fault_of(LOG | {A: segment(A, *FIRST[:2], [intent(9)])})
    assert where(fault) == (A, 2, 0)
    assert fault.record_id == "i9"


def test_a_dropped_segment_is_named_by_the_one_that_follows_it() -> None:
    fault = fault_of({B: B_BYTES})
    assert where(fault) == (B, 0, 0)
    assert A in fault.reason


@pytest.mark.parametrize("length", range(0, len(A_BYTES), 7))
def test_a_segment_cut_at_any_length_is_named_at_its_first_missing_commit(length: int) -> None:
    fault = fault_of(LOG | {A: A_BYTES[:length]})
    assert (fault.segment, fault.commit) == (A, len(scan(A, A_BYTES[:length]).commits))


def test_a_commit_added_to_a_closed_segment_is_named() -> None:
    fault = fault_of(LOG | {A: segment(A, *FIRST, [intent(8)])})
    assert where(fault) == (A, 3, 0)


def test_bytes_behind_the_end_of_a_closed_segment_are_named() -> None:
    assert where(fault_of(LOG | {A: A_BYTES + bytes(9) + b"more"})) == (A, 3, None)


def test_segments_that_name_each_other_are_a_fault() -> None:
    first = segment(A, [opening(1, Previous(segment=B, commits=1, chain=""))])
    second = segment(B, [opening(2, end(A, first))])
    assert "each other" in fault_of({A: first, B: second}).reason


def test_a_torn_end_is_a_fault_unless_its_segment_is_unfinished() -> None:
    torn = LOG | {B: B_BYTES[:-1]}
    assert fault_of(torn).segment == B
    assert verify(torn, unfinished=[B]).fault is None
    torn = LOG | {A: A_BYTES[:-1]}
    assert verify(torn, unfinished=[A, B]).fault is not None


def test_what_lies_behind_the_named_end_of_a_poisoned_segment_never_happened() -> None:
    first = A_BYTES[: len(segment(A, *FIRST[:2]))]
    after = segment(B, [opening(2, end(A, first, poisoned=True)), outcome(2), outcome(3)])
    for tail in (b"", A_BYTES[len(first) :], A_BYTES[len(first) : -1], b"\0" * 9):
        report = verify({A: first + tail, B: after})
        assert (report.fault, report.open) == (None, 0)


def test_names_in_an_opening_that_never_happened_do_not_count() -> None:
    void = segment(B, [opening(2, end(A, A_BYTES, commits=1, poisoned=True))])
    fresh = segment(C, [opening(3, end(A, A_BYTES, poisoned=True), end(B, void, commits=0, poisoned=True))])
    report = verify({A: A_BYTES, B: void, C: fresh})
    assert (report.fault, report.intents) == (None, 3)
    assert verify({A: A_BYTES, C: fresh}).fault is None  # it need not even exist


def test_a_segment_named_twice_is_a_fault() -> None:
    again = segment(C, [opening(3, end(A, A_BYTES))])
    assert where(fault_of(LOG | {C: again}))[1:] == (0, 0)


@pytest.mark.parametrize(
    ("commit", "record"),
    [
        ([intent(1), outcome(1), outcome(1, name="again")], 2),
        ([intent(1), intent(1, name="again")], 1),
        ([intent(1), outcome(1), intent(1, name="again")], 2),
        ([outcome(1)], 0),
        ([intent(1), intent(2, name="i1")], 1),
        ([intent(1), opening(7)], 1),
    ],
    ids=["two outcomes", "two intents", "an intent again", "no intent", "an id again", "an opening inside"],
)
def test_a_log_that_no_ledger_writes_is_named_where_it_goes_wrong(commit: list[Record], record: int) -> None:
    assert where(fault_of({A: segment(A, [opening(1)], commit)})) == (A, 1, record)


def test_only_an_unpriced_outcome_behind_a_poisoned_segment_may_lack_its_intent() -> None:
    def following(*, poisoned: bool, requests: int) -> Log:
        return {
            A: A_BYTES,
            B: segment(B, [opening(2, end(A, A_BYTES, poisoned=poisoned)), outcome(9, requests=requests)]),
        }

    assert verify(following(poisoned=True, requests=0)).fault is None
    assert where(fault_of(following(poisoned=True, requests=1))) == (B, 0, 1)
    assert where(fault_of(following(poisoned=False, requests=0))) == (B, 0, 1)
    late = segment(B, [opening(2, end(A, A_BYTES, poisoned=True))], [outcome(9)])
    assert where(fault_of({A: A_BYTES, B: late})) == (B, 1, 0)


def test_a_segment_starts_with_its_opening() -> None:
    assert where(fault_of({A: segment(A, [intent(1)])})) == (A, 0, 0)


@bad_openings
def test_an_opening_that_cannot_be_read_is_named(body: bytes) -> None:
    fault = fault_of(LOG | {C: segment(C, [opening_of(body)])})
    assert (where(fault), fault.record_id) == ((C, 0, 0), "o1")


class Living(Mapping[str, bytes]):
    """A log that grows while it is read: what the first read of a segment gives, and what each later one."""

    def __init__(self, first: Log, later: Log) -> None:
        self._first, self._later = dict(first), later

    def __getitem__(self, name: str) -> bytes:
        return self._first.pop(name, self._later[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._later)

    def __len__(self) -> int:
        return len(self._later)


@pytest.mark.parametrize("written", [0, 20, len(segment(A, *FIRST[:1])) - 1])
def test_a_living_segment_whose_first_commit_comes_between_two_reads_is_empty_still(written: int) -> None:
    log = Living({A: A_BYTES[:written] + bytes(99)}, {A: A_BYTES + bytes(99)})
    report = verify(log, unfinished=[A])
    assert (report.fault, report.segments, report.records) == (None, 1, 0)


def test_a_finished_segment_that_begins_between_two_reads_is_a_fault() -> None:
    fault = verify(Living({A: bytes(99)}, {A: A_BYTES})).fault
    assert fault is not None
    assert where(fault) == (A, 0, 0)


def test_a_living_segment_may_grow_and_be_followed_by_another_between_two_reads() -> None:
    before = {A: A_BYTES[: len(segment(A, *FIRST[:2]))] + bytes(99), B: bytes(99)}
    report = verify(Living(before, LOG), unfinished=LOG)
    assert (report.fault, report.segments, report.intents, report.outcomes) == (None, 2, 3, 1)


@pytest.mark.parametrize(
    "data",
    [segment(A, [intent(1)]), segment(A, [opening_of(b"null")], [intent(1)])],
    ids=["another record", "unreadable"],
)
def test_a_living_segment_without_an_opening_is_a_fault_also_when_it_has_just_begun(data: bytes) -> None:
    assert verify(Living({A: bytes(99)}, {A: data}), unfinished=[A]).fault == fault_of({A: data})


def test_damage_in_a_living_segment_is_named_also_when_it_has_just_begun() -> None:
    damaged = A_BYTES[:-300] + bytes([A_BYTES[-300] ^ 1]) + A_BYTES[-299:]
    damaged += frame(3, [intent(9)], bytes(32)).data
    fault = verify(Living({A: bytes(99)}, {A: damaged}), unfinished=[A]).fault
    assert fault is not None
    assert (fault.segment, fault.commit) == (A, 2)
