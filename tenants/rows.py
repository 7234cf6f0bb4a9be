"""How the directory looks in the table: where each row is, and how a change becomes rows. Pure.

    partition       sort               value
    tenants         <name>             TenantPointer
    tenant/<id>     tenant             Tenant
    tenant/<id>     key/<key id>       ApiKey
    digest/<hex>    (empty)            KeyPointer
    plans           <name>             Plan
    models          <name>             Model
    fleets          <name>             Fleet
    outbox          <at_us>-<id>       Event, until the audit log has it

Pointers are never removed: a name is never given to another tenant.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from tenants.errors import Unreadable
from tenants.events import Action, Event
from tenants.ids import Reference
from tenants.ports import Item, Key, Put, Row

_Value = TypeVar("_Value")


class TenantPointer(Struct, frozen=True, tag_field="v", tag=1):
    """From a name to a tenant. Stored as JSON, version 1; readers refuse any other."""

    tenant_id: Reference


class KeyPointer(Struct, frozen=True, tag_field="v", tag=1):
    """From a digest to a key. Stored as JSON, version 1; readers refuse any other."""

    tenant_id: Reference
    key_id: Reference


@dataclass(frozen=True, slots=True)
class Change:
    """One row as it was and will be, what was done to it, and the items that must go with it."""

    action: Action
    subject_id: str
    put: Put
    before: bytes | None
    also: tuple[Item, ...] = ()


def name_at(name: str) -> Key:
    return Key("tenants", name)


def tenant_at(tenant_id: str) -> Key:
    return Key(f"tenant/{tenant_id}", "tenant")


def key_at(tenant_id: str, key_id: str) -> Key:
    return Key(f"tenant/{tenant_id}", f"key/{key_id}")


def digest_at(digest: str) -> Key:
    return Key(f"digest/{digest}")


def plan_at(name: str) -> Key:
    return Key("plans", name)


def model_at(name: str) -> Key:
    return Key("models", name)


def fleet_at(name: str) -> Key:
    return Key("fleets", name)


def new_row(key: Key, value: Struct) -> Put:
    """A row that must be new."""
    return Put(key, msgspec.json.encode(value), expected=0)


def created(action: Action, subject_id: str, put: Put, *also: Item) -> Change:
    return Change(action, subject_id, put, None, also)


def changed(action: Action, subject_id: str, before: Row, value: Struct) -> Change:
    """Holds only while nobody else has written the row."""
    put = Put(before.key, msgspec.json.encode(value), before.version)
    return Change(action, subject_id, put, before.value)


def items(change: Change, event_id: str, actor: str, now_us: int) -> tuple[Item, ...]:
    """All that one change writes, its event among it."""
    event = Event(
        id=event_id,
        at_us=now_us,
        actor=actor,
        action=change.action,
        subject=f"{change.action.partition('.')[0]}/{change.subject_id}",
        before=Raw(b"null" if change.before is None else change.before),
        after=Raw(change.put.value),
    )
    return (change.put, *change.also, new_row(Key("outbox", f"{now_us:020d}-{event_id}"), event))


def read(row: Row, kind: type[_Value]) -> _Value:
    """Unreadable for damaged rows and unknown versions."""
    try:
        return msgspec.json.decode(row.value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"{row.key}: {error}") from error


def readable(rows: Mapping[Key, Row], kind: type[_Value]) -> dict[Key, _Value]:
    """What can be read of it; the rest counts as absent, so it opens no door."""
    found: dict[Key, _Value] = {}
    for key, row in rows.items():
        with suppress(Unreadable):
            found[key] = read(row, kind)
    return found
