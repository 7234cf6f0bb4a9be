"""Who acts for a tenant: people, each of an email, and service accounts, each of a name; what goes with them when they go."""

from collections.abc import Awaitable, Callable

import pytest

from tenants import keys
from tenants.acts import Act
from tenants.directory import Directory
from tenants.directory.members import MOST
from tenants.errors import AlreadyExists, Invalid, NotFound, Stale
from tenants.members import ROLES, Account, Member
from tenants.ports import Row
from tenants.rows import account_at, encoded, member_at
from tests.tenants.conftest import BY, NOW, actions, events
from tests.worlds.table import MemoryTable

ACT = Act(BY, NOW + 1)


async def add_member(directory: Directory, tenant: str = "acme", name: str = "ann") -> Member:
    return await directory.members.invite(tenant, f"{name}@acme.example", "admin", ACT)


async def add_account(directory: Directory, tenant: str = "acme", name: str = "ann") -> Account:
    return await directory.accounts.create(tenant, name, "admin", ACT)


Add = Callable[..., Awaitable[Member | Account]]
both = pytest.mark.parametrize(
    ("add", "roster", "kind"), [(add_member, "members", "member"), (add_account, "accounts", "account")]
)


@both
async def test_one_is_added_changed_and_removed_and_each_is_told(
    acme: Directory, world: MemoryTable, add: Add, roster: str, kind: str
) -> None:
    those = getattr(acme, roster)
    one = await add(acme)
    assert (await those.find("acme", one.id)).value == one
    changed = await those.change("acme", one.id, "viewer", Act(BY, NOW + 2))
    assert (changed.id, changed.role) == (one.id, "viewer")
    assert await those.change("acme", one.id, "viewer", Act(BY, NOW + 3)) == changed
    assert (await those.list("acme")).values == (changed,)
    await those.remove("acme", one.id, Act(BY, NOW + 4))
    assert (await those.list("acme")).values == ()
    with pytest.raises(NotFound):
        await those.find("acme", one.id)
    added = {"member": "invited", "account": "created"}[kind]
    told = [event for event in events(world) if event.at_us > NOW]
    assert [it.action for it in told] == [f"{kind}.{what}" for what in (added, "changed", "removed")]
    assert {it.subject for it in told} == {f"{kind}/{one.id}"}
    assert bytes(told[-1].after) == b"null"


@both
async def test_what_one_is_known_by_is_once_in_a_tenant_and_free_again_behind_it(
    acme: Directory, add: Add, roster: str, kind: str
) -> None:
    await acme.tenants.create("beta", "team", ACT)
    one = await add(acme)
    with pytest.raises(AlreadyExists, match=kind):
        await add(acme)
    await add(acme, "beta")
    await getattr(acme, roster).remove("acme", one.id, ACT)
    assert (await add(acme)).id != one.id


async def test_an_address_in_other_case_is_the_same_person(acme: Directory) -> None:
    assert (await acme.members.invite("acme", "Ann@ACME.example", "admin", ACT)).email == "ann@acme.example"
    with pytest.raises(AlreadyExists):
        await acme.members.invite("acme", "aNN@acme.example", "viewer", ACT)


@pytest.mark.parametrize(
    "address",
    ["", "ann", "@acme.example", "ann@", "ann@@acme.example", "a n@acme.example", "a@b\n", "a" * 255],
)
async def test_what_is_no_address_is_refused_by_its_path(acme: Directory, address: str) -> None:
    with pytest.raises(Invalid) as refusal:
        await acme.members.invite("acme", address, "admin", ACT)
    assert refusal.value.path == "email"


@both
async def test_a_role_that_is_none_is_refused_and_every_role_is_known(
    acme: Directory, add: Add, roster: str, kind: str
) -> None:
    one = await add(acme)
    for role in ROLES:
        assert (await getattr(acme, roster).change("acme", one.id, role, ACT)).role == role
    with pytest.raises(Invalid, match="role: must be one of admin, developer, viewer, billing"):
        await getattr(acme, roster).change("acme", one.id, "operator", ACT)
    assert kind == roster.removesuffix("s")


async def test_an_account_has_a_name_that_fits_in_a_path(acme: Directory) -> None:
    for name in ("", "CI", "../ci", "a" * 64):
        with pytest.raises(Invalid, match="name"):
            await acme.accounts.create("acme", name, "viewer", ACT)


@both
async def test_one_of_another_tenant_is_not_found(acme: Directory, add: Add, roster: str, kind: str) -> None:
    await acme.tenants.create("beta", "team", ACT)
    one, those = await add(acme, "beta"), getattr(acme, roster)
    asked: list[Awaitable[object]] = [
        those.find("acme", one.id),
        those.change("acme", one.id, "viewer", ACT),
        those.remove("acme", one.id, ACT),
        those.find("acme", "tenant"),
        those.find("acme", "\ud800"),
    ]
    for question in asked:
        with pytest.raises(NotFound, match=kind):
            await question
    assert (await those.find("beta", one.id)).value == one


@both
async def test_a_tenant_has_a_thousand_of_them_and_no_more(
    acme: Directory, world: MemoryTable, add: Add, roster: str, kind: str
) -> None:
    owner = await acme.tenants.show("acme")
    for number in range(MOST):
        one_id = f"{kind[0]}_{number:020d}"
        value: Member | Account = (
            Member(one_id, owner.id, f"{number}@acme.example", "viewer", NOW)
            if kind == "member"
            else Account(one_id, owner.id, f"a{number}", "viewer", NOW)
        )
        at = (member_at if kind == "member" else account_at)(owner.id, one_id)
        world.rows[at] = Row(at, encoded(value), 1)
    with pytest.raises(Invalid, match="1000"):
        await add(acme)
    await getattr(acme, roster).remove("acme", f"{kind[0]}_{0:020d}", ACT)
    await add(acme)


@both
async def test_a_change_of_what_was_changed_meanwhile_is_refused(
    acme: Directory, add: Add, roster: str, kind: str
) -> None:
    those = getattr(acme, roster)
    one = await add(acme)
    seen = await those.find("acme", one.id)
    await those.change("acme", one.id, "viewer", ACT, expected=seen.version)
    with pytest.raises(Stale, match=kind):
        await those.change("acme", one.id, "billing", ACT, expected=seen.version)
    with pytest.raises(Stale, match=kind):
        await those.remove("acme", one.id, ACT, expected=seen.version)
    now = await those.find("acme", one.id)
    assert now.value.role == "viewer"
    await those.remove("acme", one.id, ACT, expected=now.version)


# What an account's keys are


async def test_a_key_acts_in_the_role_that_its_account_has_now(acme: Directory) -> None:
    account = await add_account(acme, name="ci")
    minted = await acme.keys.create("acme", ACT, account_id=account.id)
    await acme.accounts.change("acme", account.id, "viewer", ACT)
    found = await acme.keys.identify(keys.hashed(minted.secret), NOW + 2)
    assert found is not None
    assert found.account is not None
    assert (found.account.id, found.account.role) == (account.id, "viewer")


async def test_a_removed_account_takes_its_keys_with_it_for_good(acme: Directory, world: MemoryTable) -> None:
    account = await add_account(acme, name="ci")
    minted = await acme.keys.create("acme", ACT, account_id=account.id)
    other = await acme.keys.create("acme", ACT)
    digest = keys.hashed(minted.secret)
    await acme.accounts.remove("acme", account.id, ACT)
    assert await acme.keys.find(digest) is None
    assert await acme.keys.identify(digest, NOW + 2) is None
    assert await acme.keys.find(keys.hashed(other.secret)) is not None
    told = actions(world)
    with pytest.raises(NotFound, match="account"):
        await acme.keys.rotate("acme", minted.key.id, ACT, overlap_seconds=60)
    with pytest.raises(NotFound, match="account"):
        await acme.keys.create("acme", ACT, account_id=account.id)
    await add_account(acme, name="ci")  # another of the same name is not the same
    assert await acme.keys.find(digest) is None
    assert actions(world) == sorted([*told, "account.created"])
    assert (await acme.keys.revoke("acme", minted.key.id, ACT)).revoked_us == ACT.at_us


async def test_a_rotated_key_is_of_the_same_account(acme: Directory) -> None:
    account = await add_account(acme, name="ci")
    old = await acme.keys.create("acme", ACT, account_id=account.id)
    new = await acme.keys.rotate("acme", old.key.id, ACT, overlap_seconds=60)
    assert (old.key.account_id, new.key.account_id, new.key.successor_id) == (account.id, account.id, None)


async def test_a_key_is_of_no_account_of_another_tenant(acme: Directory) -> None:
    await acme.tenants.create("beta", "team", ACT)
    account = await add_account(acme, "beta", "ci")
    with pytest.raises(NotFound, match="account"):
        await acme.keys.create("acme", ACT, account_id=account.id)
