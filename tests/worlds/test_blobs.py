from collections import deque

import pytest

from gateway.kept.ports import BlobsUnavailable
from tests.contracts.blobs import BlobsContract
from tests.worlds.blobs import BlobWorld, Fault


class TestBlobWorld(BlobsContract):
    @pytest.fixture
    def blobs(self) -> BlobWorld:
        return BlobWorld()


@pytest.mark.parametrize("fault", Fault)
async def test_a_change_that_was_lost_is_there_exactly_when_it_was_lost_after(fault: Fault) -> None:
    world = BlobWorld(faults=deque([fault, None, fault]))
    with pytest.raises(BlobsUnavailable):
        await world.put("a", b"")
    assert (await world.get("a") is not None) is (fault is Fault.LOST_AFTER)
    world.held["a"] = b""
    with pytest.raises(BlobsUnavailable):
        await world.delete("a")
    assert ("a" in world.held) is (fault is Fault.LOST_BEFORE)


async def test_nothing_answers_while_it_is_down() -> None:
    world = BlobWorld(is_down=True)
    for asked in (world.put("a", b""), world.get("a"), world.delete("a"), world.names("")):
        with pytest.raises(BlobsUnavailable):
            await asked
    assert world.held == {}
