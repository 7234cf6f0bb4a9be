"""A tenant's own KMS key: only one that can wrap is taken, and with another one every data key that is to live is wrapped anew."""

import asyncio
from typing import Any

import pytest
from msgspec import UNSET

from tenants import declare, kms
from tenants.acts import Act
from tenants.data_keys import DataKeyRecord
from tenants.directory import Directory
from tenants.documents import Documents, Source, parse
from tenants.errors import Conflict, Faulty, Invalid
from tenants.events import Action
from tenants.outline import outlined
from tenants.plans import Limits, Plan, Rate
from tests.tenants.replay import faults
from tests.worlds.kms import arn
from tests.worlds.table import MemoryTable, Pause

ACT = Act("cli:test", 1)
AUDIT, THEIRS, GOES, LATE = (f"d_{number:020d}" for number in range(4))
NOT_ONE = (
    "",
    "theirs",
    "arn:aws:kms:eu-west-1:111122223333:alias/theirs",
    "arn:aws:kms:eu-west-1:111122223333:key/",
    "arn:aws:s3:eu-west-1:111122223333:key/1234",
    arn(1) + "\n",
    arn(1) + "/x",
)


async def opened(table: MemoryTable, *, has_kms: bool = True) -> Directory:
    directory = Directory(table, lambda size: bytes(size - 2) + len(table.rows).to_bytes(2), has_kms=has_kms)
    if "acme" not in await directory.tenants.states(["acme"]):
        await directory.values.put(Plan("team", 2, Limits(1000, Rate(50.0, 100), 20)), act=ACT)
        await directory.tenants.create("acme", "team", ACT)
    return directory


async def given(directory: Directory, key_id: str, purpose: Any, wrapped_with: str | None) -> None:
    """A data key, as a gateway makes it."""
    owner = await directory.tenants.show("acme")
    await directory.data_keys.add(DataKeyRecord(key_id, owner.id, purpose, 2, wrapped_with), ACT)


def document(line: str = "") -> Documents:
    return parse([Source("a.yaml", "/", f"kind: Tenant\nname: acme\nplan: team\n{line}".encode())])


@pytest.mark.parametrize("key", NOT_ONE)
async def test_what_is_no_key_is_none_of_a_tenants_by_any_door(key: str) -> None:
    directory = await opened(MemoryTable())
    with pytest.raises(Invalid, match="kms_key: must be the ARN of a KMS key"):
        await directory.tenants.change("acme", ACT, kms_key=key)
    with pytest.raises(Invalid, match="kms_key: must be the ARN of a KMS key"):
        await directory.tenants.create("other", "team", ACT, kms_key=key)
    if key != "":
        (fault,) = document(f"kms_key: {key!r}".replace("\\n", "_")).faults
        assert fault.path == "kms_key"
    assert (await directory.tenants.show("acme")).kms_key is None


async def test_where_no_kms_wraps_a_key_is_refused_in_words_and_what_is_there_stays() -> None:
    table = MemoryTable()
    await (await opened(table)).tenants.change("acme", ACT, kms_key=arn(2))
    without = await opened(table, has_kms=False)
    with pytest.raises(Invalid, match=r"set keys\.kms_key"):
        await without.tenants.change("acme", ACT, kms_key=arn(3))
    with pytest.raises(Faulty, match=r"set keys\.kms_key"):
        await declare.apply(without, document(f"kms_key: {arn(3)}"), ACT)
    assert (await without.tenants.change("acme", ACT, plan="team", kms_key=arn(2))).kms_key == arn(2)
    assert not (await declare.apply(without, document(f"kms_key: {arn(2)}"), ACT)).changes
    assert (await without.tenants.change("acme", ACT, kms_key=None)).kms_key is None


async def test_a_document_gives_a_key_and_takes_it_and_silence_does_neither() -> None:
    directory = await opened(MemoryTable())
    for line, after in (
        ("", None),
        (f"kms_key: {arn(2)}", arn(2)),
        ("", arn(2)),
        (f"kms_key: {arn(3)}", arn(3)),
        (f"kms_key: {kms.NONE}", None),
    ):
        declared = document(line)
        before = (await directory.tenants.show("acme")).kms_key
        seen = outlined(declared, await declare.read(directory, declared))
        said = [it.fields.get("kms_key") for it in seen.differences]
        assert said == ([(before, after)] if before != after else [None])
        await declare.apply(directory, declared, ACT, seen=seen)
        assert (await directory.tenants.show("acme")).kms_key == after
    events = (await directory.tenants.events("acme")).values
    assert [it.action for it in events][-3:] == [Action.TENANT_CHANGED] * 3


async def test_with_another_key_all_that_is_to_live_is_wrapped_anew_and_no_more() -> None:
    table = MemoryTable()
    directory = await opened(table)
    keys = directory.data_keys
    await given(directory, AUDIT, "audit", None)
    await given(directory, THEIRS, "replies", arn(2))
    await given(directory, GOES, "capture", None)
    for key_id in await keys.due():  # the second one was made with a key that acme never had
        await keys.rewrapped((await directory.tenants.show("acme")).id, key_id, None, ACT)
    await keys.destroy("acme", GOES, ACT, wait_seconds=60, backup_days=7)
    owner = await directory.tenants.change("acme", ACT, kms_key=arn(2))
    assert await keys.due() == {owner.id: owner.id, GOES: owner.id}
    for _ in range(2):
        await keys.follow(owner.id, Act("gateway:caretaker", 5))
    assert set(await keys.due()) == {AUDIT, GOES, THEIRS}
    await keys.keep("acme", GOES, ACT)
    assert set(await keys.due()) == {AUDIT, GOES, THEIRS}  # what is kept is wrapped anew
    assert faults(table.rows) == []


async def test_a_data_key_that_was_made_with_the_key_before_is_wrapped_anew() -> None:
    directory = await opened(MemoryTable())
    await directory.tenants.change("acme", ACT, kms_key=arn(2))
    await directory.data_keys.follow((await directory.tenants.show("acme")).id, ACT)
    await given(directory, LATE, "audit", None)
    assert list(await directory.data_keys.due()) == [LATE]


async def test_a_key_that_changes_while_it_is_followed_is_followed_again() -> None:
    table = MemoryTable()
    directory = await opened(table)
    owner = await directory.tenants.change("acme", ACT, kms_key=arn(2), plan=UNSET)
    place = table.rows[next(at for at in table.rows if at.partition == "datakeys/due")]
    await directory.data_keys.follow(owner.id, ACT)
    await directory.tenants.change("acme", ACT, kms_key=arn(3))
    assert place.key in table.rows
    await directory.tenants.change("acme", ACT, kms_key=arn(3))  # the same again asks for nothing more
    await directory.data_keys.follow(owner.id, ACT)
    assert not await directory.data_keys.due()


async def test_a_key_that_changes_while_a_slow_gateway_follows_the_one_before_is_not_taken_for_followed() -> (
    None
):
    table = MemoryTable()
    directory = await opened(table)
    owner = await directory.tenants.change("acme", ACT, kms_key=arn(2))
    await given(directory, AUDIT, "audit", arn(2))
    slow = Pause()
    table.pauses_after += [slow]  # it has found that something is to be done
    following = asyncio.create_task(directory.data_keys.follow(owner.id, ACT))
    await slow.came.wait()
    other = await opened(table)
    await other.data_keys.follow(owner.id, ACT)  # another was faster
    late = Pause()
    table.pauses_before += [*(Pause(go=_gone()) for _ in range(2)), late]
    slow.go.set()
    await late.came.wait()  # it knows the key of before, and has nothing to do by it
    await other.tenants.change("acme", ACT, kms_key=arn(3))
    late.go.set()
    with pytest.raises(Conflict):
        await following
    assert owner.id in await other.data_keys.due()


def _gone() -> asyncio.Event:
    """Of a call that waits for nothing."""
    event = asyncio.Event()
    event.set()
    return event
