"""How the directory looks in the table: where each row is, and how changes become rows. Pure.

    partition       sort                     value
    tenants         <name>                   TenantPointer
    tenant/<id>     tenant                   Tenant
    tenant/<id>     member/<id>              Member
    tenant/<id>     account/<id>             Account
    tenant/<id>     key/<id>                 ApiKey
    tenant/<id>     issuers                  TenantIssuers
    tenant/<id>     certificates             TenantCertificates
    tenant/<id>     datakey/<id>             DataKeyRecord; its wrapped bytes are in another table
    tenant/<id>     event/<sequence>/<n>     Event of the tenant, until the audit log has it
    digest/<hex>    (empty)                  KeyPointer
    used/<id>       <key id>                 Used; of operators' keys too
    datakeys/due    <id>                     KeyPointer: to that data key something is still to be done; with a tenant's id for the
                                             key's: to all of its keys that another KMS key wraps than its present one
    plans           <name>                   Plan
    plan/<name>     <tenant id>              (empty): that tenant is on the plan
    privacies       <name>                   Privacy
    privacy/<name>  <tenant id>              (empty): that tenant has the privacy
    models          <name>                   Model
    fleets          <name>                   Fleet
    issuers         <id>                     Issuer
    issuer/<hex>    <hex>                    OwnerPointer, by the SHA-256 of its URL and of its audience
    certificate/<hex>  (empty)               OwnerPointer, by the SHA-256 of a name in certificates and of which sort it is
    events          <sequence>/<n>           Event of no tenant, until the audit log has it
    changes         <sequence>               Changed, until the audit log has its events
    head            (empty)                  Head, and in its version the last sequence number
    receipts        <digest>                 Receipt; one that holds no more goes as others come
    documents       head                     Generation
    stages          <id>                     Stage
    stage/<id>      <n>                      Staged
    format          (empty)                  Format

Operators' keys are those of the tenant id `operator`, which has no row. Pointers of names and keys are never removed: a name is never
given to another tenant. An issuer with one audience is one owner's until that owner gives it up, and a name in certificates one tenant's.
Until events had a sequence number they were in the partition `outbox`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from tenants.acts import Act
from tenants.errors import Unreadable
from tenants.events import Action, Changed, Event
from tenants.holdings import Held
from tenants.ids import Reference
from tenants.ports import Check, Delete, Item, Key, Put, Row

OPERATOR: Final = "operator"
"""Stands for a tenant's id in the pointers and keys of operators."""
HEAD_AT: Final = Key("head")
DOCUMENTS_AT: Final = Key("documents", "head")
DUE: Final = "datakeys/due"
TENANTS: Final = "tenants"

_Value = TypeVar("_Value")


class TenantPointer(Struct, frozen=True, tag_field="v", tag=1):
    """From a name to a tenant. Stored as JSON, version 1; readers refuse any other."""

    tenant_id: Reference


class KeyPointer(Struct, frozen=True, tag_field="v", tag=1):
    """From a digest to a key. Stored as JSON, version 1; readers refuse any other."""

    tenant_id: Reference
    key_id: Reference


class OwnerPointer(Struct, frozen=True, tag_field="v", tag=1):
    """From what has one owner to whose it is; None: the platform's. Stored as JSON, version 1; readers refuse any other."""

    tenant_id: Reference | None


class Used(Struct, frozen=True, tag_field="v", tag=1):
    """When a key was last used, as some gateway noted it. No change: it is in no order and has no event.

    Stored as JSON, version 1; readers refuse any other.
    """

    at_us: int


class Receipt(Struct, frozen=True, tag_field="v", tag=1):
    """What came of the first act under an idempotency key: the value as stored, so never a secret.

    Stored as JSON, version 1; readers refuse any other.
    """

    asked: str
    at_us: int
    result: Raw


@dataclass(frozen=True, slots=True)
class Change:
    """One row as it was and will be, what was done to it and to whom, and the items that must go with it.

    `tenant_id` is whose change it is; None: nobody's. `after` None removes the row; where there was none either, what is changed is
    not kept in the table, and there is a place for it alone.
    """

    action: Action
    subject_id: str
    at: Key
    before: Row | None
    after: bytes | None
    tenant_id: str | None = None
    also: tuple[Item, ...] = ()

    @property
    def subject(self) -> str:
        return f"{self.action.partition('.')[0]}/{self.subject_id}"

    @property
    def item(self) -> Item:
        """Holds only while nobody else has written the row."""
        expected = self.before.version if self.before else 0
        if self.after is not None:
            return Put(self.at, self.after, expected)
        return Delete(self.at, expected) if self.before else Check(self.at, 0)


def name_at(name: str) -> Key:
    return Key(TENANTS, name)


def tenant_at(tenant_id: str) -> Key:
    return Key(f"tenant/{tenant_id}", "tenant")


def member_at(tenant_id: str, member_id: str) -> Key:
    return Key(f"tenant/{tenant_id}", f"member/{member_id}")


def account_at(tenant_id: str, account_id: str) -> Key:
    return Key(f"tenant/{tenant_id}", f"account/{account_id}")


def key_at(tenant_id: str, key_id: str) -> Key:
    return Key(f"tenant/{tenant_id}", f"key/{key_id}")


def data_key_at(tenant_id: str, key_id: str) -> Key:
    return Key(f"tenant/{tenant_id}", f"datakey/{key_id}")


def capture_at(tenant_id: str, request: str) -> Key:
    """No row is there: captures are not kept in the table."""
    return Key(f"tenant/{tenant_id}", f"capture/{request}")


def due_at(key_id: str) -> Key:
    return Key(DUE, key_id)


def digest_at(digest: str) -> Key:
    return Key(f"digest/{digest}")


def used_at(tenant_id: str, key_id: str) -> Key:
    return Key(f"used/{tenant_id}", key_id)


def plan_at(name: str) -> Key:
    return Key("plans", name)


def on_plan_at(plan: str, tenant_id: str) -> Key:
    return Key(f"plan/{plan}", tenant_id)


def privacy_at(name: str) -> Key:
    return Key("privacies", name)


def with_privacy_at(privacy: str, tenant_id: str) -> Key:
    return Key(f"privacy/{privacy}", tenant_id)


def model_at(name: str) -> Key:
    return Key("models", name)


def fleet_at(name: str) -> Key:
    return Key("fleets", name)


def issuer_at(issuer_id: str) -> Key:
    return Key("issuers", issuer_id)


def issuer_owners(url: str) -> str:
    """The partition of all that tells whose an issuer is."""
    return f"issuer/{sha256(url.encode()).hexdigest()}"


def holding_at(tenant_id: str, many: str) -> Key:
    """Where all that a tenant has of one sort is: its `issuers`, its `certificates`."""
    return Key(f"tenant/{tenant_id}", many)


def held_at(held: Held) -> Key:
    """Where it is told whose it is."""
    if held.sort == "issuer":
        return Key(issuer_owners(held.name), sha256(held.within.encode()).hexdigest())
    return Key(f"certificate/{sha256(f'{held.within}:{held.name}'.encode()).hexdigest()}")


def handed_over(before: Iterable[Held], after: Iterable[Held], tenant_id: str | None) -> tuple[Item, ...]:
    """What goes with a change of what somebody has: what was theirs is free, and what is theirs is said to be. That nobody else has it is
    for the caller to know; only the head keeps it true.
    """
    old, new = set(map(held_at, before)), set(map(held_at, after))
    value = encoded(OwnerPointer(tenant_id))
    return (
        *(Delete(at, None) for at in sorted(old - new)),
        *(Put(at, value, None) for at in sorted(new - old)),
    )


def change_at(sequence: int) -> Key:
    return Key("changes", f"{sequence:020d}")


def event_at(tenant_id: str | None, sequence: int, number: int) -> Key:
    place = f"{sequence:020d}/{number:02d}"
    return Key("events", place) if tenant_id is None else Key(f"tenant/{tenant_id}", f"event/{place}")


def receipt_at(key: str) -> Key:
    return Key("receipts", key)


def encoded(value: Struct) -> bytes:
    return msgspec.json.encode(value)


def new_row(key: Key, value: Struct) -> Put:
    """A row that must be new."""
    return Put(key, encoded(value), expected=0)


def transaction(
    changes: Sequence[Change], sequence: int, event_ids: Iterable[str], act: Act
) -> tuple[Item, ...]:
    """All that some changes write under their sequence number, their events among it; the head is not."""
    written: list[Item] = []
    places: list[tuple[str, str]] = []
    for number, (change, event_id) in enumerate(zip(changes, event_ids, strict=False)):
        at = event_at(change.tenant_id, sequence, number)
        event = Event(
            id=event_id,
            at_us=act.at_us,
            actor=act.actor,
            action=change.action,
            subject=change.subject,
            before=Raw(b"null" if change.before is None else change.before.value),
            after=Raw(b"null" if change.after is None else change.after),
            reason=act.reason,
            sequence=sequence,
        )
        places.append((at.partition, at.sort))
        written += (change.item, *change.also, new_row(at, event))
    subjects = tuple(dict.fromkeys(change.subject for change in changes))
    record = Changed(sequence, act.at_us, subjects, tuple(places))
    return (*written, new_row(change_at(sequence), record))


def read(row: Row, kind: type[_Value]) -> _Value:
    """Unreadable for damaged rows and unknown versions."""
    return decoded(row, kind, Unreadable)


def decoded(row: Row, kind: type[_Value], fault: Callable[[str], Exception]) -> _Value:
    """What a row of any table says. Raises that fault, with private words, for a damaged one and an unknown version: fails closed."""
    try:
        return msgspec.json.decode(row.value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise fault(f"{row.key}: {error}") from error


def readable(rows: Mapping[Key, Row], kind: type[_Value]) -> dict[Key, _Value]:
    """What can be read of it; the rest counts as absent, so it opens no door."""
    found: dict[Key, _Value] = {}
    for key, row in rows.items():
        with suppress(Unreadable):
            found[key] = read(row, kind)
    return found
