"""What this room needs from outside: a Table of small records, and an Authorizer. Docstrings say what is true on return.

The Table's shape is what DynamoDB and SQLite can both keep. Its adapters live in `gateway/stores`;
`tests/contracts/table.py` is their exam. The Authorizer's is `gateway/authz/control.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from tenants.members import Role
from tenants.tenant import State

MOST_ITEMS = 25
MOST_KEYS = 100
MOST_ROWS = 1000
MOST_COUNT = 2**53
# DynamoDB holds 400 KB an item, its key and the names of its attributes included.
VALUE_BYTES = 350_000
# Of each part of a key. A sort key has 1,024 in DynamoDB and may not be empty: the rest is for what an adapter makes of "".
KEY_BYTES = 1000
# Of a transaction's keys and new values together; DynamoDB takes 4 MB.
TRANSACTION_BYTES = 3_500_000
# A page ends with the row whose value reaches this, if not before; DynamoDB ends one at 1 MB.
PAGE_BYTES = 1_048_576


class Key(NamedTuple):
    """Where a row is. The partition is not empty; its rows are ordered by the UTF-8 bytes of `sort`."""

    partition: str
    sort: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """What was found. `version` is 1 for a new row and one more with each write.

    After a delete it is 1 again: it tells a row from its earlier states, not from another that came in its place.
    """

    key: Key
    value: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows in order. `next_after` is the `after` of the next page, None when there is no more.

    It comes behind the `after` that was asked with, and need not be the place of a row.
    """

    rows: tuple[Row, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class Put:
    """Write the row if its version is `expected`; 0 means that there must be none, None that any will do."""

    key: Key
    value: bytes
    expected: int | None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the row if its version is `expected`; with 0 or None it may be absent."""

    key: Key
    expected: int | None


@dataclass(frozen=True, slots=True)
class Check:
    """Nothing is written unless this row's version is `expected`; 0 means that there must be none."""

    key: Key
    expected: int


Item = Put | Delete | Check


class Table(Protocol):
    """Small records that survive a crash, strongly consistent, for any number of processes.

    A read sees every write that returned before it was asked. It sees a row as one write left it; the rows
    of one transaction may be seen to change one after the other. What was read is of one instant when a
    transaction of `Check`s on it holds.

    Every method raises ValueError, before anything is sent, for what is over the limits above, and
    `TableUnavailable` when no answer came: the store is out of reach, too slow, or has too much to do. A read
    may be asked again. A write was then made, wholly and once, or was not; it may even be made yet, so a
    later read does not settle it: another write does, as of two that expect the same version of a row at most
    one is made. Cancelling a call leaves the same behind.

    Nothing is made twice: whoever repeats a write underneath sees to it that the store does it once.
    """

    async def get(self, key: Key) -> Row | None:
        """The row as the last finished write left it; None when there is none."""

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """All of up to 100 rows, however large, each as `get` gives it but not of one instant.

        Absent ones are missing. A key that is named twice is found once; the order means nothing.
        """

    async def list(
        self, partition: str, prefix: str = "", after: str | None = None, limit: int = MOST_KEYS
    ) -> Page:
        """Rows of a partition whose sort starts with `prefix` and comes after `after`, which need not exist.

        At most `limit` of them (1 to 1,000), and none behind the one with which their values reach 1 MiB. A
        page may be short, even empty, while there is more: only `next_after` tells. The pages are not of one
        instant: a row that is there from the first page to the last comes once, one that is made or deleted
        meanwhile comes once or not at all.
        """

    async def transact(self, *items: Item) -> None:
        """All conditions held at one instant, at which all of 1 to 25 items were written; that is durable.

        The keys are distinct. Raises `Conflict` when a condition did not hold: nothing was written, nor will
        be. It means nothing else; a store that puts a transaction off for the sake of another on the same rows
        is asked again underneath, and counts as unavailable when that does not help.
        """

    async def take(self, key: Key, amount: int, ceiling: int) -> int | None:
        """The counter's new total, durable; None, and nothing changed, when it would leave 0..ceiling.

        A counter starts at 0. A negative amount gives back; where ceilings move, under the highest of them, as
        a total that is still over its ceiling is refused too. Counters and rows do not see each other. What was
        taken with a lost answer counts as spent.
        """


CallerRole = Literal["operator", "break-glass", "admin", "developer", "viewer", "billing", "none"]
"""`none` is a key without a service account: it uses models and controls nothing. `break-glass` is an operators' key for emergencies."""
OPERATOR_ROLES: tuple[CallerRole, ...] = ("operator", "break-glass")
"""Of who is of no tenant; the others are of one."""
PlatformAction = Literal["whoami", "reveal", "survey", "create", "shape", "empower"]
TenantAction = Literal[
    "whoami",
    "reveal",
    "view",
    "inspect",
    "review",
    "administer",
    "govern",
    "issue",
    "revoke",
    "rekey",
    "destroy",
]


@dataclass(frozen=True, slots=True)
class Question:
    """May this caller do that to the tenant, or with None to what is of no tenant? The words are those of
    `policies/control.cedarschema`.

    `of_tenant_id` is whose the caller is, None an operator. `gives` is the role that the key at hand has, None: none. `widens`:
    that key is for models that the caller's own is not for. `loosens`: it is made, and it lasts longer than the caller's own or is bound
    to less. `gives_reason`: the caller said why. `hastens`: the destruction of a data key can be taken back for less than a day.
    """

    caller_id: str
    role: CallerRole
    of_tenant_id: str | None
    action: PlatformAction | TenantAction
    tenant_id: str | None = None
    tenant_state: State = "active"
    gives: Role | None = None
    widens: bool = False
    gives_reason: bool = False
    loosens: bool = False
    hastens: bool = False


@dataclass(frozen=True, slots=True)
class RecordKey:
    """What opens a tenant's audit bodies of one series: secret, 32 bytes each."""

    series: str
    key: bytes
    commitment: bytes


class RecordKeys(Protocol):
    """Who has the keys of audit records."""

    async def derived(self, tenant_id: str, key_id: str, series: Sequence[str]) -> Sequence[RecordKey]:
        """From the tenant's data key of that id, one for each. Raises Problem: destroyed, sealing_unavailable; fails closed."""


class Verdict(Protocol):
    """`policies`: the ids of those that decided, for the log."""

    @property
    def allowed(self) -> bool: ...

    @property
    def policies(self) -> tuple[str, ...]: ...


class Authorizer(Protocol):
    def decide(self, question: Question) -> Verdict:
        """What the policies say. Never raises: what cannot be decided is denied."""


def check_key(key: Key) -> None:
    """ValueError for a key that some store could not keep."""
    if not key.partition:
        raise ValueError("the partition of a key is empty")
    for part in key:
        if len(part.encode()) > KEY_BYTES:
            raise ValueError(f"a part of a key is over {KEY_BYTES} bytes")


def check_keys(keys: Sequence[Key]) -> None:
    """ValueError for more keys than one read may name, or a bad one."""
    if len(keys) > MOST_KEYS:
        raise ValueError(f"{len(keys)} keys, at most {MOST_KEYS}")
    for key in keys:
        check_key(key)


def check_items(items: Sequence[Item]) -> None:
    """ValueError for a transaction that some store could not do."""
    if not 1 <= len(items) <= MOST_ITEMS:
        raise ValueError(f"{len(items)} items, must be 1 to {MOST_ITEMS}")
    if len({item.key for item in items}) < len(items):
        raise ValueError("two items of one transaction have the same key")
    for item in items:
        check_key(item.key)
        if isinstance(item, Put) and len(item.value) > VALUE_BYTES:
            raise ValueError(f"a value of {len(item.value)} bytes, at most {VALUE_BYTES}")
    if (total := sum(map(item_bytes, items))) > TRANSACTION_BYTES:
        raise ValueError(f"a transaction of {total} bytes, at most {TRANSACTION_BYTES}")


def item_bytes(item: Item) -> int:
    """What an item counts of the bytes of its transaction."""
    return sum(len(part.encode()) for part in item.key) + (len(item.value) if isinstance(item, Put) else 0)


def check_page(partition: str, prefix: str, after: str | None, limit: int) -> None:
    """ValueError for a listing that some store could not answer."""
    check_key(Key(partition, prefix))
    check_key(Key(partition, after or ""))
    if not 1 <= limit <= MOST_ROWS:
        raise ValueError(f"a limit of {limit} rows, must be 1 to {MOST_ROWS}")


def check_take(key: Key, amount: int, ceiling: int) -> None:
    """ValueError for a take whose numbers some store could not keep exactly."""
    check_key(key)
    if abs(amount) > MOST_COUNT or not 0 <= ceiling <= MOST_COUNT:
        raise ValueError(f"take {amount} under {ceiling}: amounts and ceilings go to {MOST_COUNT}")
