"""What is used of the issuers' keys is kept fresh, and what is not used makes room."""

import pytest

from tests.gateway.auth.key_world import ISSUER, done, gateway, only


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
