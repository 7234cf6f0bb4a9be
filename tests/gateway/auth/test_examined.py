"""What a gateway would make of a token is told as it would do it: the examination and the authenticator agree, and each failing step says
what to do."""

from collections.abc import Callable
from typing import Any, Final

import pytest

from gateway.auth.examined import Examination, Hosts, Step
from gateway.errors import GatewayError
from tenants.issuers import Issuer, TenantIssuer
from tenants.keys import Secret
from tests.gateway.auth.world import ACT, HERE, World
from tests.worlds.issuer import NOW_S, IssuerWorld, key_sets

KEYS: Final = "https://keys.acme.example/jwks"
Make = Callable[[IssuerWorld], str]

pytestmark = pytest.mark.anyio


class WithSecret(IssuerWorld):
    """It publishes a key that no issuer should, before its own."""

    def jwks(self) -> bytes:
        return super().jwks().replace(b'{"keys": [', b'{"keys": [{"kty": "oct", "k": "AA"}, ')


async def acme(roles_claim: str | None = "roles", **more: Any) -> World:
    world = await World().open()
    own = TenantIssuer(world.issuer.url, "gateway", KEYS, roles_claim, **more)
    await world.directory.issuers.put("acme", [own], ACT)
    await world.directory.members.invite("acme", "ada@acme.example", "viewer", ACT)
    return world


async def examined(world: World, token: str, *, operator: bool = False) -> tuple[bool, list[Step]]:
    steps: list[Step] = []
    hosts = Hosts(world.issuer)
    sets = key_sets(world.issuer, world.known, world.clock)
    sets.fetcher = hosts
    examination = Examination(
        world.directory.issuers, sets, hosts, world.now_us, steps.append, for_operators=operator
    )
    return await examination.run(token), steps


async def fails(world: World, token: str, *, operator: bool = False) -> Step:
    """The one step that fails."""
    is_good, steps = await examined(world, token, operator=operator)
    assert not is_good
    (failed,) = [it for it in steps if not it.good]
    assert failed.do
    return failed


BAD: Final[dict[str, tuple[str, str, Make]]] = {
    "a key": ("form", "keys show", lambda _: "gw_live_x"),
    "no token": ("form", "three parts", lambda _: "opaque"),
    "a long one": ("form", "16 KiB", lambda it: it.token(more="x" * 17_000)),
    "over": ("times", "Get a new one", lambda it: it.token(roles="admin", exp=NOW_S - 31)),
    "too early": ("times", "clocks", lambda it: it.token(roles="admin", nbf=NOW_S + 31)),
    "a stranger's": (
        "issuer",
        "gateway tenants trust NAME --issuer https://e.example",
        lambda it: it.token(iss="https://e.example"),
    ),
    "with a slash": ("issuer", "to the letter", lambda it: it.token(iss=f"{it.url}/")),
    "for others": ("audience", "the client's audience", lambda it: it.token(aud=["shop", "mail"])),
    "of no key": ("signature", "Get a new token", lambda it: it.token(headers={"kid": "gone"})),
    "forged": ("signature", "somebody else signed", lambda it: IssuerWorld(it.url).token().rpartition(".")[0]
        + "." + "A" * 342),
    "without a role": ("role", "'roles'", lambda it: it.token(roles=["cook"])),
}  # fmt: skip


@pytest.mark.parametrize(("step", "advice", "make"), BAD.values(), ids=BAD)
async def test_what_is_wrong_is_told_with_what_to_do_and_nothing_of_the_token(
    step: str, advice: str, make: Make
) -> None:
    world = await acme()
    token = make(world.issuer)
    failed = await fails(world, token)
    assert (failed.name, advice in failed.do) == (step, True), failed
    _, steps = await examined(world, token)
    said = repr(steps)
    assert all(part not in said for part in token.split(".") if len(part) > 10)
    assert "ada" not in said
    assert "cook" not in said
    if step != "role":  # such a one is somebody, who may do nothing
        with pytest.raises(GatewayError):
            await world.called(Secret(token), HERE)


async def test_a_good_token_is_told_by_issuer_audience_host_key_tenant_and_role() -> None:
    world = await acme()
    is_good, steps = await examined(world, world.issuer.token(roles=["developer"], secret="s3cret"))
    assert is_good
    found = {it.name: it.found for it in steps}
    assert list(found) == ["form", "times", "issuer", "audience", "keys", "signature", "tenant", "role"]
    assert found["form"] == "RS256, kid 'first'; it has the claims aud, exp, iat, iss, roles, secret, sub"
    assert found["issuer"].endswith("of the tenant acme")
    assert found["keys"] == "from keys.acme.example: 1 can be used"
    assert found["tenant"] == "acme, on the plan team"
    assert found["role"].startswith("developer, by the claim 'roles': calls models")
    assert "s3cret" not in repr(steps)


async def test_a_key_that_cannot_be_used_is_named_by_its_place() -> None:
    world = await acme()
    world.issuer = WithSecret(keys=world.issuer.keys)
    _, steps = await examined(world, world.issuer.token(roles=["developer"]))
    (keys,) = [it.found for it in steps if it.name == "keys"]
    assert keys.endswith("1 can be used, 1 cannot (key 1: kty is none of RSA, EC and OKP)")


async def test_where_no_role_is_claimed_the_verified_address_makes_a_member_and_else_there_is_none() -> None:
    world = await acme(roles_claim=None)
    address: dict[str, Any] = {"email": "Ada@acme.example", "email_verified": True}
    is_good, steps = await examined(world, world.issuer.token(**address))
    assert is_good
    assert steps[-1].found.startswith("viewer, as a member, by the e-mail address, known as the member u_")
    assert "Ada@" not in repr(steps)
    is_good, steps = await examined(world, world.issuer.token(**address | {"email_verified": False}))
    assert is_good
    assert steps[-1].found.startswith("none, as its holder is no member")


async def test_a_provider_that_is_down_and_a_tenant_that_is_suspended_are_told() -> None:
    world = await acme()
    token = world.issuer.token(roles=["admin"])
    world.issuer.is_down = True
    failed = await fails(world, token)
    assert (failed.name, "nobody listens there" in failed.found) == ("keys", True)
    world.issuer.is_down = False
    await world.directory.tenants.do("acme", "suspend", ACT)
    failed = await fails(world, token)
    assert (failed.name, "gateway tenants resume acme" in failed.do) == ("tenant", True)


async def test_a_shared_issuers_token_names_its_tenant_and_an_operators_is_for_their_listener() -> None:
    world = await World().open()
    shared = Issuer(world.issuer.url, "gateway", KEYS, "roles", tenant_claim="org")
    await world.directory.values.put(shared, act=ACT)
    is_good, steps = await examined(world, world.issuer.token(org="globex", roles=["viewer"]))
    assert (is_good, steps[-2].found) == (True, "globex, on the plan big")
    assert (await fails(world, world.issuer.token(roles=["viewer"]))).name == "tenant"
    operators = Issuer(world.issuer.url, "gateway", KEYS, "roles", operators=True)
    await world.directory.values.put(operators, act=ACT)
    token = world.issuer.token(roles=["operator"])
    assert "--operator" in (await fails(world, token)).do
    is_good, steps = await examined(world, token, operator=True)
    assert (is_good, steps[-1].found[:8]) == (True, "operator")
    assert (await fails(world, world.issuer.token(roles=["admin"]), operator=True)).name == "role"


async def test_a_strangers_names_do_not_lead_a_terminal_astray() -> None:
    world = await acme()
    claims: dict[str, Any] = {f"\x1b[2J{number}": 1 for number in range(60)}
    _, steps = await examined(world, world.issuer.token(roles=["viewer"], **claims))
    assert "\x1b" not in steps[0].found
    assert "more" in steps[0].found
