"""What is over is forgotten in time, and whatever happens meanwhile, the log still proves the rest."""

import logging
from collections.abc import Mapping

import pytest

from gateway.audit.ports import SegmentFailed
from gateway.audit.record import (
    DenialsBody,
    IntentBody,
    Owed,
    Previous,
    ProbeBody,
    Record,
    intent_record,
    own_record,
)
from gateway.audit.recovery import recover
from gateway.audit.retention import SETTLED_US, Retention
from gateway.audit.segment import scan
from gateway.audit.verify import verify
from tests.gateway.audit.support import NOW_US, intend, opened, running
from tests.gateway.audit.test_verify import A, B, end, opening, segment
from tests.worlds.segments import Fault, SegmentWorld

DAY_US = 86_400_000_000
LATER_US = NOW_US + 10 * DAY_US


def intent(number: int, tenant: str, at_us: int = NOW_US) -> Record:
    body = IntentBody(tenant_name="acme", key_name="ci", address="192.0.2.7", action="infer", protocol="oip")
    owed = Owed(request=f"r{number}", tenant=tenant, key="k_a", model="m_a", model_version="1")
    return intent_record(f"i{number}", owed, body, at_us=at_us)


COUNT = own_record("c1", "denials", DenialsBody(reasons={"rate": 1}, from_us=0, until_us=1), at_us=NOW_US)
PROBE = own_record("p1", "probe", ProbeBody(), at_us=NOW_US)
A_BYTES = segment(
    A,
    [opening(1), PROBE],
    [intent(1, "t_short"), intent(2, "t_long"), intent(3, "t_kept"), COUNT],
    [intent(4, "t_short", NOW_US + 5 * DAY_US)],
)
DAYS = {"t_short": 7, "t_long": 30}


def world(*, poisoned: bool = False, behind: bytes = b"") -> SegmentWorld:
    """A is closed, and B, which names it, is not."""
    b = segment(B, [opening(2, end(A, A_BYTES, poisoned=poisoned))], [intent(9, "t_short")])
    return SegmentWorld(
        disk={A: bytearray(A_BYTES + behind), B: bytearray(b)}, locked={B}, segment_bytes=4096
    )


def retention(
    store: SegmentWorld, now_us: int = LATER_US, days: Mapping[str, int] | None = None
) -> Retention:
    async def days_of(tenant: str) -> int | None:
        return (DAYS if days is None else days).get(tenant)

    return Retention(store, days_of, lambda: now_us)


def kept(store: SegmentWorld, name: str = A) -> set[str]:
    """The records of a segment that still have their bodies; and its log is whole."""
    assert verify(store.everything(), unfinished=store.locked).fault is None
    found = scan(name, store.bytes_of(name))
    return {entry.record for commit in found.commits for entry, body in commit.records if body is not None}


EVERYTHING = {"o1", "p1", "i1", "i2", "i3", "c1", "i4"}


async def test_a_body_goes_when_it_is_older_than_the_days_of_its_tenant_and_no_other_goes() -> None:
    it = world()
    one = retention(it)
    await one.look()
    assert kept(it) == EVERYTHING - {"i1"}
    assert (one.segments, one.bodies) == (1, 1)
    later = retention(it, NOW_US + 40 * DAY_US)
    await later.look()
    assert kept(it) == {"o1", "p1", "i3", "c1"}
    assert (later.segments, later.bodies) == (1, 2)
    assert kept(it, B) == {"o2", "i9"}


@pytest.mark.parametrize(
    ("now_us", "is_over"), [(NOW_US + 7 * DAY_US, False), (NOW_US + 7 * DAY_US + 1, True)]
)
async def test_a_body_is_kept_for_its_days_to_the_microsecond(now_us: int, *, is_over: bool) -> None:
    it = world()
    await retention(it, now_us).look()
    assert ("i1" not in kept(it)) is is_over


async def test_a_body_that_reaches_its_days_this_very_microsecond_is_kept_beside_one_that_is_over() -> None:
    it = world()
    await retention(it, NOW_US + 12 * DAY_US).look()
    assert kept(it) == EVERYTHING - {"i1"}  # i4 is of five days later, and seven days old now


async def test_what_is_kept_for_ever_is() -> None:
    it = world()
    await retention(it, NOW_US + 9999 * DAY_US, {}).look()
    assert it.disk[A] == A_BYTES


async def test_a_segment_is_left_while_it_is_owned_or_unnamed_or_named_only_since_just_now() -> None:
    late = NOW_US + 40 * DAY_US
    owned, unnamed, fresh = world(), world(), world()
    owned.locked.add(A)
    del unnamed.disk[B]
    for it in (owned, unnamed):
        await retention(it, late).look()
        assert it.replaced == []
    await retention(fresh, NOW_US + SETTLED_US - 1, {"t_short": -1}).look()
    assert fresh.replaced == []
    await retention(fresh, NOW_US + SETTLED_US, {"t_short": -1}).look()
    assert fresh.replaced == [A]


async def test_a_segment_is_read_again_only_when_something_in_it_is_over() -> None:
    it, now, days = world(), LATER_US, dict(DAYS)

    async def days_of(tenant: str) -> int | None:
        return days.get(tenant)

    one = Retention(it, days_of, lambda: now)
    await one.look()
    await one.look()
    assert it.reads == [A]
    days["t_long"] = 5  # an operator changed it
    await one.look()
    assert it.reads == [A, A]
    now = NOW_US + 13 * DAY_US
    await one.look()
    await one.look()
    assert it.reads == [A, A, A]
    assert kept(it) == {"o1", "p1", "i3", "c1"}


@pytest.mark.parametrize(("most_known", "reads"), [(2, 3), (3, 1)])
async def test_what_is_remembered_of_segments_is_bounded_and_the_rest_is_read_again(
    most_known: int, reads: int
) -> None:
    async def days_of(_: str) -> int | None:
        return None

    it = world()  # A has bodies of three tenants
    one = Retention(it, days_of, lambda: LATER_US, most_known)
    for _ in range(3):
        await one.look()
    assert it.reads == [A] * reads


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.LOST_AFTER])
async def test_a_replacement_that_fails_leaves_the_old_or_the_new_and_the_next_look_does_the_rest(
    fault: Fault,
) -> None:
    it = world()
    it.faults.append(fault)
    one = retention(it)
    with pytest.raises(SegmentFailed):
        await one.look()
    assert kept(it) in (EVERYTHING, EVERYTHING - {"i1"})
    assert (one.segments, one.bodies) == (0, 0)
    await one.look()
    assert kept(it) == EVERYTHING - {"i1"}
    assert it.replaced == [A]


async def test_one_process_forgets_and_the_others_do_nothing() -> None:
    it = world()
    async with it.retention():
        await retention(it).look()
    assert it.replaced == it.reads == []


async def test_a_tenant_that_cannot_be_looked_up_stops_the_look_before_anything_is_changed() -> None:
    it = world()

    async def days_of(tenant: str) -> int | None:
        raise TimeoutError(tenant)

    with pytest.raises(TimeoutError):
        await Retention(it, days_of, lambda: LATER_US).look()
    assert it.disk[A] == A_BYTES


async def test_what_lies_behind_the_end_of_a_poisoned_segment_goes_at_once() -> None:
    lost = intent(7, "t_kept").body
    it = world(poisoned=True, behind=lost)
    one = retention(it, NOW_US + SETTLED_US)
    await one.look()
    assert it.disk[A] == A_BYTES
    assert (one.segments, one.bodies) == (1, 0)
    assert kept(it) == EVERYTHING


OTHER = segment(A, [opening(1), PROBE], [intent(1, "t_short"), intent(2, "t_short")], [intent(4, "t_short")])
DAMAGED = A_BYTES[:-1] + bytes([A_BYTES[-1] ^ 1])


@pytest.mark.parametrize(
    "stored",
    [A_BYTES + b"x", A_BYTES + segment(A, [PROBE]), OTHER, DAMAGED, A_BYTES[: len(A_BYTES) // 2]],
    ids=["more", "a commit more", "as many others", "damaged", "cut"],
)
async def test_a_segment_that_is_not_what_a_later_one_says_stays_as_it_is_and_the_log_says_so_once(
    stored: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    it = world()
    it.disk[A] = bytearray(stored)
    before = bytes(it.disk[A])
    one = retention(it)
    await one.look()
    await one.look()
    assert it.disk[A] == before
    assert [A in record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        True
    ]


async def test_nothing_is_forgotten_of_a_log_whose_segments_name_each_other() -> None:
    it = world()
    it.disk[A] = bytearray(
        segment(A, [opening(1, Previous(segment=B, commits=0, chain=""))], [intent(1, "t_short")])
    )
    await retention(it).look()
    assert it.replaced == []


async def test_a_ledger_goes_on_and_starts_again_over_a_log_with_forgotten_bodies() -> None:
    it = SegmentWorld(segment_bytes=3000)
    async with running(it) as ledger:
        for number in range(12):
            await intend(ledger, f"r{number}").durable()
    before = await recover(it)
    one = retention(it, days={"t_a": 1})
    await one.look()
    assert one.bodies > 0
    assert await recover(it) == before
    async with opened(it):
        pass
    report = verify(it.everything())
    assert (report.fault, report.forgotten) == (None, one.bodies)
