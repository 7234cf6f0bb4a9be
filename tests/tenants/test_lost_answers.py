"""Each change is tried with its answer lost before the write and after it, and then repeated."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from random import Random

import pytest
from msgspec.structs import replace

from tenants.acts import Act
from tenants.certificates import TenantCertificate
from tenants.directory import Directory
from tenants.errors import AlreadyExists, Invalid, NotFound, TableUnavailable
from tenants.fleet import Fleet
from tenants.issuers import Issuer, TenantIssuer
from tenants.model import Model
from tenants.plans import Limits, Plan
from tests.tenants.conftest import BY, NOW, events
from tests.worlds.table import Fault, MemoryTable, Pause

Change = Callable[[Directory], Awaitable[object]]
ACT = Act(BY, NOW + 1)


FREE = Plan("free", 1, Limits(10))
SHARED = Issuer("https://login.example", "gateway", tenant_claim="tenant")


@dataclass(frozen=True)
class Case:
    """What was done when the change went through once, what repeating it raises, and what is done in the end: the same, if not said.

    `before` is what there must be first.
    """

    change: Change
    once: list[str]
    repeated: type[Exception] | None = None
    in_the_end: list[str] | None = None
    before: Change | None = None


async def only_key(directory: Directory) -> str:
    return ((await directory.keys.list("acme")).values)[0].id


async def create_beta(directory: Directory) -> object:
    return await directory.tenants.create("beta", "team", act=Act(BY, NOW + 1))


async def close(directory: Directory) -> object:
    return await directory.tenants.do("acme", "close", act=Act(BY, NOW + 1))


async def create_key(directory: Directory) -> object:
    return await directory.keys.create("acme", act=Act(BY, NOW + 1))


async def revoke(directory: Directory) -> object:
    return await directory.keys.revoke("acme", await only_key(directory), act=Act(BY, NOW + 1))


async def rotate(directory: Directory) -> object:
    key_id = await only_key(directory)
    return await directory.keys.rotate("acme", key_id, overlap_seconds=60, act=Act(BY, NOW + 1))


async def rotate_at_once(directory: Directory) -> object:
    key_id = await only_key(directory)
    return await directory.keys.rotate("acme", key_id, overlap_seconds=0, act=Act(BY, NOW + 1))


async def put_plan(directory: Directory) -> None:
    await directory.values.put(Plan("team", 1, Limits(10)), act=Act(BY, NOW + 1))


async def put_model(directory: Directory) -> object:
    return await directory.values.put(Model("", "digits", "elsewhere", "*"), act=Act(BY, NOW + 1))


async def put_fleet(directory: Directory) -> None:
    await directory.values.put(Fleet("local", idle_seconds=5), act=Act(BY, NOW + 1))


# What there must be first, and what is done then.


async def put_free(directory: Directory) -> None:
    await directory.values.put(FREE, act=Act(BY, NOW))


async def put_gpu(directory: Directory) -> None:
    await directory.values.put(Fleet("gpu"), act=Act(BY, NOW))


async def suspended(directory: Directory) -> None:
    await directory.tenants.do("acme", "suspend", Act(BY, NOW))


async def closing(directory: Directory) -> None:
    await directory.tenants.do("acme", "close", Act(BY, NOW), closes_us=NOW + 99)


async def ann(directory: Directory) -> None:
    await directory.members.invite("acme", "ann@acme.example", "admin", Act(BY, NOW))


async def ci(directory: Directory) -> None:
    await directory.accounts.create("acme", "ci", "admin", Act(BY, NOW))


async def operators_key(directory: Directory) -> None:
    await directory.keys.create(None, Act(BY, NOW))


async def move(directory: Directory) -> None:
    await directory.tenants.move("acme", "free", ACT)


async def suspend(directory: Directory) -> None:
    await directory.tenants.do("acme", "suspend", ACT)


async def resume(directory: Directory) -> None:
    await directory.tenants.do("acme", "resume", ACT)


async def close_later(directory: Directory) -> None:
    await directory.tenants.do("acme", "close", ACT, closes_us=NOW + 99)


async def reopen(directory: Directory) -> None:
    await directory.tenants.do("acme", "reopen", ACT)


async def invite(directory: Directory) -> None:
    await directory.members.invite("acme", "ann@acme.example", "admin", ACT)


async def change_member(directory: Directory) -> None:
    only = (await directory.members.list("acme")).values[0].id
    await directory.members.change("acme", only, "viewer", ACT)


async def remove_member(directory: Directory) -> None:
    listed = (await directory.members.list("acme")).values
    await directory.members.remove("acme", listed[0].id if listed else "u_00000000000000000000", ACT)


async def create_account(directory: Directory) -> None:
    await directory.accounts.create("acme", "ci", "admin", ACT)


async def change_account(directory: Directory) -> None:
    only = (await directory.accounts.list("acme")).values[0].id
    await directory.accounts.change("acme", only, "viewer", ACT)


async def remove_account(directory: Directory) -> None:
    listed = (await directory.accounts.list("acme")).values
    await directory.accounts.remove("acme", listed[0].id if listed else "s_00000000000000000000", ACT)


async def create_operators_key(directory: Directory) -> None:
    await directory.keys.create(None, ACT)


async def revoke_operators_key(directory: Directory) -> None:
    await directory.keys.revoke(None, (await directory.keys.list(None)).values[0].id, ACT)


async def put_many(directory: Directory) -> None:
    model = Model("", "big", "models", "*", fleet="gpu")
    await directory.values.put(FREE, model, Fleet("gpu"), act=ACT)


async def remove_plan(directory: Directory) -> None:
    await directory.values.remove(Plan, "free", ACT)


async def remove_model(directory: Directory) -> None:
    await directory.values.remove(Model, "digits", ACT)


async def trust(directory: Directory) -> None:
    await directory.issuers.put("acme", [TenantIssuer("https://login.acme.example", "gateway")], ACT)


async def certify(directory: Directory) -> None:
    one = TenantCertificate("ingest", dns="ingest.acme.example")
    await directory.certificates.put("acme", [one], ACT)


async def delete_capture(directory: Directory) -> None:
    await directory.captures.deleted("acme", "r1", ACT)


async def shared(directory: Directory) -> None:
    await directory.values.put(SHARED, act=Act(BY, NOW))


async def put_issuer(directory: Directory) -> None:
    await directory.values.put(replace(SHARED, audience="else"), act=ACT)


async def remove_issuer(directory: Directory) -> None:
    await directory.values.remove(Issuer, SHARED.id, ACT)


async def remove_fleet(directory: Directory) -> None:
    await directory.values.remove(Fleet, "gpu", ACT)


CASES = [
    Case(create_beta, ["tenant.created"], AlreadyExists),
    Case(move, ["tenant.changed"], before=put_free),
    Case(suspend, ["tenant.suspended"]),
    Case(resume, ["tenant.resumed"], before=suspended),
    Case(close, ["tenant.closed"]),
    Case(close_later, ["tenant.closing"]),
    Case(reopen, ["tenant.reopened"], before=closing),
    Case(invite, ["member.invited"], AlreadyExists),
    Case(change_member, ["member.changed"], before=ann),
    Case(remove_member, ["member.removed"], NotFound, before=ann),
    Case(create_account, ["account.created"], AlreadyExists),
    Case(change_account, ["account.changed"], before=ci),
    Case(remove_account, ["account.removed"], NotFound, before=ci),
    Case(create_key, ["key.created"], None, ["key.created", "key.created"]),
    Case(create_operators_key, ["key.created"], None, ["key.created", "key.created"]),
    Case(revoke_operators_key, ["key.revoked"], before=operators_key),
    Case(revoke, ["key.revoked"]),
    Case(
        rotate,
        ["key.created", "key.rotated"],
        None,
        ["key.created", "key.created", "key.rotated", "key.rotated"],
    ),
    Case(rotate_at_once, ["key.created", "key.rotated"], Invalid),
    Case(put_plan, ["plan.changed"]),
    Case(put_model, ["model.changed"]),
    Case(put_fleet, ["fleet.changed"]),
    Case(put_many, ["fleet.created", "model.created", "plan.created"]),
    Case(remove_plan, ["plan.removed"], NotFound, before=put_free),
    Case(remove_model, ["model.removed"], NotFound),
    Case(trust, ["issuer.assigned"]),
    Case(certify, ["certificate.assigned"]),
    Case(delete_capture, ["capture.deleted"], None, ["capture.deleted", "capture.deleted"]),
    Case(put_issuer, ["issuer.changed"], before=shared),
    Case(remove_issuer, ["issuer.removed"], NotFound, before=shared),
    Case(remove_fleet, ["fleet.removed"], NotFound, before=put_gpu),
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.change.__name__)


def done(world: MemoryTable) -> list[str]:
    """What the change did, without what was there before it."""
    return sorted(event.action for event in events(world) if event.at_us > NOW)


@pytest.fixture
async def ready(acme: Directory, case: Case) -> Directory:
    await acme.keys.create("acme", act=Act(BY, NOW))
    if case.before:
        await case.before(acme)
    return acme


@cases
async def test_a_change_that_never_arrived_is_made_by_repeating_it(
    ready: Directory, world: MemoryTable, case: Case
) -> None:
    before = dict(world.rows)
    world.write_faults.append(Fault.LOST_BEFORE)
    with pytest.raises(TableUnavailable):
        await case.change(ready)
    assert world.rows == before
    await case.change(ready)
    assert done(world) == case.once


@cases
async def test_a_change_that_was_made_unheard_ends_as_its_docstring_says_when_repeated(
    ready: Directory, world: MemoryTable, case: Case
) -> None:
    world.write_faults.append(Fault.LOST_AFTER)
    with pytest.raises(TableUnavailable):
        await case.change(ready)
    assert done(world) == case.once
    with pytest.raises(case.repeated) if case.repeated else nullcontext():
        await case.change(ready)
    assert done(world) == (case.in_the_end or case.once)


@pytest.mark.parametrize(
    "ask",
    [
        *(create_beta, close, create_key, revoke, rotate, put_plan, put_model, put_fleet),
        lambda directory: directory.keys.find("0" * 64),
        lambda directory: directory.values.models(),
        lambda directory: directory.tenants.list(),
    ],
)
async def test_a_table_that_is_gone_is_said_to_be(acme: Directory, world: MemoryTable, ask: Change) -> None:
    before = dict(world.rows)
    world.gone = True
    with pytest.raises(TableUnavailable):
        await ask(acme)
    assert world.rows == before


async def test_a_throttled_table_answers_later(acme: Directory, world: MemoryTable) -> None:
    world.throttled = 1
    with pytest.raises(TableUnavailable):
        await acme.values.models()
    assert list(await acme.values.models()) == ["digits", "secret"]


async def names(directory: Directory) -> list[str]:
    """Of all tenants, page by page."""
    page = await directory.tenants.list()
    found = [*page.values]
    while page.next_after is not None:
        page = await directory.tenants.list(page.next_after)
        found += page.values
    return [tenant.name for tenant in found]


async def test_pages_that_are_short_or_empty_hide_nothing(acme: Directory, world: MemoryTable) -> None:
    for name in ("beta", "gamma", "delta"):
        await acme.tenants.create(name, "team", Act(BY, NOW))
    whole = await names(acme)
    world.page_rows.extend([0, 1, 0, 2, 0])
    assert await names(acme) == whole == ["acme", "beta", "delta", "gamma"]
    assert not world.page_rows


async def test_a_slow_change_is_made_once_though_it_is_asked_for_again_meanwhile(
    acme: Directory, world: MemoryTable
) -> None:
    looks = [Pause() for _ in range(3)]  # at the head, its plan and its name; what is slow is the write
    for look in looks:
        look.go.set()
    pause = Pause()
    world.pauses_before.extend([*looks, pause])
    slow = asyncio.ensure_future(create_beta(acme))
    await pause.came.wait()
    await create_beta(Directory(world, Random(9).randbytes))
    pause.go.set()
    with pytest.raises(AlreadyExists):
        await slow
    assert done(world) == ["tenant.created"]
