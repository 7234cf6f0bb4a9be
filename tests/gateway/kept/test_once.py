"""What an Idempotency-Key promises: nothing runs twice under it, and what was answered is answered again."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import Code, GatewayError
from gateway.kept.answer import MOST_BYTES, Answer
from gateway.kept.once import Claim, Once, Why
from gateway.kept.sweep import Sweep
from gateway.stores.blobs import FileBlobs
from gateway.stores.sqlite import SqliteTable
from tenants.errors import Conflict
from tenants.ports import Row
from tests.gateway.kept.once_world import ASKED, DAY_US, OTHER, TENANT, LateTable, OnceWorld
from tests.worlds.blobs import Fault as BlobFault
from tests.worlds.table import Fault, Pause

ANSWER = Answer(200, ((b"content-type", b"application/json"),), b'{"outputs":[]}')


@pytest.fixture
def world() -> OnceWorld:
    return OnceWorld()


async def claimed(once: Once, request: str = "r1", asked: bytes = ASKED, seconds: float = 60.0) -> Claim:
    found = await once.claim(TENANT, "key", asked, request, seconds)
    assert isinstance(found, Claim)
    return found


async def refused(
    once: Once, request: str = "r2", asked: bytes = ASKED, tenant: str = TENANT
) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await once.claim(tenant, "key", asked, request, 60.0)
    return caught.value


async def test_what_was_answered_is_answered_again_in_every_process_for_a_day(world: OnceWorld) -> None:
    first = world.process()
    await first.keep(await claimed(first), ANSWER)
    for ahead_us in (0, DAY_US - 1):
        assert await world.process(7, ahead_us).claim(TENANT, "key", ASKED, "r2") == ANSWER
    assert first.results == {"claimed": 1}


async def test_another_request_under_the_same_key_is_422_and_never_an_answer(world: OnceWorld) -> None:
    once = world.process()
    claim = await claimed(once)
    assert (await refused(once, asked=OTHER)).code is Code.IDEMPOTENCY_KEY_REUSED
    await once.keep(claim, ANSWER)
    assert (await refused(once, asked=OTHER)).code is Code.IDEMPOTENCY_KEY_REUSED


async def test_a_key_of_one_tenant_is_none_of_another(world: OnceWorld) -> None:
    once = world.process()
    await once.keep(await claimed(once), ANSWER)
    assert isinstance(await once.claim("t_2", "key", ASKED, "r2"), Claim)


async def test_a_call_under_way_is_409_with_when_to_ask_again_and_not_known_when_its_time_is_over(
    world: OnceWorld,
) -> None:
    once = world.process()
    await claimed(once, seconds=60)
    error = await refused(once)
    assert (error.code, error.retry_after_seconds) == (Code.ALREADY_RUN, 1)
    assert "still under way" in error.sentence
    world.now_us += 60_000_000
    error = await refused(once)
    assert (error.code, error.retry_after_seconds) == (Code.ALREADY_RUN, None)
    assert "not known" in error.sentence


@pytest.mark.parametrize(
    ("why", "said"), [("streamed", "streamed"), ("large", "larger than 1 MiB"), ("unknown", "not known")]
)
async def test_a_call_whose_answer_is_not_kept_is_409_with_why(world: OnceWorld, why: Why, said: str) -> None:
    once = world.process()
    await once.lose(await claimed(once), why)
    error = await refused(world.process(2))
    assert (error.code, error.rendering.http) == (Code.ALREADY_RUN, 409)
    assert said in error.sentence


async def test_an_answer_of_1_mib_is_kept_and_one_byte_more_is_not(world: OnceWorld) -> None:
    once = world.process()
    most = Answer(200, (), bytes(MOST_BYTES))
    await once.keep(await claimed(once), most)
    assert await once.claim(TENANT, "key", ASKED, "r2") == most
    more = await once.claim(TENANT, "other key", ASKED, "r3")
    assert isinstance(more, Claim)
    await once.keep(more, Answer(200, (), bytes(MOST_BYTES + 1)))
    with pytest.raises(GatewayError, match="larger than 1 MiB"):
        await once.claim(TENANT, "other key", ASKED, "r4")


async def test_a_call_that_did_not_run_leaves_its_key_to_the_next_one(world: OnceWorld) -> None:
    once = world.process()
    await once.release(await claimed(once))
    again = await claimed(world.process(2), "r2", OTHER)
    assert (await refused(once, "r3")).code is Code.IDEMPOTENCY_KEY_REUSED
    await once.keep(again, ANSWER)
    assert await once.claim(TENANT, "key", OTHER, "r4") == ANSWER


async def test_a_claim_that_was_released_is_not_released_again_from_under_the_next_one(
    world: OnceWorld,
) -> None:
    """Its release was late, or its answer was lost."""
    once = world.process()
    first = await claimed(once)
    await once.release(first)
    await claimed(once, "r2")
    await once.release(first)
    await once.lose(first, "unknown")
    assert "still under way" in (await refused(once, "r3")).sentence


async def test_a_key_is_free_again_after_a_day_and_what_clocks_differ_by(world: OnceWorld) -> None:
    once = world.process()
    await once.keep(await claimed(once), ANSWER)
    world.now_us += DAY_US + 300_000_000 - 1
    assert await once.claim(TENANT, "key", ASKED, "r2") == ANSWER
    world.now_us += 1
    await once.keep(await claimed(once, "r3", OTHER), ANSWER)
    assert (await refused(once, "r4")).code is Code.IDEMPOTENCY_KEY_REUSED


async def test_a_claim_by_a_clock_beyond_midnight_is_seen_on_this_side_and_the_other_way_round(
    world: OnceWorld,
) -> None:
    world.now_us = world.now_us // DAY_US * DAY_US - 1
    behind, ahead = world.process(1), world.process(2, ahead_us=60_000_000)
    await claimed(ahead)
    assert (await refused(behind)).code is Code.ALREADY_RUN
    world.table.rows.clear()
    await claimed(behind)
    assert (await refused(ahead)).code is Code.ALREADY_RUN


@pytest.mark.parametrize("fault", Fault)
async def test_a_lost_answer_to_a_claim_is_not_taken_for_somebody_elses(
    world: OnceWorld, fault: Fault
) -> None:
    once = world.process()
    world.table.write_faults.append(fault)
    await once.keep(await claimed(once), ANSWER)
    assert await once.claim(TENANT, "key", ASKED, "r2") == ANSWER


async def test_a_claim_that_cannot_be_made_is_503_and_is_taken_back(world: OnceWorld) -> None:
    once = world.process()
    world.table.write_faults.extend([Fault.LOST_BEFORE] * 2)
    error = await refused(once, "r1")
    assert (error.code, error.rendering.http) == (Code.IDEMPOTENCY_UNAVAILABLE, 503)
    await world.rest()
    await claimed(once, "r2", OTHER)


@pytest.mark.parametrize("pauses", ["pauses_before", "pauses_after"])
async def test_a_claim_that_nobody_waits_for_any_more_is_taken_back_whether_it_was_made_or_not(
    world: OnceWorld, pauses: str
) -> None:
    once, pause = world.process(), Pause()
    getattr(world.table, pauses).append(pause)
    task = asyncio.ensure_future(once.claim(TENANT, "key", ASKED, "r1"))
    await pause.came.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await world.rest()
    await claimed(once, "r2", OTHER)


async def test_a_write_of_a_claim_that_was_taken_back_does_nothing_when_it_comes_late(
    world: OnceWorld,
) -> None:
    world.table = table = LateTable(most=2)
    once = world.process()
    await refused(once, "r1")
    await world.rest()
    await claimed(once, "r2")
    for write in table.late:
        with pytest.raises(Conflict):
            await table.transact(*write)
    assert "still under way" in (await refused(once, "r3")).sentence


@pytest.mark.parametrize("what", ["table", "blobs", "keys"])
async def test_out_of_reach_is_503_and_nothing_is_claimed_for_good(world: OnceWorld, what: str) -> None:
    once = world.process()
    await once.keep(await claimed(once), ANSWER)
    world.table.gone, world.blobs.is_down = what == "table", what == "blobs"
    world.keyring.unavailable |= {TENANT} if what == "keys" else set()
    error = await refused(once)
    expected = Code.SEALING_UNAVAILABLE if what == "keys" else Code.IDEMPOTENCY_UNAVAILABLE
    assert (error.code, error.rendering.http, error.retry_after_seconds) == (expected, 503, 1)
    assert once.results["unavailable"] == 1


async def test_what_gives_no_answer_is_out_of_reach_in_a_bounded_time(world: OnceWorld) -> None:
    once = world.process(answer_seconds=0.01)
    world.table.pauses_before.extend([Pause(), Pause()])
    assert (await refused(once)).code is Code.IDEMPOTENCY_UNAVAILABLE
    await world.rest()


@pytest.mark.parametrize("fault", BlobFault)
async def test_an_answer_that_cannot_be_stored_is_counted_and_409_with_why(
    world: OnceWorld, fault: BlobFault
) -> None:
    once = world.process()
    claim = await claimed(once)
    world.blobs.faults.append(fault)
    await once.keep(claim, ANSWER)
    await world.rest()
    assert "could not be kept" in (await refused(once)).sentence
    assert once.lost == 1


async def test_what_a_destroyed_data_key_sealed_is_409_for_the_same_and_for_another_request(
    world: OnceWorld,
) -> None:
    once = world.process()
    await once.keep(await claimed(once), ANSWER)
    world.keyring.destroyed.add(world.keyring.made(TENANT, "replies").id)
    world.keyring.number += 1
    for asked in (ASKED, OTHER):
        error = await refused(once, asked=asked)
        assert error.code is Code.ALREADY_RUN
        assert "destroyed with its data key" in error.sentence


async def test_a_rotated_data_key_still_opens_what_it_sealed(world: OnceWorld) -> None:
    once = world.process()
    await once.keep(await claimed(once), ANSWER)
    world.keyring.number += 1
    assert await once.claim(TENANT, "key", ASKED, "r2") == ANSWER


async def test_an_answer_that_was_changed_or_is_anothers_is_not_told(world: OnceWorld) -> None:
    once = world.process()
    await once.keep(await claimed(once), ANSWER)
    other = await once.claim(TENANT, "other key", ASKED, "r5")
    assert isinstance(other, Claim)
    await once.keep(other, Answer(200, (), b"other"))
    mine, its = world.blobs.held
    world.blobs.held[mine] = world.blobs.held[its]
    assert (await refused(once)).code is Code.ALREADY_RUN
    world.blobs.held[its] = world.blobs.held[its][:-1]
    with pytest.raises(GatewayError, match="not known"):
        await once.claim(TENANT, "other key", ASKED, "r6")


async def test_a_row_that_cannot_be_read_is_503(world: OnceWorld) -> None:
    once = world.process()
    at = (await claimed(once)).at
    world.table.rows[at] = Row(at, b'{"v":2}', 1)
    assert (await refused(once)).code is Code.IDEMPOTENCY_UNAVAILABLE


async def test_a_claim_is_swept_when_it_is_void_and_not_before_and_more_than_a_page_of_them(
    world: OnceWorld,
) -> None:
    once, sweep = world.process(), Sweep(world.table, lambda: world.now_us)
    for number in range(40):
        await once.claim(TENANT, f"key {number}", ASKED, f"r{number}")
    world.table.page_rows.extend([1, 0, 2] * 40)
    world.now_us += DAY_US + 300_000_000
    await sweep.look()
    assert len(world.table.rows) == 40
    world.now_us += DAY_US
    await once.claim(TENANT, "key", ASKED, "young")
    for _ in range(40):
        await sweep.look()
    assert sweep.swept == 40
    assert len(world.table.rows) == 1


async def test_neither_keys_nor_requests_nor_replies_are_stored_in_the_clear(tmp_path: Path) -> None:
    world = OnceWorld()
    async with SqliteTable(tmp_path / "once.sqlite") as table, FileBlobs(tmp_path / "blobs") as blobs:
        once = Once(table, blobs, world.keyring, lambda: world.now_us, world.process().entropy, world.spawn)
        claim = await once.claim(TENANT, "planted-key", b"planted-fingerprint-of-32-bytes..", "r1")
        assert isinstance(claim, Claim)
        kept = Answer(200, ((b"planted-name", b"planted-value"),), b"planted-body")
        await once.keep(claim, kept)
        found = await once.claim(TENANT, "planted-key", b"planted-fingerprint-of-32-bytes..", "r2")
        assert found == kept
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".sqlite"}
    assert len(files) >= 2
    assert not [path for path in files if b"planted" in path.read_bytes() or "planted" in path.name]
