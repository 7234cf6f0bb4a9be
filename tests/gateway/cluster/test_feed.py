"""What a record of the order of changes makes a gateway drop, and that one which cannot tell drops everything."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.auth.known import Known
from gateway.cluster import feed
from gateway.errors import Code
from tenants.directory import Minted
from tenants.errors import TableUnavailable
from tenants.events import Action, Changed
from tenants.fleet import Fleet
from tenants.keys import hashed
from tenants.model import Model
from tenants.plans import Limits, Plan
from tenants.ports import Key, Row
from tenants.rows import HEAD_AT, change_at, encoded, key_at, model_at
from tests.gateway.auth.world import ACT, Held, World, settled

CATALOGUE = {"models", "fleets"}


class Here:
    """A world with warm keys: two of acme's, one of its service account's, one of globex's."""

    def __init__(self, world: World, account_id: str, keys: dict[str, Minted]) -> None:
        self.world, self.account_id, self.keys = world, account_id, keys

    @classmethod
    async def open(cls) -> "Here":
        world = await World().open()
        account = await world.directory.accounts.create("acme", "ci", "developer", act=ACT)
        keys = {
            "first": await world.warm(),
            "second": await world.warm(),
            "account's": await world.warm(account_id=account.id),
            "globex's": await world.warm("globex"),
        }
        await world.seen()
        world.table.looked_up()
        return cls(world, account.id, keys)

    def named(self, digests: list[str]) -> set[str]:
        return {name for name, minted in self.keys.items() if hashed(minted.secret) in digests}

    def warm(self) -> set[str]:
        return {name for name, minted in self.keys.items() if self.world.is_warm(minted)}


Act = Callable[[Here], Awaitable[object]]


async def suspend(here: Here) -> None:
    await here.world.directory.tenants.do("acme", "suspend", act=ACT)


async def close(here: Here) -> None:
    await here.world.directory.tenants.do("globex", "close", act=ACT, closes_us=ACT.at_us + 5)


async def move(here: Here) -> None:
    await here.world.directory.tenants.move("globex", "team", act=ACT)


async def change_account(here: Here) -> None:
    await here.world.directory.accounts.change("acme", here.account_id, "viewer", act=ACT)


async def change_plan(here: Here) -> None:
    await here.world.directory.values.put(Plan("big", 1, Limits(body_bytes=99)), act=ACT)


async def put_model(here: Here) -> None:
    await here.world.directory.values.put(Model("", "digits", "/models", "*"), act=ACT)


async def put_fleet(here: Here) -> None:
    await here.world.directory.values.put(Fleet("local", idle_seconds=5), act=ACT)


async def invite(here: Here) -> None:
    await here.world.directory.members.invite("acme", "ann@acme.example", "admin", act=ACT)


async def create_key(here: Here) -> None:
    await here.world.key()


@pytest.mark.parametrize(
    ("act", "reread", "anew"),
    [
        (lambda here: here.world.revoke(here.keys["first"]), {"first"}, False),
        (suspend, {"first", "second", "account's"}, False),
        (close, {"globex's"}, False),
        (move, {"globex's"}, False),
        (change_account, {"account's"}, False),
        (change_plan, {"globex's"}, False),
        (put_model, set(), True),
        (put_fleet, set(), True),
        (invite, set(), False),
        (create_key, set(), False),
    ],
)
async def test_a_change_has_read_again_what_it_concerns_and_nothing_else(
    act: Act, reread: set[str], *, anew: bool
) -> None:
    here = await Here.open()
    await act(here)
    here.world.table.looked_up()
    await here.world.feed.look()
    assert bool(CATALOGUE & set(here.world.table.reads)) is anew
    assert here.named(list(here.world.table.looked_up())) == reread
    assert here.world.known.emptied == 0
    await here.world.feed.look()
    assert here.named(list(here.world.table.looked_up())) <= reread
    await here.world.feed.look()
    assert here.world.table.reads == ["head"]


@pytest.mark.parametrize("late", ["key", "model"])
async def test_a_change_whose_number_is_seen_before_its_rows_is_seen_by_the_next_look(late: str) -> None:
    """A table may show the rows of one transaction one after the other."""
    here = await Here.open()
    await put_model(here)
    await here.world.feed.look()
    first = here.keys["first"]
    at = key_at(first.key.tenant_id, first.key.id) if late == "key" else model_at("digits")
    before = here.world.table.rows[at]
    await here.world.revoke(first)
    await here.world.directory.values.put(Model("", "digits", "/models", ("acme",)), act=ACT)
    after = here.world.table.rows[at]
    here.world.table.rows[at] = before
    await here.world.feed.look()
    here.world.table.rows[at] = after
    await here.world.feed.look()
    assert await here.world.refused(first.secret) is Code.UNAUTHENTICATED
    assert here.world.known.models()["digits"].tenants == ("acme",)


async def test_documents_have_the_catalogue_read_anew() -> None:
    here = await Here.open()
    _rewrite(here, await _next(here), ("documents/7",))
    here.world.table.looked_up()
    await here.world.feed.look()
    assert set(here.world.table.reads) >= CATALOGUE


async def test_what_changed_is_served_as_it_is_after_the_look() -> None:
    here = await Here.open()
    first, account, theirs = here.keys["first"], here.keys["account's"], here.keys["globex's"]
    for act in (lambda it: it.world.revoke(first), change_account, change_plan, move):
        await act(here)
    await here.world.feed.look()
    assert await here.world.refused(first.secret) is Code.UNAUTHENTICATED
    assert (await here.world.called(account.secret)).subject.role == "viewer"
    assert (await here.world.called(theirs.secret)).plan.name == "team"
    await suspend(here)
    await here.world.feed.look()
    assert (await here.world.called(here.keys["second"].secret)).subject.tenant_state == "suspended"


async def test_keys_of_a_service_account_that_was_removed_are_nobodys() -> None:
    here = await Here.open()
    await here.world.directory.accounts.remove("acme", here.account_id, act=ACT)
    await here.world.feed.look()
    assert await here.world.refused(here.keys["account's"].secret) is Code.UNAUTHENTICATED


def test_every_kind_of_change_is_one_that_the_feed_knows() -> None:
    kinds = feed.OF_KEYS | feed.OF_THE_CATALOGUE | feed.OF_TOKENS | feed.OF_DATA_KEYS | feed.OF_NOTHING
    assert {action.partition(".")[0] for action in Action} == kinds
    record = Changed(
        1, 1, tuple(f"{kind}/x" for kind in kinds), (("tenant/t_acme", "event/1"), ("events", "1"))
    )
    told = {kind: {"x"} for kind in kinds}
    assert feed.subjects_of([record]) == {**told, "people": {"t_acme"}, "keyed": {"t_acme"}}


# Behind means empty


async def _next(here: Here) -> int:
    """The number of a change that was just made: one that concerns nobody."""
    await here.world.directory.members.invite(
        "acme", f"{len(here.world.table.rows)}@acme.example", "admin", act=ACT
    )
    return await here.world.directory.journal.last()


def _rewrite(here: Here, number: int, subjects: tuple[str, ...]) -> None:
    record = Changed(number, 1, subjects, ())
    here.world.table.rows[change_at(number)] = Row(change_at(number), encoded(record), 1)


async def gap(here: Here) -> None:
    for _ in range(3):
        last = await _next(here)
    del here.world.table.rows[change_at(last - 1)]


async def last_gone(here: Here) -> None:
    del here.world.table.rows[change_at(await _next(here))]


async def unreadable(here: Here) -> None:
    at = change_at(await _next(here))
    here.world.table.rows[at] = Row(at, b'{"v":2}', 1)


async def unheard_of(here: Here) -> None:
    _rewrite(here, await _next(here), ("robot/r_1",))


async def too_many(here: Here) -> None:
    head = here.world.table.rows[HEAD_AT]
    here.world.table.rows[HEAD_AT] = Row(HEAD_AT, head.value, head.version + feed.MOST_RECORDS + 1)


async def restored(here: Here) -> None:
    head = here.world.table.rows[HEAD_AT]
    here.world.table.rows[HEAD_AT] = Row(HEAD_AT, head.value, (here.world.feed.sequence or 0) - 1)


@pytest.mark.parametrize("fate", [gap, last_gone, unreadable, unheard_of, too_many, restored])
async def test_who_cannot_tell_what_changed_knows_no_key_any_more_and_reads_the_catalogue_anew(
    fate: Act,
) -> None:
    here = await Here.open()
    await here.world.revoke(here.keys["first"])
    await put_model(here)
    await fate(here)
    await here.world.feed.look()
    assert (here.warm(), here.world.known.emptied) == (set(), 1)
    assert here.world.known.model("digits") is not None
    assert await here.world.refused(here.keys["first"].secret) is Code.UNAUTHENTICATED
    await here.world.called(here.keys["second"].secret)
    await here.world.feed.look()
    assert (here.warm(), here.world.known.emptied) == ({"second"}, 1)


async def test_so_many_changes_as_one_read_gives_are_not_too_many() -> None:
    here = await Here.open()
    number = await here.world.directory.journal.last()
    for more in range(1, feed.MOST_RECORDS + 1):
        _rewrite(here, number + more, ("member/p_1",))
    _rewrite(here, number + 500, (f"key/{here.keys['first'].key.id}",))
    head = here.world.table.rows[HEAD_AT]
    here.world.table.rows[HEAD_AT] = Row(HEAD_AT, head.value, number + feed.MOST_RECORDS)
    here.world.table.looked_up()
    await here.world.feed.look()
    assert here.named(list(here.world.table.looked_up())) == {"first"}
    assert here.world.known.emptied == 0


async def test_a_head_whose_content_cannot_be_read_still_tells_its_number() -> None:
    here = await Here.open()
    await here.world.revoke(here.keys["first"])
    await put_model(here)
    head = here.world.table.rows[HEAD_AT]
    here.world.table.rows[HEAD_AT] = Row(HEAD_AT, b"?", head.version)
    await here.world.feed.look()
    assert here.world.feed.is_answered
    assert await here.world.refused(here.keys["first"].secret) is Code.UNAUTHENTICATED
    assert here.world.known.model("digits") is not None


# Between two reads


async def test_what_was_looked_up_across_a_change_is_not_remembered() -> None:
    """The answer is from before the revocation and comes after the look that saw it: that look could not drop it."""
    here = await Here.open()
    minted = await here.world.key()
    held = Held(here.world.table, "tenant/")
    call = asyncio.create_task(here.world.called(minted.secret))
    await held.reached.wait()
    await here.world.revoke_unseen(minted)
    held.prefix = "nothing"
    await here.world.feed.look()
    held.released.set()
    await call
    assert not here.world.is_warm(minted)
    assert await here.world.refused(minted.secret) is Code.UNAUTHENTICATED


async def test_what_was_looked_up_while_a_gateway_forgot_all_is_not_remembered() -> None:
    """Nobody can tell any more what it missed."""
    here = await Here.open()
    minted = await here.world.key()
    held = Held(here.world.table, "tenant/")
    call = asyncio.create_task(here.world.called(minted.secret))
    await held.reached.wait()
    await here.world.revoke_unseen(minted)
    held.prefix = "nothing"
    del here.world.table.rows[change_at(await here.world.directory.journal.last())]
    await here.world.feed.look()
    held.released.set()
    await call
    assert here.world.known.emptied == 1
    assert not here.world.is_warm(minted)
    assert await here.world.refused(minted.secret) is Code.UNAUTHENTICATED


async def test_an_unknown_key_that_was_looked_up_across_its_creation_is_not_remembered_as_unknown() -> None:
    here = await Here.open()
    minted = await here.world.key()
    at = Key(f"digest/{hashed(minted.secret)}")
    pointer = here.world.table.rows.pop(at)
    held = Held(here.world.table, "digest/")
    call = asyncio.create_task(here.world.refused(minted.secret))
    await held.reached.wait()
    here.world.table.rows[at] = pointer
    held.prefix = "nothing"
    await here.world.feed.look()
    held.released.set()
    assert await call is Code.UNAUTHENTICATED
    await here.world.called(minted.secret)


@pytest.mark.parametrize("prefix", ["digest/", "models"])
async def test_what_a_change_concerns_is_dropped_when_the_table_goes_before_it_could_be_read_again(
    prefix: str,
) -> None:
    here = await Here.open()
    await here.world.revoke(here.keys["first"])
    await put_model(here)

    async def goes(partition: str) -> None:
        if partition.startswith(prefix):
            raise TableUnavailable("gone")

    here.world.table.answer = goes
    await here.world.feed.look()
    assert here.warm() == {"second", "account's", "globex's"}


async def test_a_look_that_broke_off_is_made_good_by_the_next() -> None:
    here = await Here.open()
    await here.world.revoke(here.keys["first"])
    held = Held(here.world.table, "digest/")
    look = asyncio.create_task(here.world.feed.look())
    await held.reached.wait()
    look.cancel()
    await settled()
    held.released.set()
    await here.world.feed.look()
    assert here.world.known.emptied == 0
    assert await here.world.refused(here.keys["first"].secret) is Code.UNAUTHENTICATED
    assert here.warm() == {"second", "account's", "globex's"}


async def test_keys_that_take_too_long_to_read_again_are_dropped_and_the_look_counts() -> None:
    world = await World(answer_seconds=0.05).open()
    minted, other = await world.warm(), await world.warm("globex")
    await world.directory.tenants.do("acme", "suspend", act=ACT)
    Held(world.table, "digest/")
    await world.feed.look()
    assert (world.is_warm(minted), world.is_warm(other)) == (False, True)
    assert (world.feed.is_answered, world.known.age_seconds) == (True, 0)


async def test_whoever_waits_for_the_catalogue_is_told_when_it_is_another_and_only_then() -> None:
    told: list[Known] = []
    here = await Here.open()
    here.world.feed.renewed = lambda: told.append(here.world.known)
    await put_model(here)
    await here.world.feed.look()
    _rewrite(here, await _next(here), ("model/digits",))
    await here.world.feed.look()
    assert len(told) == 1
