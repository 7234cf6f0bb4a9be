"""Nobody comes in with a token that is not sound, through any door of a real gateway; all hear the same, and nothing in a token makes the
gateway ask anywhere but at its issuer.
"""

from collections.abc import Callable, Iterator
from urllib.request import urlopen

import pytest

from gateway.auth.jose import key_set, read, verify
from tests.e2e.asking import plainly
from tests.e2e.siege import (
    DOORS,
    MANY,
    ONE_FETCH,
    RPCS,
    TENANT,
    Door,
    Siege,
    beside,
    siege,
    stranger_keys,
    trapped,
)
from tests.gateway.auth.signers import World
from tests.worlds.key_server import JWKS, publishing

# A client of gRPC sends printable ASCII alone, and refuses this one itself.
NOT_OVER_GRPC = {"a tab in it"}


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    with siege(tmp_path_factory.mktemp("siege") / "state") as made:
        yield made


@pytest.mark.parametrize("door", DOORS, ids=lambda it: f"{it.listener} {it.path}")
def test_every_hostile_token_hears_over_http_what_nobody_hears_to_the_byte(
    besieged: Siege, door: Door, record_property: Callable[[str, object], None]
) -> None:
    wanted = plainly(besieged.ask(door, "none", None))
    assert wanted[0] == 401
    besieged.slowest = (0.0, "")
    told = {name: plainly(besieged.ask(door, name, text)) for name, text in besieged.hostile(door.listener)}
    assert len(told) > 600
    assert {name: it for name, it in told.items() if it != wanted} == {}
    expect_no_fetch(besieged)
    record_property(f"slowest of {len(told)} at {door.listener} {door.path}", tell(besieged))


@pytest.mark.parametrize("rpc", RPCS)
def test_every_hostile_token_hears_over_grpc_what_nobody_hears(
    besieged: Siege, rpc: str, record_property: Callable[[str, object], None]
) -> None:
    wanted = besieged.call(rpc, "none", None)
    assert wanted.said == "401"
    besieged.slowest = (0.0, "")
    told = {name: besieged.call(rpc, name, text) for name, text in besieged.hostile("public")}
    assert {told.pop(name).said for name in NOT_OVER_GRPC} == {"INTERNAL Invalid metadata"}
    assert len(told) > 600
    assert {name: it for name, it in told.items() if it != wanted} == {}
    expect_no_fetch(besieged)
    record_property(f"slowest of {len(told)} at {rpc}", tell(besieged))


@pytest.mark.parametrize("characters", [33_000, 1_000_000])
def test_a_token_that_does_not_fit_in_a_head_is_refused_with_the_head(
    besieged: Siege, characters: int
) -> None:
    """Before anybody asks whose it is. No hostile token is so long: the longest has some 16,700 characters, and a head 32,768 bytes."""
    assert max(len(text) for _, text in besieged.hostile("public")) < 17_000
    for door in DOORS:
        assert besieged.ask(door, "long", "a" * characters).status == 431
    for rpc in RPCS:
        assert besieged.call(rpc, "long", "a" * characters).code == "RESOURCE_EXHAUSTED"
    expect_no_fetch(besieged)


def test_a_sound_token_is_let_in_wherever_its_header_says_its_keys_are_and_nobody_is_asked_there(
    besieged: Siege,
) -> None:
    for world, door in ((besieged.tenants, DOORS[2]), (besieged.operators, DOORS[3])):
        for name, text in beside(world, besieged.trap.url):
            assert besieged.ask(door, name, text).status == 200, name
    named = besieged.tenants.token(claims={"aud": MANY, "tenant": TENANT})
    assert besieged.ask(DOORS[2], "shared", named).status == 200
    expect_no_fetch(besieged)


def test_whoever_followed_a_token_to_the_trap_would_let_it_in() -> None:
    world = World()
    with publishing(stranger_keys) as trap:
        followed = 0
        for _, text in trapped(world, trap.url):
            token = read(text)
            with urlopen(trap.url + JWKS) as answer:
                key = key_set(answer.read()).key_for(token)
            if key is not None:
                verify(token, key)
                followed += 1
        assert followed > trap.connections / 2
        assert trap.asked == {JWKS: trap.connections}


def expect_no_fetch(besieged: Siege) -> None:
    """None but the first of each issuer, and none at all at the trap."""
    assert besieged.fetches() == [ONE_FETCH, ONE_FETCH]
    assert besieged.trap.connections == 0


def tell(besieged: Siege) -> str:
    seconds, name = besieged.slowest
    return f"{seconds * 1000:.1f} ms: {name}"
