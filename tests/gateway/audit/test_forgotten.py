"""A body may be forgotten, and the log still proves the rest: nothing else may be, and no byte of what stays may change."""

import zlib
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.recovery import recover
from gateway.audit.segment import COMMIT_HEAD_BYTES, FORGETFUL, MAGIC, Scan, Tail, forgotten, scan
from gateway.audit.verify import verify
from tests.gateway.audit.test_verify import A_BYTES, LOG, A, B, C, end, opening, segment
from tests.worlds.segments import SegmentWorld

NAMED = LOG | {C: segment(C, [opening(3, end(B, LOG[B]))])}
OVER = {"i1", "i3", "e1"}


def without(data: bytes, records: Collection[str] = frozenset(OVER)) -> bytes:
    """Segment A, less some bodies."""
    left = forgotten(A, data, lambda entry: entry.record in records)
    assert left is not None
    return left


FORGETFUL_A = without(A_BYTES)


def bodies(found: Scan) -> dict[str, bytes | None]:
    return {entry.record: body for commit in found.commits for entry, body in commit.records}


@given(st.sets(st.sampled_from(["i1", "i2", "i3", "e1"]), min_size=1))
def test_only_the_bodies_that_are_over_go_and_every_entry_and_chain_stays(over: set[str]) -> None:
    before, after = scan(A, A_BYTES), scan(A, without(A_BYTES, over))
    assert after.tail is Tail.CLEAN
    assert [commit.chain for commit in after.commits] == [commit.chain for commit in before.commits]
    assert bodies(after) == {name: None if name in over else it for name, it in bodies(before).items()}


def test_what_is_forgotten_in_two_steps_is_as_if_it_had_been_in_one() -> None:
    assert without(without(A_BYTES, {"i1"}), {"e1", "i3"}) == FORGETFUL_A
    assert forgotten(A, FORGETFUL_A, lambda entry: entry.record in OVER) is None


def test_commits_of_which_nothing_is_over_stay_byte_for_byte() -> None:
    assert forgotten(A, A_BYTES, lambda entry: False) is None
    assert without(A_BYTES, {"i3"}).startswith(A_BYTES[: scan(A, A_BYTES).commits[1].end_bytes])


def test_a_forgotten_body_is_gone_from_the_bytes() -> None:
    data = segment(A, [opening(1)])
    lost = sum(len(body or b"") for name, body in bodies(scan(A, A_BYTES)).items() if name in OVER)
    assert lost > 0
    assert len(FORGETFUL_A) == len(A_BYTES) - lost
    assert b"192.0.2.7" in A_BYTES
    everything = without(A_BYTES, {"i1", "i2", "i3", "e1"})
    assert b"192.0.2.7" not in everything
    assert everything.startswith(data)


@pytest.mark.parametrize("data", [A_BYTES[:-1], A_BYTES + b"GWC", A_BYTES[:50] + b"x" + A_BYTES[51:]])
def test_nothing_is_forgotten_of_what_is_not_whole(data: bytes) -> None:
    with pytest.raises(ValueError, match="of segment 00000001"):
        forgotten(A, data, lambda entry: True)


def test_a_log_with_forgotten_bodies_is_whole_and_they_are_counted() -> None:
    before, after = verify(NAMED), verify(NAMED | {A: FORGETFUL_A})
    assert before.fault is after.fault is None
    assert (before.forgotten, after.forgotten) == (0, len(OVER))
    assert (after.records, after.intents, after.outcomes, after.open) == (
        before.records,
        before.intents,
        before.outcomes,
        before.open,
    )


@pytest.mark.parametrize("change", [0x01, 0x03, 0x20])
def test_every_flipped_byte_of_what_stays_is_found_in_its_commit(change: int) -> None:
    ends = [commit.end_bytes for commit in scan(A, FORGETFUL_A).commits]
    for at in range(len(FORGETFUL_A)):
        flipped = FORGETFUL_A[:at] + bytes([FORGETFUL_A[at] ^ change]) + FORGETFUL_A[at + 1 :]
        fault = verify(NAMED | {A: flipped}).fault
        assert fault is not None
        assert (fault.segment, fault.commit) == (A, next(n for n, it in enumerate(ends) if at < it)), at


def test_a_whole_commit_cannot_pass_for_one_with_forgotten_bodies() -> None:
    fault = verify(NAMED | {A: A_BYTES.replace(MAGIC, FORGETFUL)}).fault
    assert fault is not None
    assert (fault.segment, fault.commit, fault.record) == (A, 0, None)


def test_a_forgetful_commit_that_is_cut_is_torn_and_one_that_follows_a_bad_one_shows_the_damage() -> None:
    assert scan(A, FORGETFUL_A[:-1]).tail is Tail.TORN
    first = scan(A, FORGETFUL_A).commits[0].end_bytes
    assert scan(A, FORGETFUL_A[:first] + bytes(8) + FORGETFUL_A[first + 8 :]).tail is Tail.DAMAGED


def test_a_body_that_is_forgotten_before_a_later_segment_names_its_own_is_a_fault() -> None:
    fault = verify({A: FORGETFUL_A}).fault
    assert fault is not None
    assert (fault.segment, fault.commit, fault.record_id) == (A, 1, "i1")
    assert "no later one names" in fault.reason


def test_what_recovery_needs_is_never_forgotten_and_a_segment_that_lacks_it_is_bad() -> None:
    whole = segment(A, [opening(1)])
    assert forgotten(A, whole, lambda entry: True) is None
    (body,) = bodies(scan(A, whole)).values()
    assert body is not None
    payload = bytearray(whole[COMMIT_HEAD_BYTES : -len(body)])
    payload[4:8] = b"\xff" * 4  # the body's length: forgotten
    covered = whole[4:16] + len(payload).to_bytes(4)
    crc = zlib.crc32(FORGETFUL + covered + payload).to_bytes(4)
    fault = verify({A: FORGETFUL + covered + crc + payload}).fault
    assert fault is not None
    assert (fault.record_id, fault.reason) == ("o1", "a body that may not be forgotten is")


async def test_recovery_leaves_a_segment_as_it_is_that_lost_bodies_while_none_names_it() -> None:
    world = SegmentWorld(disk={A: bytearray(FORGETFUL_A)})
    recovered = await recover(world)
    assert recovered.damaged == (A,)
    assert (recovered.previous, recovered.orphans) == ((), ())
    assert world.disk[A] == FORGETFUL_A


async def test_recovery_reads_past_forgotten_bodies_in_what_a_later_segment_names() -> None:
    log = {A: bytearray(A_BYTES), B: bytearray(LOG[B])}
    forgetful = log | {A: bytearray(FORGETFUL_A)}
    assert await recover(SegmentWorld(disk=log)) == await recover(SegmentWorld(disk=forgetful))
