"""What every adapter of the KeyService port must do. A subclass gives it a `service` fixture."""

import asyncio

import pytest

from gateway.envelope.keys import Context, Material
from gateway.envelope.ports import KeyRefused, KeyService

SECRET = bytes(range(32))
CONTEXT = Context("t_acme", "audit", "d_1")
MOST_BYTES = 6_144


class KeyServiceContract:
    async def test_what_was_wrapped_opens_under_an_equal_context_however_often(
        self, service: KeyService
    ) -> None:
        wrapped = await service.wrap(Material(SECRET), CONTEXT)
        again = await service.wrap(Material(SECRET), CONTEXT)
        for _ in range(2):
            assert (await service.unwrap(wrapped, Context(*CONTEXT))).reveal() == SECRET
        assert (await service.unwrap(again, CONTEXT)).reveal() == SECRET
        assert wrapped != again

    async def test_what_is_stored_is_short_and_holds_nothing_of_the_secret(self, service: KeyService) -> None:
        wrapped = await service.wrap(Material(SECRET), CONTEXT)
        assert len(wrapped) <= MOST_BYTES
        assert not any(SECRET[start : start + 4] in wrapped for start in range(29))

    @pytest.mark.parametrize(
        "other",
        [
            CONTEXT._replace(tenant="t_other"),
            CONTEXT._replace(purpose="replies"),
            CONTEXT._replace(record="d_2"),
            Context("t_acmea", "udit", "d_1"),  # the same letters, cut elsewhere
            Context("audit", "t_acme", "d_1"),
        ],
        ids=str,
    )
    async def test_under_another_context_it_stays_closed(self, service: KeyService, other: Context) -> None:
        wrapped = await service.wrap(Material(SECRET), CONTEXT)
        with pytest.raises(KeyRefused):
            await service.unwrap(wrapped, other)

    async def test_with_any_byte_flipped_it_stays_closed(self, service: KeyService) -> None:
        wrapped = await service.wrap(Material(SECRET), CONTEXT)
        for at in range(len(wrapped)):
            flipped = bytearray(wrapped)
            flipped[at] ^= 1 << at % 8
            with pytest.raises(KeyRefused):
                await service.unwrap(bytes(flipped), CONTEXT)

    async def test_what_is_cut_longer_or_no_wrapped_key_at_all_is_refused(self, service: KeyService) -> None:
        wrapped = await service.wrap(Material(SECRET), CONTEXT)
        for other in (b"", wrapped[:1], wrapped[:-1], wrapped + b"\0", bytes(len(wrapped)), bytes(7_000)):
            with pytest.raises(KeyRefused):
                await service.unwrap(other, CONTEXT)

    async def test_who_leaves_harms_nobody_else(self, service: KeyService) -> None:
        left = [asyncio.ensure_future(service.wrap(Material(SECRET), CONTEXT)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in left:
            task.cancel()
        wrapped = await service.wrap(Material(SECRET), CONTEXT)
        assert (await service.unwrap(wrapped, CONTEXT)).reveal() == SECRET
        await asyncio.gather(*left, return_exceptions=True)
