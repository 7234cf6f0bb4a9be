"""What is kept goes when its time is over, not before, and a pass that fails leaves the rest to the next one."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kept.expiry import Expiry, captured, replied
from gateway.kept.ports import BlobsUnavailable
from tests.worlds.blobs import BlobWorld, Fault

NOW = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
OVER = [
    "capture/t_a/20260301/r1",
    "capture/t_a/20260302/r2",
    "capture/t_b/20260308/r4",
    "replies/2026031010/d1",
]
STAYS = [
    "capture/t_a/20260303/r3",
    "capture/t_a/20260310/r5",
    "capture/t_b/20260309/r6",
    "replies/2026031011/d2",
    "replies/2026031012/d3",
]
FOREIGN = [
    "capture/t_a/2026/r1",
    "capture/t_a/20269999/r1",
    "captures/t_a/20200101/r1",
    "replies/2020999900/d",
    "replies/x/d",
]
DAYS = {"t_a": 7, "t_b": 1}


def world() -> BlobWorld:
    return BlobWorld(held=dict.fromkeys((*OVER, *STAYS, *FOREIGN), b"x"))


def expiry(blobs: BlobWorld) -> Expiry:
    async def days_of(tenant: str) -> int:
        return DAYS[tenant]

    return Expiry(blobs, days_of, 1, NOW.timestamp)


async def test_a_pass_reads_the_names_of_many_tenants_a_page_at_a_time_and_not_a_tenant_at_a_time() -> None:
    class Counted(BlobWorld):
        pages = 0

        async def names(self, prefix: str, after: str | None = None, limit: int = 1000) -> Sequence[str]:
            Counted.pages += 1
            return await super().names(prefix, after, limit)

    young = [f"capture/t_{tenant:03d}/20260310/r{number}" for tenant in range(300) for number in range(3)]
    old = [f"capture/t_{tenant:03d}/20260201/r" for tenant in range(0, 300, 7)]
    blobs = Counted(held=dict.fromkeys((*young, *old), b"x"))

    async def days_of(_: str) -> int:
        return 7

    await Expiry(blobs, days_of, 1, NOW.timestamp).look()
    assert set(blobs.held) == set(young)
    assert Counted.pages <= 4


async def test_what_is_over_goes_and_nothing_else() -> None:
    blobs = world()
    one = expiry(blobs)
    await one.look()
    assert set(blobs.held) == {*STAYS, *FOREIGN}
    assert one.expired == len(OVER)
    await one.look()
    assert one.expired == len(OVER)


@given(st.integers(1_600_000_000, 1_900_000_000))
def test_a_day_and_an_hour_are_not_over_while_something_may_still_be_made_in_them(made: int) -> None:
    at = datetime.fromtimestamp(made, UTC)
    capture, ended = captured(f"capture/t_a/{at:%Y%m%d}/r"), replied(f"replies/{at:%Y%m%d%H}/d")
    assert capture is not None
    assert ended is not None
    assert timedelta(0) < capture.ended - at <= timedelta(days=1)
    assert timedelta(0) < ended - at <= timedelta(hours=1)


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("call", range(6))
async def test_a_loss_at_any_call_leaves_the_rest_to_the_next_pass(fault: Fault, call: int) -> None:
    blobs = world()
    blobs.faults.extend([*[None] * call, fault])
    with pytest.raises(BlobsUnavailable):
        await expiry(blobs).look()
    assert {*STAYS, *FOREIGN} <= set(blobs.held)
    await expiry(blobs).look()
    assert set(blobs.held) == {*STAYS, *FOREIGN}


async def test_more_than_a_page_is_over_in_one_pass_and_young_ones_are_not_all_listed() -> None:
    old = [f"capture/t_a/20260101/{number:05d}" for number in range(25_000)]
    young = [f"capture/t_a/20260310/{number:05d}" for number in range(25_000)]
    blobs = BlobWorld(held=dict.fromkeys([*old, *young, "capture/t_b/20260101/r"], b""))
    await expiry(blobs).look()
    assert set(blobs.held) == set(young)
    assert blobs.calls == 25_001 + 6  # four pages of captures, one that is empty, and one of replies
