"""What every adapter of the Blobs port must do. A subclass gives it a `blobs` fixture, which is empty."""

import asyncio

import pytest

from gateway.kept.ports import Blobs

NAMES = ("a", "a-b", "a.b", "a/b", "a/b/c", "a/b-c", "a0", "b", "b/" + "x" * 198, "B/_", "-", "0/0..")
NO_NAMES = (
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".a",
    "a/.b",
    "..",
    "a/../b",
    "a b",
    "a,b",
    "ä",
    "a\n",
    "a\0",
    "x" * 201,
)


class BlobsContract:
    @pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)) * 5_000])
    async def test_what_was_put_is_got_back_byte_for_byte(self, blobs: Blobs, data: bytes) -> None:
        assert await blobs.put("a/b", data) is True
        assert await blobs.get("a/b") == data

    async def test_what_was_never_put_is_not_there(self, blobs: Blobs) -> None:
        assert await blobs.get("a/b") is None
        await blobs.put("a/b/c", b"")
        await blobs.put("d", b"")
        for name in ("a/b", "a", "a/b/c/d", "d/e", "a/b/d"):
            assert await blobs.get(name) is None

    async def test_a_second_put_changes_nothing_and_is_told_so(self, blobs: Blobs) -> None:
        assert await blobs.put("a", b"first") is True
        for data in (b"second", b"first", b""):
            assert await blobs.put("a", data) is False
        assert await blobs.get("a") == b"first"

    async def test_of_puts_at_once_one_wins_and_its_bytes_are_there(self, blobs: Blobs) -> None:
        for number in range(20):
            name = f"a/{number}"
            won = await asyncio.gather(*(blobs.put(name, b"%d" % n * 1000) for n in range(8)))
            assert won.count(True) == 1
            assert await blobs.get(name) == b"%d" % won.index(True) * 1000

    async def test_what_was_deleted_is_gone_and_may_be_put_again(self, blobs: Blobs) -> None:
        for name in ("a", "a/b", "a/b/c"):
            await blobs.put(name, b"first")
        for name in ("a/b", "a", "a/b", "never"):
            await blobs.delete(name)
        assert await blobs.names("") == ["a/b/c"]
        assert await blobs.get("a/b") is None
        assert await blobs.put("a/b", b"second") is True
        assert await blobs.get("a/b") == b"second"
        assert await blobs.get("a/b/c") == b"first"

    async def test_puts_and_deletes_of_neighbours_at_once_do_not_meet(self, blobs: Blobs) -> None:
        async def come_and_go(number: int) -> None:
            for _ in range(20):
                assert await blobs.put(f"a/b/{number}", b"%d" % number) is True
                assert await blobs.get(f"a/b/{number}") == b"%d" % number
                await blobs.delete(f"a/b/{number}")

        await asyncio.gather(*map(come_and_go, range(8)))
        assert await blobs.names("") == []

    async def test_names_are_told_in_the_order_of_their_bytes(self, blobs: Blobs) -> None:
        for name in NAMES:
            await blobs.put(name, b"")
        assert await blobs.names("") == sorted(NAMES, key=str.encode)

    async def test_a_prefix_and_an_after_take_what_the_order_says(self, blobs: Blobs) -> None:
        for name in NAMES:
            await blobs.put(name, b"")
        ends = (*NAMES, "", "a/", "a/b/", "b/x", "zz", "a.", "/", "a/b/c/d", "a.b/c")
        for prefix in ends:
            for after in (None, *ends):
                wanted = sorted(name for name in NAMES if name.startswith(prefix) and name > (after or ""))
                assert await blobs.names(prefix, after) == wanted, (prefix, after)

    @pytest.mark.parametrize("limit", [1, 2, 3, 7])
    async def test_page_by_page_every_name_is_told_once(self, blobs: Blobs, limit: int) -> None:
        wanted = sorted(f"{kind}/{number:02}" for kind in "abc" for number in range(7))
        for name in wanted:
            await blobs.put(name, b"")
        found: list[str] = []
        while page := await blobs.names("", found[-1] if found else None, limit):
            assert len(page) == min(limit, len(wanted) - len(found))
            found += page
        assert found == wanted

    @pytest.mark.parametrize("name", NO_NAMES)
    async def test_what_is_no_name_is_refused_and_touches_nothing(self, blobs: Blobs, name: str) -> None:
        for wrong in (blobs.put(name, b""), blobs.get(name), blobs.delete(name)):
            with pytest.raises(ValueError, match="not a name of a blob"):
                await wrong
        assert await blobs.names("") == []

    async def test_an_object_is_bounded(self, blobs: Blobs) -> None:
        most = bytes(64 * 1024 * 1024)
        with pytest.raises(ValueError, match="more than"):
            await blobs.put("a", most + b"x")
        assert await blobs.get("a") is None
        assert await blobs.put("a", most) is True
        assert await blobs.get("a") == most
