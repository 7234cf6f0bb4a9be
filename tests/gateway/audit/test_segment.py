import struct
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.audit.record import DenialsBody, ProbeBody, Record, SegmentBody, own_record
from gateway.audit.segment import COMMIT_HEAD_BYTES, MAGIC, Frame, Tail, first_chain, frame, opening, scan
from tests.gateway.audit.support import DEEP, bad_openings, opening_of

NAME = "00000001"


def commits(*sizes: int) -> list[Frame]:
    """A segment of commits with so many records each, the first of them its opening."""
    frames: list[Frame] = []
    chain, number = first_chain(NAME), 0
    for sequence, size in enumerate(sizes):
        made: list[Record] = []
        for _ in range(size):
            body = ProbeBody() if number else SegmentBody()
            made.append(own_record(f"r{number}", "probe" if number else "segment", body, at_us=number))
            number += 1
        frames.append(frame(sequence, made, chain))
        chain = frames[-1].chain
    return frames


SIZES = (2, 1, 3)
FRAMES = commits(*SIZES)
DATA = b"".join(made.data for made in FRAMES)
LAST = len(DATA) - len(FRAMES[-1].data)


@given(st.lists(st.integers(1, 5), max_size=5), st.integers(0, 100))
def test_what_was_framed_is_read_back_and_zeros_behind_it_are_nothing(sizes: list[int], zeros: int) -> None:
    frames = commits(*sizes)
    data = b"".join(made.data for made in frames)
    found = scan(NAME, data + bytes(zeros))
    assert found.tail is Tail.CLEAN
    assert found.fault is None
    assert [len(commit.records) for commit in found.commits] == sizes
    assert [commit.chain for commit in found.commits] == [made.chain for made in frames]
    assert found.end_bytes == len(data)


@pytest.mark.parametrize("zeros", [0, 500])
def test_a_write_torn_at_any_byte_leaves_the_commits_before_it(zeros: int) -> None:
    for written in range(1, len(FRAMES[-1].data)):
        torn = DATA[: LAST + written]
        if zeros and torn == DATA.rstrip(b"\0"):
            continue
        found = scan(NAME, torn + bytes(zeros))
        assert found.tail is Tail.TORN, written
        assert found.end_bytes == LAST
        assert found.fault is not None


def test_a_write_whose_first_bytes_alone_are_missing_is_torn_too() -> None:
    found = scan(NAME, DATA[:LAST] + bytes(60) + DATA[LAST + 60 :])
    assert (found.tail, found.end_bytes) == (Tail.TORN, LAST)


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
@example(0, 1)
def test_no_changed_byte_goes_unseen_and_the_last_commit_alone_can_look_torn(at: int, change: int) -> None:
    changed = DATA[:at] + bytes([DATA[at] ^ change]) + DATA[at + 1 :]
    found = scan(NAME, changed)
    ends = [sum(len(made.data) for made in FRAMES[: n + 1]) for n in range(len(FRAMES))]
    bad = next(n for n, end in enumerate(ends) if at < end)
    assert found.fault is not None
    assert found.fault.commit == bad == len(found.commits)
    assert found.tail is (Tail.TORN if bad == len(FRAMES) - 1 else Tail.DAMAGED)


def test_a_record_that_does_not_chain_is_damage_even_under_a_good_crc() -> None:
    forged = frame(2, [own_record("x", "probe", ProbeBody(), at_us=1)], bytes(32))
    found = scan(NAME, DATA[:LAST] + forged.data)
    assert found.tail is Tail.DAMAGED
    assert found.fault is not None
    assert (found.fault.record, found.fault.record_id) == (0, "x")


def test_a_commit_of_another_segment_is_not_one_of_this() -> None:
    found = scan("00000002", DATA)
    assert found.tail is Tail.DAMAGED
    assert found.commits == ()


def test_the_magic_inside_a_body_is_not_taken_for_a_commit() -> None:
    head = MAGIC.decode() + "0" * (COMMIT_HEAD_BYTES - len(MAGIC))
    body = DenialsBody(reasons={head: 1}, from_us=0, until_us=1)
    last = frame(3, [own_record("x", "denials", body, at_us=1)], FRAMES[-1].chain)
    found = scan(NAME, DATA + last.data[:-1])
    assert (found.tail, found.end_bytes) == (Tail.TORN, len(DATA))


def test_an_opening_is_what_a_whole_first_commit_says() -> None:
    assert opening(NAME, FRAMES[0].data) == SegmentBody()
    assert opening(NAME, FRAMES[0].data[:-1]) is None
    assert opening(NAME, b"") is None
    assert (
        opening(NAME, frame(0, [own_record("x", "probe", ProbeBody(), at_us=1)], first_chain(NAME)).data)
        is None
    )


@bad_openings
def test_an_opening_that_cannot_be_read_says_nothing(body: bytes) -> None:
    assert opening(NAME, frame(0, [opening_of(body)], first_chain(NAME)).data) is None


@pytest.mark.parametrize("field", [b'"model":"\xff"', b'"later":' + DEEP], ids=["no UTF-8", "too deep"])
def test_an_entry_that_cannot_be_read_is_named_under_a_good_crc(field: bytes) -> None:
    good = own_record("x", "probe", ProbeBody(), at_us=1)
    bad = Record(good.entry.replace(b'"x"', b'"x",' + field), good.body)
    found = scan(NAME, DATA[:LAST] + frame(2, [good, bad], FRAMES[1].chain).data)
    assert found.tail is Tail.DAMAGED
    assert found.fault is not None
    assert (found.fault.commit, found.fault.record) == (2, 1)


def test_bytes_behind_the_last_record_are_damage_even_under_a_good_crc() -> None:
    payload = FRAMES[-1].data[COMMIT_HEAD_BYTES:] + b"more"
    covered = struct.pack(">QII", 2, SIZES[-1], len(payload))
    crc = struct.pack(">I", zlib.crc32(covered + payload))
    assert scan(NAME, DATA[:LAST] + MAGIC + covered + crc + payload).tail is Tail.DAMAGED


def test_a_commit_without_records_is_bad() -> None:
    found = scan(NAME, frame(0, [], first_chain(NAME)).data)
    assert found.fault is not None
    assert found.commits == ()
