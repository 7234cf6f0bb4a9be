"""What the directory promises of each change: its conditions, its event, and what a lost answer leaves."""

from collections.abc import Awaitable
from random import Random

import msgspec
import pytest

from tenants import keys
from tenants.acts import Act
from tenants.directory import Directory
from tenants.errors import AlreadyExists, Invalid, NotFound, TableUnavailable, Unreadable
from tenants.events import Action
from tenants.keys import MOST_SECONDS
from tenants.model import Model
from tenants.plans import Limits, Plan
from tenants.ports import Item, Key, Row
from tenants.rows import key_at, model_at, plan_at, tenant_at
from tests.tenants.conftest import BY, NOW, TEAM, actions, events
from tests.worlds.table import MemoryTable

SECOND = 1_000_000


DAMAGE = {
    "cut": lambda value: value[:-1],
    "no UTF-8": lambda value: value.replace(b'":"', b'":"\xff'),
    "too long": lambda value: value.replace(b'":"', b'":"' + b"x" * 1024),
}


def damage(world: MemoryTable, key: Key, how: str) -> None:
    row = world.rows[key]
    world.rows[key] = Row(key, DAMAGE[how](row.value), row.version)


# Tenants


async def test_a_tenant_is_shown_as_it_was_created(acme: Directory) -> None:
    tenant = await acme.tenants.show("acme")
    assert (tenant.name, tenant.plan, tenant.state, tenant.created_us) == ("acme", "team", "active", NOW)
    assert (await acme.tenants.list()).values == (tenant,)


async def test_tenants_are_listed_by_name_and_all_of_them(acme: Directory) -> None:
    for number in range(120):
        await acme.tenants.create(f"t{number:03d}", "team", act=Act(BY, NOW))
    first = await acme.tenants.list(limit=100)
    rest = await acme.tenants.list(first.next_after, limit=100)
    assert rest.next_after is None
    names = [tenant.name for tenant in (*first.values, *rest.values)]
    assert names == ["acme", *(f"t{number:03d}" for number in range(120))]


async def test_a_name_is_given_once_even_when_its_tenant_is_closed(acme: Directory) -> None:
    before = await acme.tenants.show("acme")
    await acme.tenants.do("acme", "close", act=Act(BY, NOW + 1))
    with pytest.raises(AlreadyExists):
        await acme.tenants.create("acme", "team", act=Act(BY, NOW + 2))
    assert await acme.tenants.show("acme") == msgspec.structs.replace(
        before, state="closed", closes_us=NOW + 1
    )


async def test_a_tenant_needs_a_plan_and_a_name(directory: Directory, world: MemoryTable) -> None:
    with pytest.raises(NotFound, match="plan 'team'"):
        await directory.tenants.create("acme", "team", act=Act(BY, NOW))
    for name, plan, path in (("Acme", "team", "name"), ("acme", "../team", "plan")):
        with pytest.raises(Invalid) as refusal:
            await directory.tenants.create(name, plan, act=Act(BY, NOW))
        assert refusal.value.path == path
    assert world.rows == {}


async def test_what_is_not_there_is_not_found(acme: Directory) -> None:
    asked: list[Awaitable[object]] = [
        acme.tenants.show("beta"),
        acme.keys.list("beta"),
        acme.tenants.do("beta", "close", act=Act(BY, NOW)),
        acme.keys.create("beta", act=Act(BY, NOW)),
        acme.keys.revoke("acme", "k_00000000000000000000", act=Act(BY, NOW)),
        acme.keys.revoke("acme", "\ud800", act=Act(BY, NOW)),
        acme.keys.rotate("acme", "tenant", overlap_seconds=0, act=Act(BY, NOW)),
    ]
    for question in asked:
        with pytest.raises(NotFound):
            await question


async def test_a_key_of_another_tenant_is_not_found(acme: Directory) -> None:
    await acme.tenants.create("beta", "team", act=Act(BY, NOW))
    minted = await acme.keys.create("beta", act=Act(BY, NOW))
    with pytest.raises(NotFound):
        await acme.keys.revoke("acme", minted.key.id, act=Act(BY, NOW))
    with pytest.raises(NotFound):
        await acme.keys.rotate("acme", minted.key.id, overlap_seconds=0, act=Act(BY, NOW))


# Keys


async def test_a_key_is_found_by_its_digest_with_its_tenant_and_plan(acme: Directory) -> None:
    minted = await acme.keys.create(
        "acme", name="ci", models=("digits",), expires_us=NOW + 9, act=Act(BY, NOW)
    )
    found = await acme.keys.find(keys.hashed(minted.secret))
    assert found is not None
    assert (found.key, found.tenant, found.plan) == (minted.key, await acme.tenants.show("acme"), TEAM)
    assert found.key.models == ("digits",)
    assert found.key.tenant_id == found.tenant.id
    assert await acme.keys.find("0" * 64) is None


async def test_the_text_of_a_key_is_stored_nowhere(acme: Directory, world: MemoryTable) -> None:
    minted = await acme.keys.create("acme", act=Act(BY, NOW))
    rotated = await acme.keys.rotate("acme", minted.key.id, overlap_seconds=1, act=Act(BY, NOW))
    everything = repr(world.rows) + repr(minted) + repr(rotated)
    for secret in (minted.secret.reveal(), rotated.secret.reveal()):
        assert not any(secret[start : start + 5] in everything for start in range(8, len(secret) - 4))


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"models": ()}, Invalid),
        ({"models": ("a/b",)}, Invalid),
        ({"models": ("digits",) * 101}, Invalid),
        ({"models": ("digits", "absent")}, NotFound),
        ({"models": ("secret",)}, NotFound),
        ({"expires_us": NOW}, Invalid),
        ({"expires_us": NOW + MOST_SECONDS * SECOND + 1}, Invalid),
        ({"name": "x" * 65}, Invalid),
        ({"name": "line\n"}, Invalid),
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(
    acme: Directory, wanted: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await acme.keys.create("acme", act=Act(BY, NOW), **wanted)  # type: ignore[arg-type]
    assert (await acme.keys.list("acme")).values == ()


async def test_keys_are_listed_page_by_page_and_all_of_them(acme: Directory) -> None:
    made = [(await acme.keys.create("acme", act=Act(BY, NOW + n))).key for n in range(120)]
    first = await acme.keys.list("acme", limit=100)
    rest = await acme.keys.list("acme", first.next_after, limit=100)
    assert (*first.values, *rest.values) == tuple(sorted(made, key=lambda key: key.id))
    assert rest.next_after is None


async def test_a_revoked_key_is_seen_as_revoked_for_ever(acme: Directory, world: MemoryTable) -> None:
    minted = await acme.keys.create("acme", act=Act(BY, NOW))
    revoked = await acme.keys.revoke("acme", minted.key.id, act=Act(BY, NOW + 5))
    assert revoked == msgspec.structs.replace(minted.key, revoked_us=NOW + 5)
    assert await acme.keys.revoke("acme", minted.key.id, act=Act(BY, NOW + 9)) == revoked
    found = await acme.keys.find(keys.hashed(minted.secret))
    assert found is not None
    assert found.key == revoked
    assert actions(world).count("key.revoked") == 1


async def test_a_rotated_key_has_the_same_rights_and_the_old_one_ends_after_the_overlap(
    acme: Directory,
) -> None:
    old = await acme.keys.create("acme", name="ci", models=("digits",), act=Act(BY, NOW))
    new = await acme.keys.rotate("acme", old.key.id, overlap_seconds=60.5, act=Act(BY, NOW))
    assert (new.key.name, new.key.models, new.key.expires_us) == ("ci", ("digits",), None)
    assert new.key.id != old.key.id
    before, after = (
        await acme.keys.reread([keys.hashed(old.secret)]),
        await acme.keys.find(keys.hashed(new.secret)),
    )
    (ending,) = before.values()
    assert ending is not None
    assert ending.key == msgspec.structs.replace(
        old.key, expires_us=NOW + 60_500_000, successor_id=new.key.id
    )
    assert after is not None
    assert after.key == new.key


async def test_rotation_never_makes_a_key_last_longer(acme: Directory) -> None:
    old = await acme.keys.create("acme", expires_us=NOW + SECOND, act=Act(BY, NOW))
    new = await acme.keys.rotate("acme", old.key.id, overlap_seconds=60, act=Act(BY, NOW))
    assert (
        {key.expires_us for key in (await acme.keys.list("acme")).values}
        == {NOW + SECOND}
        == {new.key.expires_us}
    )


@pytest.mark.parametrize("end_us", [None, NOW + 99 * SECOND])
async def test_a_key_that_is_rotated_once_more_as_an_answer_was_lost_gives_one_that_lasts_as_long_as_it_was_meant_to(
    acme: Directory, end_us: int | None
) -> None:
    old = await acme.keys.create("acme", expires_us=end_us, act=Act(BY, NOW))
    lost = await acme.keys.rotate("acme", old.key.id, overlap_seconds=9, act=Act(BY, NOW))
    again = await acme.keys.rotate("acme", old.key.id, overlap_seconds=9, act=Act(BY, NOW + SECOND))
    assert (lost.key.expires_us, again.key.expires_us) == (end_us, end_us)
    follower = await acme.keys.rotate("acme", again.key.id, overlap_seconds=9, act=Act(BY, NOW + SECOND))
    third = await acme.keys.rotate("acme", old.key.id, overlap_seconds=9, act=Act(BY, NOW + 2 * SECOND))
    assert (follower.key.expires_us, third.key.expires_us) == (end_us, end_us)
    ending = await acme.keys.show("acme", old.key.id)
    assert (ending.expires_us, ending.successor_id) == (NOW + 9 * SECOND, third.key.id)


async def test_only_an_active_key_is_rotated(acme: Directory) -> None:
    expired = await acme.keys.create("acme", expires_us=NOW + 1, act=Act(BY, NOW))
    revoked = await acme.keys.create("acme", act=Act(BY, NOW))
    await acme.keys.revoke("acme", revoked.key.id, act=Act(BY, NOW))
    for dead in (expired, revoked):
        with pytest.raises(Invalid):
            await acme.keys.rotate("acme", dead.key.id, overlap_seconds=1, act=Act(BY, NOW + 1))
    assert len((await acme.keys.list("acme")).values) == 2


async def test_a_closed_tenant_gets_no_key_and_its_keys_say_so(acme: Directory) -> None:
    minted = await acme.keys.create("acme", act=Act(BY, NOW))
    await acme.tenants.do("acme", "close", act=Act(BY, NOW))
    with pytest.raises(Invalid):
        await acme.keys.create("acme", act=Act(BY, NOW))
    with pytest.raises(Invalid):
        await acme.keys.rotate("acme", minted.key.id, overlap_seconds=1, act=Act(BY, NOW))
    found = await acme.keys.find(keys.hashed(minted.secret))
    assert found is not None
    assert found.tenant.state == "closed"


async def test_many_are_reread_at_once_and_a_bad_row_harms_its_own_key_only(
    acme: Directory, world: MemoryTable
) -> None:
    minted = [await acme.keys.create("acme", act=Act(BY, NOW)) for _ in range(120)]
    digests = [keys.hashed(one.secret) for one in minted]
    for how, digest in zip(DAMAGE, digests, strict=False):
        damage(world, Key(f"digest/{digest}"), how)
    damage(world, key_at(minted[7].key.tenant_id, minted[7].key.id), "no UTF-8")
    found = await acme.keys.reread([*digests, "f" * 64])
    assert list(found) == [*digests, "f" * 64]
    lost = [digest for digest, credentials in found.items() if credentials is None]
    assert lost == [*digests[: len(DAMAGE)], digests[7], "f" * 64]
    with pytest.raises(Unreadable):
        await acme.keys.list("acme")


@pytest.mark.parametrize("how", ["cut", "no UTF-8"])
@pytest.mark.parametrize("row", ["key", "tenant", "plan", "digest"])
async def test_credentials_with_a_row_missing_or_damaged_open_nothing(
    acme: Directory, world: MemoryTable, row: str, how: str
) -> None:
    minted = await acme.keys.create("acme", act=Act(BY, NOW))
    digest = keys.hashed(minted.secret)
    places = {
        "key": key_at(minted.key.tenant_id, minted.key.id),
        "tenant": tenant_at(minted.key.tenant_id),
        "plan": plan_at("team"),
        "digest": Key(f"digest/{digest}"),
    }
    assert await acme.keys.find(digest) is not None
    damage(world, places[row], how)
    assert await acme.keys.find(digest) is None
    del world.rows[places[row]]
    assert await acme.keys.find(digest) is None


# Plans and models


async def test_a_changed_plan_is_what_its_tenants_have_from_then_on(
    acme: Directory, world: MemoryTable
) -> None:
    minted = await acme.keys.create("acme", act=Act(BY, NOW))
    smaller = Plan("team", 1, Limits(10))
    for _ in range(2):
        await acme.values.put(smaller, act=Act(BY, NOW + 1))
    found = await acme.keys.find(keys.hashed(minted.secret))
    assert found is not None
    assert found.plan == smaller
    assert actions(world).count("plan.changed") == 1


async def test_a_changed_model_keeps_its_id(acme: Directory, world: MemoryTable) -> None:
    before = (await acme.values.models())["digits"]
    for _ in range(2):
        (after,) = await acme.values.put(Model("", "digits", "elsewhere", "*"), act=Act(BY, NOW + 1))
    assert after == msgspec.structs.replace(before, repository="elsewhere", tenants="*")
    assert (await acme.values.models())["digits"] == after
    assert actions(world).count("model.changed") == 1


async def test_a_model_that_makes_no_sense_is_refused(acme: Directory) -> None:
    for name, tenants, path in (
        ("../digits", "*", "name"),
        ("digits", ("acme", "Beta"), "tenants[1]"),
        ("digits", ("acme",) * 1001, "tenants"),
    ):
        with pytest.raises(Invalid) as refusal:
            await acme.values.put(Model("", name, "models", tenants), act=Act(BY, NOW))  # type: ignore[arg-type]
        assert refusal.value.path == path


@pytest.mark.parametrize("how", ["cut", "no UTF-8"])
async def test_a_model_that_cannot_be_read_is_not_there(
    acme: Directory, world: MemoryTable, how: str
) -> None:
    damage(world, model_at("digits"), how)
    assert list(await acme.values.models()) == ["secret"]


# Events and conditions


async def test_every_change_leaves_one_event_with_the_row_before_and_after(
    acme: Directory, world: MemoryTable
) -> None:
    minted = await acme.keys.create("acme", act=Act("cli:alice", NOW + 1))
    stored = world.rows[key_at(minted.key.tenant_id, minted.key.id)].value
    await acme.keys.revoke("acme", minted.key.id, act=Act("cli:bob", NOW + 2))
    revoked = world.rows[key_at(minted.key.tenant_id, minted.key.id)].value
    added = [event for event in events(world) if event.at_us > NOW]
    assert [(event.at_us, event.actor, event.action, event.subject) for event in added] == [
        (NOW + 1, "cli:alice", Action.KEY_CREATED, f"key/{minted.key.id}"),
        (NOW + 2, "cli:bob", Action.KEY_REVOKED, f"key/{minted.key.id}"),
    ]
    images = [[bytes(event.before), bytes(event.after)] for event in added]
    assert images == [[b"null", stored], [stored, revoked]]


async def test_a_tenant_that_is_closed_meanwhile_gets_no_key(acme: Directory, world: MemoryTable) -> None:
    class ClosesFirst(MemoryTable):
        async def transact(self, *items: Item) -> None:
            await acme.tenants.do("acme", "close", act=Act(BY, NOW))
            await world.transact(*items)

    racing = Directory(ClosesFirst(rows=world.rows), Random(8).randbytes)
    with pytest.raises(Invalid, match="is closed"):
        await racing.keys.create("acme", act=Act(BY, NOW))
    assert (await acme.keys.list("acme")).values == ()


def test_no_error_tells_a_private_word() -> None:
    assert TableUnavailable("10.0.0.7 refused").sentence == TableUnavailable().sentence
    assert "10.0.0.7" in str(TableUnavailable("10.0.0.7 refused"))
