"""An issuer's keys: one fetch for all who ask, none that a stranger can cause twice, and no key longer than it may be used."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.auth.key_sets import KeySets, KeysUnavailable, Source
from gateway.loops import jobs
from tests.gateway.auth.key_world import (
    ISSUER,
    Fault,
    Keys,
    NotReadable,
    discover,
    done,
    gateway,
    only,
    read,
    settle,
)

FAULTS: list[Fault] = ["lost before", "lost after", "hangs", "not readable"]


# One fetch


async def test_all_who_ask_first_wait_for_one_fetch_and_the_next_do_not_wait() -> None:
    async with gateway(ISSUER) as world:
        source, provider = only(world)
        assert world.sets.held(source) is None
        outcomes = await done(world, *(world.authenticate(source, "kid-0") for _ in range(300)))
        assert (outcomes, len(provider.asked)) == (["accepted"] * 300, 1)
        assert world.sets.held(source) == Keys(("kid-0",))
        assert (world.sets.fetches, world.sets.failures, world.sets.refused) == (1, 0, 0)


async def test_a_thousand_unknown_kids_cause_one_fetch_a_cool_down() -> None:
    async with gateway(ISSUER) as world:
        source, provider = only(world)
        await done(world, world.authenticate(source, "kid-0"))
        for _ in range(3):
            strangers = [world.authenticate(source, f"made up {n}") for n in range(1000)]
            assert await done(world, *strangers[:500], seconds=5) == ["unknown"] * 500
            assert await done(world, *strangers[500:], seconds=5) == ["unknown"] * 500
        assert len(provider.asked) == 1 + 3
        assert world.sets.refused >= 1500


async def test_a_rotation_under_load_fails_no_request() -> None:
    async with gateway(ISSUER) as world:
        source, provider = only(world)
        await done(world, world.authenticate(source, "kid-0"))
        provider.latency = lambda: 2.0
        provider.kids = ["kid-1", "kid-0"]
        waiting = [asyncio.ensure_future(world.authenticate(source, f"kid-{n % 2}")) for n in range(400)]
        await world.time.pass_(1.0)
        waiting += [asyncio.ensure_future(world.authenticate(source, "kid-1")) for _ in range(400)]
        await world.time.pass_(1.0)
        assert [task.result() for task in waiting] == ["accepted"] * 800
        assert len(provider.asked) == 2


async def test_made_up_kids_delay_a_rotation_by_a_cool_down_at_most() -> None:
    async with gateway(ISSUER) as world:
        source, provider = only(world)
        await done(world, world.authenticate(source, "kid-0"))
        assert await done(world, world.authenticate(source, "made up"), seconds=0) == ["unknown"]
        provider.kids = ["kid-1"]
        for _ in range(9):
            assert await done(world, world.authenticate(source, "made up"), seconds=1) == ["unknown"]
        assert await done(world, world.authenticate(source, "kid-1"), seconds=1) == ["unknown"]
        assert await done(world, world.authenticate(source, "kid-1"), seconds=0) == ["accepted"]


async def test_a_rotation_just_behind_a_refresh_is_noticed_at_once() -> None:
    async with gateway(ISSUER) as world:
        source, provider = only(world)
        await done(world, world.authenticate(source, "kid-0"), seconds=290)
        await done(world, world.authenticate(source, "kid-0"), seconds=20)
        provider.latency = lambda: 4.0
        await world.refresh()
        await world.time.pass_(3.0)  # the provider has made its answer
        provider.kids = ["kid-1"]
        assert await done(world, world.authenticate(source, "kid-1"), seconds=5) == ["accepted"]
        assert [len(starts) for starts in world.starts.values()] == [2, 1]


async def test_who_waited_for_a_refresh_that_failed_does_not_wait_for_another_fetch() -> None:
    async with gateway(ISSUER) as world:
        source, provider = only(world)
        await done(world, world.authenticate(source, "kid-0"), seconds=300)
        assert world.sets.held(source) is not None
        provider.fault = "hangs"
        await world.refresh()
        assert await done(world, world.authenticate(source, "kid-1"), seconds=5) == ["unavailable"]
        assert [len(starts) for starts in world.starts.values()] == [1, 1]


async def test_an_age_counts_from_the_start_of_the_fetch() -> None:
    async with gateway(ISSUER) as world:
        source, provider = only(world)
        provider.latency = lambda: 4.0
        await done(world, world.authenticate(source, "kid-0"), seconds=599)
        assert world.sets.held(source) is not None
        await world.time.pass_(1)
        assert world.sets.held(source) is None


async def test_whoever_leaves_ends_no_fetch_and_causes_no_other() -> None:
    async with gateway(ISSUER) as world:
        source, provider = only(world)
        provider.latency = lambda: 2.0
        first, second, third = (asyncio.ensure_future(world.authenticate(source, "kid-0")) for _ in range(3))
        await world.time.pass_(1.0)
        first.cancel()
        second.cancel()
        await world.time.pass_(1.0)
        assert third.result() == "accepted"
        await world.time.pass_(20.0)
        for _ in range(5):  # who asks and leaves, again and again
            stranger = asyncio.ensure_future(world.authenticate(source, "made up"))
            await settle()
            stranger.cancel()
            await world.time.pass_(1.9)
        assert len(provider.asked) == 2
        assert world.sets.held(source) is not None


# What fails


@pytest.mark.parametrize("fault_at", ["discovery", "keys"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_first_fetch_that_fails_is_told_at_once_until_the_cool_down_is_over(
    fault: Fault, fault_at: Any
) -> None:
    async with gateway(ISSUER, jwks=False) as world:
        source, provider = only(world)
        provider.fault, provider.fault_at = fault, fault_at
        asked_at = world.time.now
        assert await done(world, world.authenticate(source, "kid-0"), seconds=5) == ["unavailable"]
        provider.fault = None
        while world.time.now < asked_at + 10:
            await world.refresh()  # there is no set to be kept fresh
            assert await done(world, world.authenticate(source, "kid-0"), seconds=0) == ["unavailable"]
            world.time.now += 1
        assert await done(world, world.authenticate(source, "kid-0"), seconds=0) == ["accepted"]
        assert (world.sets.fetches, world.sets.failures, world.sets.refused) == (2, 1, 5)


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_unknown_kid_is_unavailable_and_not_unknown_while_nobody_can_say(fault: Fault) -> None:
    async with gateway(ISSUER) as world:
        source, provider = only(world)
        await done(world, world.authenticate(source, "kid-0"))
        provider.fault = fault
        provider.kids = ["kid-1"]
        for _ in range(2):
            outcomes = [world.authenticate(source, kid) for kid in ("kid-1", "made up", "kid-0")]
            assert await done(world, *outcomes, seconds=5) == ["unavailable", "unavailable", "accepted"]
        assert world.sets.fetches == 2
        provider.fault = None
        assert await done(world, world.authenticate(source, "kid-1"), seconds=0) == ["accepted"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_known_keys_serve_while_the_provider_is_down_and_no_longer_than_that_may_be(
    fault: Fault,
) -> None:
    async with gateway(ISSUER) as world:
        source, provider = only(world)
        fetched_at = world.time.now
        await done(world, world.authenticate(source, "kid-0"), seconds=0)
        provider.fault = fault
        while world.time.now < fetched_at + 3600:
            assert await done(world, world.authenticate(source, "kid-0"), seconds=0) == ["accepted"]
            await world.refresh()
            await world.time.pass_(7.5)
        assert world.sets.held(source) is None
        assert await done(world, world.authenticate(source, "kid-0")) == ["unavailable"]
        provider.fault = None
        assert await done(world, world.authenticate(source, "kid-0")) == ["accepted"]
        # One try a cool-down from when the set was old: ticks come each 7.5 s.
        assert len(world.starts["refresh"]) == pytest.approx((3600 - 300) / 15, abs=3)


async def test_what_cannot_be_read_at_all_does_not_end_the_gateway(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: bytes) -> Keys:
        raise RecursionError

    async with gateway(ISSUER) as world:
        source, _ = only(world)
        world.sets.read = broken
        assert await done(world, world.authenticate(source, "kid-0")) == ["unavailable"]
        world.sets.read = read
        assert await done(world, world.authenticate(source, "kid-0")) == ["accepted"]
    assert "could not be read" in caplog.text


async def test_a_provider_that_goes_on_failing_is_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with gateway(ISSUER) as world:
        source, provider = only(world)
        provider.fault = "lost before"
        for _ in range(5):
            await done(world, world.authenticate(source, "kid-0"))
        provider.fault = None
        await done(world, world.authenticate(source, "kid-0"))
    assert [record.message for record in caplog.records] == [
        f"the keys of {ISSUER} cannot be fetched: no route",
        f"the keys of {ISSUER} are fetched again",
    ]


class Silent:
    async def get(self, url: str, *, insecure: bool, most_bytes: int) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError(url, insecure, most_bytes)


def over_silence(spawn: Callable[[str, Coroutine[Any, Any, None]], None], seconds: float) -> KeySets[Keys]:
    return KeySets(Silent(), read, discover, NotReadable, lambda: 0.0, spawn, print, fetch_seconds=seconds)


async def test_a_fetch_ends_in_time_whatever_fetches() -> None:
    async with asyncio.timeout(10), jobs() as spawn:
        with pytest.raises(KeysUnavailable, match=r"no answer in 0\.05 s"):
            await over_silence(spawn, 0.05).current(Source(ISSUER, None, insecure=False))


@pytest.mark.parametrize("turns", [0, 1, 5])
async def test_nobody_waits_for_a_gateway_that_stops(turns: int) -> None:
    async with asyncio.timeout(10):
        async with jobs() as spawn:
            sets = over_silence(spawn, 0.1 if turns == 0 else 5)
            waiting = asyncio.ensure_future(sets.current(Source(ISSUER, None, insecure=False)))
            await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
        with pytest.raises(KeysUnavailable):
            await waiting


# Where


@pytest.mark.parametrize("issuer", [ISSUER, f"{ISSUER}/", f"{ISSUER}/a/"])
async def test_a_document_says_where_the_keys_are_and_must_be_of_this_issuer_to_the_letter(
    issuer: str,
) -> None:
    async with gateway(issuer, jwks=False) as world:
        source, provider = only(world)
        provider.fault, provider.fault_at = "of another issuer", "discovery"
        assert await done(world, world.authenticate(source, "kid-0")) == ["unavailable"]
        document = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        assert provider.asked == [document]
        provider.fault = None
        assert await done(world, world.authenticate(source, "kid-0")) == ["accepted"]
        assert provider.asked[1:] == [document, provider.keys_url]


async def test_a_slash_at_the_end_makes_another_issuer() -> None:
    async with gateway(ISSUER, jwks=False) as world:
        slashed = Source(f"{ISSUER}/", None, insecure=False)
        assert await done(world, world.authenticate(slashed, "kid-0")) == ["unavailable"]


async def test_what_one_source_may_is_told_to_the_fetcher_and_given_to_no_other() -> None:
    async with gateway(ISSUER) as world:
        source, _ = only(world)
        loose = Source(ISSUER, source.jwks_url, insecure=True)
        await done(world, world.authenticate(source, "kid-0"))
        assert world.sets.held(loose) is None
        await done(world, world.authenticate(loose, "kid-0"))
        assert [insecure for _, insecure, _ in world.asked_for] == [False, True]


@pytest.mark.parametrize(
    "knobs", [{"fetch": 11.0}, {"cooldown": 301.0}, {"refresh": 3601.0}, {"fetch": 0.0}, {"outage": 299.0}]
)
async def test_knobs_in_the_wrong_order_are_refused(knobs: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="in this order"):
        async with gateway(ISSUER, knobs={f"{name}_seconds": seconds for name, seconds in knobs.items()}):
            pass
