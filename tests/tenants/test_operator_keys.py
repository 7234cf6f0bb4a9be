"""Operators' keys control, and are never a credential for a model; a tenant's key is never one of an operator's."""

import pytest

from tenants import keys
from tenants.acts import Act
from tenants.directory import Directory
from tenants.errors import Invalid, NotFound
from tests.tenants.conftest import BY, NOW, events
from tests.worlds.table import MemoryTable

ACT = Act(BY, NOW + 1)


async def test_an_operators_key_is_identified_while_it_works(directory: Directory) -> None:
    minted = await directory.keys.create(None, ACT, name="ann", expires_us=NOW + 50)
    digest = keys.hashed(minted.secret)
    found = await directory.keys.identify(digest, NOW + 49)
    assert found is not None
    assert (found.key, found.tenant, found.account) == (minted.key, None, None)
    assert await directory.keys.identify(digest, NOW + 50) is None


async def test_a_revoked_key_of_an_operator_is_nobodys(directory: Directory) -> None:
    minted = await directory.keys.create(None, ACT)
    await directory.keys.revoke(None, minted.key.id, ACT)
    assert await directory.keys.identify(keys.hashed(minted.secret), NOW + 2) is None
    assert (await directory.keys.show(None, minted.key.id)).revoked_us == ACT.at_us


async def test_an_operators_key_calls_no_model(acme: Directory) -> None:
    operators, tenants = await acme.keys.create(None, ACT), await acme.keys.create("acme", ACT)
    digests = [keys.hashed(operators.secret), keys.hashed(tenants.secret)]
    found = await acme.keys.reread(digests)
    assert [found[digest] is None for digest in digests] == [True, False]
    assert await acme.keys.find(digests[0]) is None


async def test_a_tenants_key_is_no_operators(acme: Directory) -> None:
    minted = await acme.keys.create("acme", ACT)
    found = await acme.keys.identify(keys.hashed(minted.secret), NOW + 2)
    assert found is not None
    assert found.tenant == await acme.tenants.show("acme")
    assert found.account is None
    with pytest.raises(NotFound):
        await acme.keys.show(None, minted.key.id)
    with pytest.raises(NotFound):
        await acme.keys.revoke(None, minted.key.id, ACT)


@pytest.mark.parametrize(("state", "known"), [("suspended", True), ("closing", True), ("closed", False)])
async def test_a_tenant_that_is_not_served_still_sees_itself_until_it_is_closed(
    acme: Directory, state: str, *, known: bool
) -> None:
    minted = await acme.keys.create("acme", ACT)
    end = {"suspended": None, "closing": NOW + 90, "closed": NOW + 60}[state]
    deed = "suspend" if state == "suspended" else "close"
    await acme.tenants.do("acme", deed, ACT, closes_us=end)  # type: ignore[arg-type]
    found = await acme.keys.identify(keys.hashed(minted.secret), NOW + 60)
    assert (found is not None) is known


async def test_an_operators_key_has_no_models_and_no_account(acme: Directory) -> None:
    account = await acme.accounts.create("acme", "ci", "admin", ACT)
    with pytest.raises(Invalid, match="models"):
        await acme.keys.create(None, ACT, models=("digits",))
    with pytest.raises(Invalid, match="account_id"):
        await acme.keys.create(None, ACT, account_id=account.id)


async def test_an_operators_key_is_rotated_and_told_among_what_is_of_no_tenant(
    acme: Directory, world: MemoryTable
) -> None:
    old = await acme.keys.create(None, ACT, name="ann")
    new = await acme.keys.rotate(None, old.key.id, ACT, overlap_seconds=60)
    assert {key.id for key in (await acme.keys.list(None)).values} == {old.key.id, new.key.id}
    assert (await acme.keys.list("acme")).values == ()
    told = [event for event in events(world) if event.at_us > NOW]
    page = await acme.values.events()
    assert [it.action for it in told] == ["key.created", "key.created", "key.rotated"]
    assert [it.id for it in page.values if it.at_us > NOW] == [it.id for it in told]
    assert await acme.keys.identify("0" * 64, NOW) is None
