"""What can become of a tenant and of a key: every state with everything that can be done to it, as the tables say."""

from itertools import product
from typing import get_args

import pytest

from tenants import keys, tenant
from tenants.acts import Act
from tenants.directory import Directory
from tenants.errors import Invalid
from tenants.events import Action
from tenants.tenant import Deed, State, Tenant
from tests.tenants.conftest import BY, NOW, actions
from tests.worlds.table import MemoryTable

DAY = 86_400_000_000
LATER = NOW + DAY

# How a tenant comes to stand there.
WAY: dict[State, tuple[Deed, ...]] = {
    "active": (),
    "suspended": ("suspend",),
    "closing": ("close",),
    "closed": ("close",),
}
# A tenant that has not become another is told by no event.
EVENT: dict[tuple[State, Deed], Action] = {
    ("active", "suspend"): Action.TENANT_SUSPENDED,
    ("suspended", "resume"): Action.TENANT_RESUMED,
    ("active", "close"): Action.TENANT_CLOSING,
    ("suspended", "close"): Action.TENANT_CLOSING,
    ("closing", "reopen"): Action.TENANT_REOPENED,
}


async def bring(directory: Directory, state: State) -> Tenant:
    """acme in that state."""
    for deed in WAY[state]:
        end = NOW if state == "closed" else NOW + 2 * DAY
        await directory.tenants.do("acme", deed, Act(BY, NOW), closes_us=end if deed == "close" else None)
    found = await directory.tenants.show("acme")
    assert tenant.state(found, LATER) == state
    return found


@pytest.mark.parametrize(("state", "deed"), [*product(get_args(State), get_args(Deed))], ids=str)
async def test_a_deed_makes_of_a_tenant_what_the_table_says_or_changes_nothing(
    acme: Directory, world: MemoryTable, state: State, deed: Deed
) -> None:
    before = await bring(acme, state)
    told, rows = actions(world), dict(world.rows)
    end = LATER + 2 * DAY if deed == "close" else None
    after = tenant.NEXT.get((state, deed))
    if after is None:
        with pytest.raises(Invalid, match=f"it is {state}, and cannot {deed}"):
            await acme.tenants.do("acme", deed, Act(BY, LATER), closes_us=end)
        assert world.rows == rows
        return
    made = await acme.tenants.do("acme", deed, Act(BY, LATER), closes_us=end)
    assert tenant.state(made, LATER) == after
    assert await acme.tenants.show("acme") == made
    event = EVENT.get((state, deed))
    assert actions(world) == sorted([*told, *([event] if event else [])])
    if event is None:
        assert (made, world.rows) == (before, rows)


@pytest.mark.parametrize("state", ["active", "suspended", "closing"])
async def test_a_tenant_that_is_closed_without_a_grace_is_closed_at_once_and_for_ever(
    acme: Directory, state: State
) -> None:
    await bring(acme, state)
    closed = await acme.tenants.do("acme", "close", Act(BY, LATER))
    assert (closed.state, closed.closes_us) == ("closed", LATER)
    for deed in ("suspend", "resume", "reopen"):
        with pytest.raises(Invalid, match="it is closed"):
            await acme.tenants.do("acme", deed, Act(BY, LATER + 1))


async def test_a_closing_tenant_is_closed_from_its_very_microsecond_on_without_anybody_writing(
    acme: Directory, world: MemoryTable
) -> None:
    closing = await acme.tenants.do("acme", "close", Act(BY, NOW), closes_us=LATER)
    assert [tenant.state(closing, at) for at in (LATER - 1, LATER)] == ["closing", "closed"]
    rows = dict(world.rows)
    with pytest.raises(Invalid, match="it is closed, and cannot reopen"):
        await acme.tenants.do("acme", "reopen", Act(BY, LATER))
    assert world.rows == rows
    reopened = await acme.tenants.do("acme", "reopen", Act(BY, LATER - 1))
    assert (reopened.state, reopened.closes_us) == ("active", None)


async def test_closing_once_more_brings_the_end_nearer_and_never_puts_it_off(acme: Directory) -> None:
    await acme.tenants.do("acme", "close", Act(BY, NOW), closes_us=NOW + 50)
    later = await acme.tenants.do("acme", "close", Act(BY, NOW + 1), closes_us=NOW + 90)
    assert later.closes_us == NOW + 50
    sooner = await acme.tenants.do("acme", "close", Act(BY, NOW + 2), closes_us=NOW + 20)
    assert (sooner.state, sooner.closes_us) == ("closing", NOW + 20)


@pytest.mark.parametrize("state", ["suspended", "closing", "closed"])
async def test_a_tenant_that_is_not_served_gets_no_key_and_can_lose_those_that_it_has(
    acme: Directory, state: State
) -> None:
    minted = await acme.keys.create("acme", Act(BY, NOW))
    await bring(acme, state)
    with pytest.raises(Invalid, match=f"is {state}"):
        await acme.keys.create("acme", Act(BY, LATER))
    with pytest.raises(Invalid, match=f"is {state}"):
        await acme.keys.rotate("acme", minted.key.id, Act(BY, LATER), overlap_seconds=1)
    assert (await acme.keys.revoke("acme", minted.key.id, Act(BY, LATER))).revoked_us == LATER


@pytest.mark.parametrize("state", ["closing", "closed"])
async def test_nobody_joins_a_tenant_that_goes_and_everybody_may_leave_it(
    acme: Directory, state: State
) -> None:
    ann = await acme.members.invite("acme", "ann@acme.example", "admin", Act(BY, NOW))
    ci = await acme.accounts.create("acme", "ci", "developer", Act(BY, NOW))
    await bring(acme, state)
    with pytest.raises(Invalid, match=f"is {state}"):
        await acme.members.invite("acme", "bob@acme.example", "viewer", Act(BY, LATER))
    with pytest.raises(Invalid, match=f"is {state}"):
        await acme.accounts.create("acme", "cd", "viewer", Act(BY, LATER))
    await acme.members.remove("acme", ann.id, Act(BY, LATER))
    await acme.accounts.remove("acme", ci.id, Act(BY, LATER))


# Keys

HOUR = 3600 * 1_000_000
KEY_WAY: dict[keys.State, dict[str, object]] = {
    "active": {},
    "expiring": {"expires_us": NOW + HOUR},
    "rotating": {},
    "expired": {"expires_us": NOW + 1},
    "revoked": {},
}


async def bring_key(directory: Directory, state: keys.State) -> str:
    """The id of a key that stands there a second from now."""
    minted = await directory.keys.create("acme", Act(BY, NOW), **KEY_WAY[state])  # type: ignore[arg-type]
    key_id = minted.key.id
    if state == "rotating":
        await directory.keys.rotate("acme", key_id, Act(BY, NOW), overlap_seconds=3600)
    if state == "revoked":
        await directory.keys.revoke("acme", key_id, Act(BY, NOW))
    assert keys.state(await directory.keys.show("acme", key_id), NOW + 1_000_000) == state
    return key_id


@pytest.mark.parametrize("state", get_args(keys.State))
async def test_a_key_is_rotated_revoked_and_outlived_as_the_table_says(
    acme: Directory, state: keys.State
) -> None:
    now = NOW + 1_000_000
    rotated, revoked = await bring_key(acme, state), await bring_key(acme, state)
    if (state, "rotated") in keys.NEXT:
        await acme.keys.rotate("acme", rotated, Act(BY, now), overlap_seconds=60)
        assert keys.state(await acme.keys.show("acme", rotated), now) == keys.NEXT[state, "rotated"]
    else:
        with pytest.raises(Invalid, match=f"is {state}"):
            await acme.keys.rotate("acme", rotated, Act(BY, now), overlap_seconds=60)
    untouched = await bring_key(acme, state)
    gone = keys.state(await acme.keys.show("acme", untouched), now + 2 * HOUR)
    assert gone == keys.NEXT.get((state, "its time comes"), state)
    await acme.keys.revoke("acme", revoked, Act(BY, now))
    found = keys.state(await acme.keys.show("acme", revoked), now)
    assert found == "revoked" == keys.NEXT.get((state, "revoked"), state)


def test_a_key_that_works_no_more_never_works_again() -> None:
    for (before, _), after in keys.NEXT.items():
        assert after not in keys.WORKING or before in keys.WORKING
    assert {after for (before, _), after in keys.NEXT.items() if before == "revoked"} == set()
