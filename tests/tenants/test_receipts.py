"""An idempotency key: what was done under it is told again for a day, and never done twice."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from random import Random

import pytest

from tenants.acts import Act, Once
from tenants.directory import Directory
from tenants.directory.journal import RECEIPT_SECONDS
from tenants.errors import Repeated, Reused, TableUnavailable
from tenants.keys import ApiKey
from tenants.members import Member
from tenants.ports import Item, Row
from tenants.rows import Receipt, read, receipt_at
from tenants.tenant import Tenant
from tests.tenants.conftest import BY, NOW, actions
from tests.worlds.table import Fault, MemoryTable

DAY = RECEIPT_SECONDS * 1_000_000


def act(at_us: int = NOW + 1, key: str = "a" * 64, asked: str = "create beta") -> Act:
    return Act(BY, at_us, once=Once(key, asked))


async def create(directory: Directory, doing: Act) -> Tenant:
    """As a door does it: what was done already is told, and else it is done."""
    found = await directory.journal.receipt(doing, Tenant)
    return found or await directory.tenants.create("beta", "team", doing)


async def test_the_same_request_gets_the_same_answer_and_is_done_once(
    acme: Directory, world: MemoryTable
) -> None:
    first = await create(acme, act())
    rows = dict(world.rows)
    assert await create(acme, act(NOW + 2)) == first
    assert await create(acme, act(NOW + DAY)) == first
    assert world.rows == rows


async def test_an_answer_is_told_as_it_was_whatever_became_of_the_thing(acme: Directory) -> None:
    first = await create(acme, act())
    await acme.tenants.do("beta", "close", Act(BY, NOW + 2))
    assert (await create(acme, act(NOW + 3))).state == first.state == "active"


async def test_another_request_under_the_same_key_is_refused(acme: Directory, world: MemoryTable) -> None:
    await create(acme, act())
    rows = dict(world.rows)
    with pytest.raises(Reused):
        await acme.journal.receipt(act(asked="create gamma"), Tenant)
    assert world.rows == rows


async def test_of_two_who_come_at_once_one_does_it_and_the_other_is_told_so(
    acme: Directory, world: MemoryTable
) -> None:
    """Both have found no receipt."""
    first = await acme.tenants.create("beta", "team", act())
    rows = dict(world.rows)
    with pytest.raises(Repeated):
        await acme.tenants.create("beta", "team", act(NOW + 2))
    with pytest.raises(Reused):
        await acme.tenants.create("gamma", "team", act(NOW + 2, asked="create gamma"))
    assert world.rows == rows
    assert await acme.journal.receipt(act(NOW + 2), Tenant) == first


async def test_what_was_so_already_is_told_again_and_not_done_later(acme: Directory) -> None:
    await acme.tenants.do("acme", "suspend", Act(BY, NOW))
    before = await acme.journal.sequence()
    suspended = await acme.tenants.do("acme", "suspend", act(asked="suspend acme"))
    assert await acme.journal.sequence() == before
    await acme.tenants.do("acme", "resume", Act(BY, NOW + 2))
    with pytest.raises(Repeated):
        await acme.tenants.do("acme", "suspend", act(NOW + 3, asked="suspend acme"))
    assert await acme.journal.receipt(act(NOW + 3, asked="suspend acme"), Tenant) == suspended
    assert (await acme.tenants.show("acme")).state == "active"


async def test_another_key_is_another_request(acme: Directory) -> None:
    await create(acme, act())
    assert await acme.journal.receipt(act(key="b" * 64), Tenant) is None
    assert await acme.journal.receipt(Act(BY, NOW), Tenant) is None


async def test_a_key_is_free_again_after_a_day(acme: Directory, world: MemoryTable) -> None:
    await create(acme, act())
    other = act(NOW + 1 + DAY, asked="invite ann")
    assert await acme.journal.receipt(other, Member) is None
    invited = await acme.members.invite("acme", "ann@acme.example", "admin", other)
    assert await acme.journal.receipt(act(NOW + 2 + DAY, asked="invite ann"), Member) == invited
    assert actions(world).count("member.invited") == 1


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name)
async def test_a_request_whose_answer_was_lost_is_asked_again_and_done_once(
    acme: Directory, world: MemoryTable, fault: Fault
) -> None:
    before = dict(world.rows)
    world.write_faults.append(fault)
    with pytest.raises(TableUnavailable):
        await create(acme, act())
    made = fault is Fault.LOST_AFTER
    assert (world.rows != before) is made
    assert (await acme.journal.receipt(act(), Tenant) is not None) is made
    beta = await create(acme, act(NOW + 2))
    assert await acme.tenants.show("beta") == beta
    assert beta.created_us == (NOW + 1 if made else NOW + 2)
    assert actions(world).count("tenant.created") == 2


async def test_a_receipt_of_a_key_has_no_text_of_it(acme: Directory, world: MemoryTable) -> None:
    minted = await acme.keys.create("acme", act())
    assert await acme.journal.receipt(act(), ApiKey) == minted.key
    text = minted.secret.reveal()
    stored = b"".join(row.value for row in world.rows.values())
    assert not any(text[start : start + 5].encode() in stored for start in range(8, len(text) - 4))


async def test_what_is_refused_leaves_no_receipt_and_may_be_asked_again(acme: Directory) -> None:
    with pytest.raises(Exception, match="plan 'gold'"):
        await acme.tenants.create("beta", "gold", act())
    assert await acme.journal.receipt(act(), Tenant) is None


async def test_receipts_that_hold_no_more_go_as_new_ones_come_and_no_other_does(
    acme: Directory, world: MemoryTable
) -> None:
    def once(number: int, at_us: int) -> Act:
        return act(at_us, sha256(b"%d" % number).hexdigest())

    for number in range(200):
        await acme.tenants.do("acme", "resume", once(number, NOW))
    world.rows[receipt_at("0" * 64)] = Row(receipt_at("0" * 64), b"?", 1)  # opens no door and closes none
    for number in range(200, 500):
        await acme.tenants.do("acme", "resume", once(number, NOW + DAY))
    found = [row for row in world.rows.values() if row.key.partition == "receipts" and row.value != b"?"]
    times = [read(row, Receipt).at_us for row in found]
    assert times.count(NOW + DAY) == 300
    assert times.count(NOW) < 20


class Meanwhile(MemoryTable):
    """Somebody else does something just before the next write."""

    somebody: Callable[[], Awaitable[object]] | None = None

    async def transact(self, *items: Item) -> None:
        if (does := self.somebody) is not None:
            self.somebody = None
            await does()
        await MemoryTable.transact(self, *items)


async def test_what_needed_no_change_is_judged_anew_when_somebody_changed_it_meanwhile(
    acme: Directory, world: MemoryTable
) -> None:
    table = Meanwhile(world.rows)
    one, other = (Directory(table, Random(seed).randbytes) for seed in (1, 2))
    table.somebody = lambda: other.tenants.do("acme", "suspend", Act(BY, NOW + 1))
    await one.tenants.do("acme", "resume", act(NOW + 2))
    assert (await other.tenants.show("acme")).state == "active"


async def test_of_two_who_change_nothing_under_one_key_at_once_one_is_told_so(
    acme: Directory, world: MemoryTable
) -> None:
    table = Meanwhile(world.rows)
    one, other = (Directory(table, Random(seed).randbytes) for seed in (1, 2))
    table.somebody = lambda: other.tenants.do("acme", "resume", act(NOW + 1, asked="another"))
    with pytest.raises(Reused):
        await one.tenants.do("acme", "resume", act(NOW + 2))
