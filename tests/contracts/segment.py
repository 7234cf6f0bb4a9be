"""What every adapter of the Segment port must do. A subclass gives it a `store` fixture."""

import pytest

from gateway.audit.ports import SegmentFailed, SegmentStore

FIRST, SECOND = b"first commit", b"second commit"


class SegmentContract:
    async def test_what_was_appended_is_read_back_in_order_before_zeros(self, store: SegmentStore) -> None:
        segment = await store.create("a")
        left = segment.left_bytes
        await segment.append(FIRST)
        await segment.append(SECOND)
        assert (await store.read("a")).rstrip(b"\0") == FIRST + SECOND
        assert await store.read("a", 5) == b"first"
        assert segment.left_bytes == left - len(FIRST + SECOND)

    async def test_a_segment_is_locked_from_its_creation_until_it_is_closed(
        self, store: SegmentStore
    ) -> None:
        first, second = await store.create("b"), await store.create("a")
        assert [tuple(stored) for stored in await store.stored()] == [("a", True), ("b", True)]
        await first.close()
        assert [tuple(stored) for stored in await store.stored()] == [("a", True), ("b", False)]
        await second.close()

    async def test_a_closed_segment_holds_its_commits_only_and_takes_nothing_more(
        self, store: SegmentStore
    ) -> None:
        segment = await store.create("a")
        await segment.append(FIRST)
        await segment.close()
        assert await store.read("a") == FIRST
        with pytest.raises(SegmentFailed):
            await segment.append(SECOND)
        assert await store.read("a") == FIRST

    async def test_nothing_is_written_after_an_append_was_abandoned(self, store: SegmentStore) -> None:
        segment = await store.create("a")
        await segment.append(FIRST)
        segment.append(SECOND).cancel()
        with pytest.raises(SegmentFailed):
            await segment.append(b"third")
        await segment.close()
        assert b"third" not in await store.read("a")

    async def test_an_append_beyond_the_prepared_size_is_as_durable(self, store: SegmentStore) -> None:
        segment = await store.create("a")
        frame = b"x" * (segment.left_bytes + 1)
        await segment.append(frame)
        await segment.close()
        assert await store.read("a") == frame

    async def test_an_id_names_one_segment_for_ever(self, store: SegmentStore) -> None:
        segment = await store.create("a")
        await segment.append(FIRST)
        await segment.close()
        with pytest.raises(SegmentFailed):
            await store.create("a")
        assert await store.read("a") == FIRST

    async def test_only_a_segment_that_nobody_owns_can_be_cut(self, store: SegmentStore) -> None:
        segment = await store.create("a")
        await segment.append(FIRST)
        with pytest.raises(SegmentFailed):
            await store.cut("a", FIRST[:5])
        await segment.close()
        await store.cut("a", FIRST[:5])
        assert await store.read("a") == b"first"

    async def test_a_segment_that_nobody_owns_can_be_replaced_by_a_whole_other_one(
        self, store: SegmentStore
    ) -> None:
        segment = await store.create("a")
        await segment.append(FIRST)
        with pytest.raises(SegmentFailed):
            await store.replace("a", SECOND)
        assert (await store.read("a")).rstrip(b"\0") == FIRST
        await segment.close()
        await store.replace("a", SECOND)
        assert await store.read("a") == SECOND
        assert [tuple(stored) for stored in await store.stored()] == [("a", False)]

    async def test_nothing_comes_of_replacing_a_segment_that_there_is_none_of(
        self, store: SegmentStore
    ) -> None:
        with pytest.raises(SegmentFailed):
            await store.replace("a", FIRST)
        assert await store.stored() == []

    async def test_only_one_at_a_time_is_told_that_it_is_the_one_to_forget(self, store: SegmentStore) -> None:
        async with store.retention() as first:
            async with store.retention() as second:
                assert (first, second) == (True, False)
            async with store.retention() as third:
                assert not third
        async with store.retention() as next_one:
            assert next_one
