"""An issuer's keys: one fetch for all who ask, none that a stranger can cause twice, and no key longer than it may be used."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.auth.key_sets import KeySets, KeysUnavailable, Source
from gateway.loops import jobs
from tests.gateway.auth.key_world import (
    Fault,
    Gateway,
    Keys,
    NotReadable,
    Provider,
    discover,
    gateway,
    read,
    settle,
)

ISSUER = "https://login.example"
FAULTS: list[Fault] = ["lost before", "lost after", "hangs", "not readable"]


def only(world: Gateway) -> tuple[Source, Provider]:
    [(source, provider)] = world.providers.items()
    return source, provider


async def done(world: Gateway, *asking: Coroutine[Any, Any, str], seconds: float = 20) -> list[str]:
    """What became of them, all at once, once so much time has passed."""
    tasks = [asyncio.ensure_future(one) for one in asking]
    await world.time.pass_(seconds)
    assert all(task.done() for task in tasks), "somebody waits for ever"
    return [task.result() for task in tasks]


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


# What is kept fresh, and what is forgotten


async def test_a_set_in_use_is_fetched_anew_beside_requests_and_an_idle_one_is_not() -> None:
    async with gateway(ISSUER, "https://idle.example") as world:
        (source, provider), (idle, _) = world.providers.items()
        await done(world, world.authenticate(source, "kid-0"), world.authenticate(idle, "kid-0"), seconds=0)
        provider.latency = lambda: 4.0
        provider.kids = ["kid-1"]
        for _ in range(100):
            assert world.sets.held(source) is not None
            await world.refresh()
            await world.time.pass_(3.1)
        [(issuer, at)] = world.starts["refresh"]
        assert issuer == ISSUER
        assert at == pytest.approx(10_000 + 301, abs=3)
        await world.time.pass_(4)
        assert await done(world, world.authenticate(source, "kid-0"), seconds=5) == ["unknown"]


async def test_a_set_that_was_idle_is_fetched_before_it_is_used_and_used_if_that_fails() -> None:
    async with gateway(ISSUER) as world:
        source, provider = only(world)
        await done(world, world.authenticate(source, "kid-0"), seconds=0)
        provider.kids = ["kid-1"]
        await world.time.pass_(599)
        assert world.sets.held(source) is not None
        await world.time.pass_(1)
        assert world.sets.held(source) is None
        provider.fault = "lost before"
        assert await done(world, world.authenticate(source, "kid-0")) == ["accepted"]
        await world.time.pass_(600)
        provider.fault = None
        assert await done(world, world.authenticate(source, "kid-0")) == ["unknown"]


async def test_only_so_many_sets_are_fetched_anew_at_once_those_untried_for_longest_first() -> None:
    issuers = [f"https://{n}.example" for n in range(20)]
    async with gateway(*issuers) as world:
        for number, (source, provider) in enumerate(world.providers.items()):
            await done(world, world.authenticate(source, "kid-0"), seconds=1)
            provider.fault = "hangs" if number < 10 else None
        await world.time.pass_(400)
        for source in reversed(world.providers):
            world.providers[source].fault = None
            await done(world, world.authenticate(source, "made up"), seconds=1)
            world.providers[source].fault = "hangs" if int(source.issuer[8:-8]) >= 10 else None
        await world.time.pass_(300)
        issuers.reverse()
        order = list[str]()
        for _ in range(300):
            for source in world.providers:
                assert world.sets.held(source) is not None
            before = len(world.starts["refresh"])
            await world.refresh()
            order += [issuer for issuer, _ in world.starts["refresh"][before:]]
            assert len(world.starts["refresh"]) - before <= 8
            await world.time.pass_(3)
        assert order[:20] == issuers
        for source, provider in world.providers.items():  # those that hang held none of the others up
            assert provider.fault or world.time.now - provider.served_at["kid-0"] < 320, source


async def test_a_source_that_nobody_asks_for_is_forgotten() -> None:
    async with gateway(ISSUER, "https://used.example") as world:
        source, used = world.providers
        await done(world, world.authenticate(source, "kid-0"), world.authenticate(used, "kid-0"), seconds=1)
        for _ in range(721):
            world.sets.held(used)
            await world.refresh()
            await world.time.pass_(5)
        assert list(world.sets._entries) == [used]


async def test_the_longest_unused_source_makes_room_and_none_within_its_cool_down() -> None:
    async with gateway(*(f"https://{n}.example" for n in range(4)), knobs={"most_sources": 2}) as world:
        a, b, c, d = world.providers
        for source in (a, b):
            await done(world, world.authenticate(source, "kid-0"), seconds=0)
        assert await done(world, world.authenticate(c, "kid-0"), seconds=9.9) == ["unavailable"]
        world.sets.held(a)
        await world.time.pass_(0.1)
        assert await done(world, world.authenticate(c, "kid-0"), seconds=0) == ["accepted"]
        assert list(world.sets._entries) == [a, c]
        assert await done(world, world.authenticate(d, "kid-0"), seconds=0) == ["unavailable"]


async def test_a_set_that_became_another_is_told_and_one_that_did_not_is_not() -> None:
    async with gateway(ISSUER) as world:
        source, provider = only(world)
        await done(world, world.authenticate(source, "kid-0"))
        assert world.changes == {source: 1}  # what was verified before it was forgotten is void too
        before = world.sets.held(source)
        await done(world, world.authenticate(source, "made up"))
        assert world.changes == {source: 1}
        assert world.sets.held(source) is before
        provider.kids = ["kid-1"]
        await done(world, world.authenticate(source, "kid-1"))
        assert world.changes == {source: 2}


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
