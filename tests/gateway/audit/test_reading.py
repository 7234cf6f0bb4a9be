"""What an operator reads of one request: all of it and of no other, opened where it can be, and otherwise why not."""

from collections.abc import Iterator, Mapping

import pytest

from gateway.audit.reading import Body, body_of, of_request
from gateway.audit.record import Denial, Outcome
from gateway.audit.segment import StoredRecord
from tests.gateway.audit.support import DONE, NOW_US, denial, intend, opened, records, running, until
from tests.gateway.audit.test_sealing import announced, ledger_over
from tests.worlds.keyring import KeyringWorld
from tests.worlds.segments import Fault, SegmentWorld


class Once(Mapping[str, bytes]):
    """Segments, each of which may be read once."""

    def __init__(self, segments: Mapping[str, bytes]) -> None:
        self._segments = segments
        self.read: list[str] = []

    def __getitem__(self, segment: str) -> bytes:
        assert segment not in self.read
        self.read.append(segment)
        return self._segments[segment]

    def __iter__(self) -> Iterator[str]:
        return iter(self._segments)

    def __len__(self) -> int:
        return len(self._segments)


async def test_all_of_one_request_is_found_across_segments_and_nothing_of_another() -> None:
    world = SegmentWorld()
    for number in range(3):
        async with opened(world) as ledger:
            ledger.deny(
                Denial(request="r2", reason="rate", status=429, address="192.0.2.7", tenant="t_a"),
                now_us=NOW_US,
            )
            ledger.settle(intend(ledger, f"r{number}"), DONE, now_us=NOW_US + number)
    segments, told = Once(world.everything()), list[int]()
    search = of_request(segments, "r2", told.append)
    assert [it.record.entry.kind for it in search.found] == [
        "intent",
        "denial",
        "denial",
        "denial",
        "outcome",
    ]
    assert {it.record.entry.request for it in search.found} == {"r2"}
    assert len({it.segment for it in search.found}) == 3
    assert (told, len(segments.read), search.damaged) == ([1, 2, 3], 3, ())
    assert of_request(world.everything(), "r").found == ()


async def test_what_a_failed_commit_left_behind_the_end_of_its_segment_never_happened() -> None:
    world = SegmentWorld()
    async with running(world) as ledger:
        intent = intend(ledger, "r1")
        await intent.durable()
        world.faults.append(Fault.LOST_AFTER)
        ledger.settle(intent, DONE, now_us=NOW_US)
        await until(lambda: ledger.counters.failures > 0 and ledger.is_open)
    written = [it for it in records(world) if it.entry.request == "r1"]
    found = of_request(world.everything(), "r1").found
    assert [it.entry.kind for it in written] == ["intent", "outcome", "outcome"]
    assert [it.record.entry.kind for it in found] == ["intent", "outcome"]
    assert found[0].segment != found[1].segment


async def test_a_damaged_segment_gives_what_is_good_and_is_named() -> None:
    world = SegmentWorld()
    async with opened(world) as ledger:
        ledger.settle(intend(ledger, "r1"), DONE, now_us=NOW_US)
    async with running(world) as ledger:
        first = intend(ledger, "r2")
        await first.durable()
        ledger.settle(first, DONE, now_us=NOW_US)
        second = intend(ledger, "r3")
        await second.durable()
    (segment,) = [name for name, data in world.everything().items() if b'"r2"' in data]
    data = world.everything()[segment].replace(b'"r2"', b'"r9"', 1)
    damaged = {**world.everything(), segment: data}
    assert of_request(damaged, "r3").damaged == (segment,)
    assert of_request(damaged, "r1").damaged == ()


async def of_tenant(keys: KeyringWorld) -> list[StoredRecord]:
    """An intent, its outcome, and a denial, sealed if there is a key."""
    world = SegmentWorld()
    async with ledger_over(world, keys) as ledger:
        if "t_a" not in keys.unavailable:
            ledger.settle(await announced(ledger, "r1"), Outcome(status="done"), now_us=NOW_US)
        ledger.deny(denial(tenant="t_a"), now_us=NOW_US)
    return [it for it in records(world) if it.entry.tenant]


async def test_a_sealed_body_is_opened_also_when_its_key_was_rotated() -> None:
    keys = KeyringWorld()
    stored = await of_tenant(keys)
    keys.number = 2
    bodies = [await body_of(it, keys) for it in stored]
    assert [it.value["address"] for it in bodies if "address" in it.value] == ["192.0.2.7"] * 2
    assert not any(it.why or it.may_change for it in bodies)


@pytest.mark.parametrize(
    ("what", "word", "may_change"),
    [("destroyed", "destroyed", False), ("unavailable", "no answer", True), ("refused", "disabled", True)],
)
async def test_a_body_whose_key_cannot_be_had_says_why_and_whether_that_can_change(
    what: str, word: str, *, may_change: bool
) -> None:
    keys = KeyringWorld()
    stored = (await of_tenant(keys))[0]
    getattr(keys, what).add("t_a" if what != "destroyed" else stored.entry.sealed_with)
    body = await body_of(stored, keys)
    assert (body.value, body.may_change) == (None, may_change)
    assert word in body.why


async def test_a_body_of_another_record_is_not_opened_as_this_ones() -> None:
    keys = KeyringWorld()
    intent, outcome = (await of_tenant(keys))[:2]
    body = await body_of(StoredRecord(intent.entry, outcome.body), keys)
    assert (body.value, body.may_change) == (None, True)


async def test_a_body_that_was_withheld_says_so_and_one_in_the_clear_is_read() -> None:
    withheld = (await of_tenant(KeyringWorld(unavailable={"t_a"})))[0]
    assert "never stored" in (await body_of(withheld, KeyringWorld())).why
    world = SegmentWorld()
    async with opened(world) as ledger:
        intend(ledger, "r1")
    (clear,) = [it for it in records(world) if it.entry.kind == "intent"]
    assert (await body_of(clear, KeyringWorld())) == Body(
        {
            "tenant_name": "acme",
            "key_name": "ci",
            "address": "192.0.2.7",
            "action": "infer",
            "protocol": "oip",
        }
    )
