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
VALUE_BYTES = 350_000
KEY_BYTES = 1024


class Key(NamedTuple):
    """Where a row is. The partition is not empty; its rows are ordered by the UTF-8 bytes of `sort`."""

    partition: str
    sort: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """What was found. `version` is 1 for a new row, also after a delete, and one more with each write."""

    key: Key
    value: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows in order. `next_after` is the `after` of the next page, None when there is no more."""

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
    """Small records that survive a crash, strongly consistent.

    Every method raises `TableUnavailable` when no answer came (a write may then have happened or not) and
    ValueError, before anything is sent, for what is over the limits above.
    """

    async def get(self, key: Key) -> Row | None:
        """The row as the last finished write left it."""

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """Up to 100 rows, each as `get` gives it but not of one instant. Absent ones are missing."""

    async def list(
        self, partition: str, prefix: str = "", after: str | None = None, limit: int = MOST_KEYS
    ) -> Page:
        """Rows of a partition whose sort starts with `prefix` and comes after `after`.

        At most `limit` of them (1 to 1,000). A page may be short, even empty, while there is more: only
        `next_after` tells.
        """

    async def transact(self, *items: Item) -> None:
        """All of 1 to 25 items with distinct keys are written and durable; on `Conflict` none is."""

    async def take(self, key: Key, amount: int, ceiling: int) -> int | None:
        """The counter's new total, durable; None, and nothing changed, when it would leave 0..ceiling.

        A counter starts at 0 and a negative amount gives back. Counters and rows do not see each other. What
        was taken with a lost answer counts as spent.
        """


CallerRole = Literal["operator", "admin", "developer", "viewer", "billing", "none"]
"""`none` is a key without a service account: it uses models and controls nothing."""
PlatformAction = Literal["whoami", "survey", "create", "shape", "empower"]
TenantAction = Literal["whoami", "view", "inspect", "review", "administer", "govern", "issue", "revoke"]


@dataclass(frozen=True, slots=True)
class Question:
    """May the holder of this key do that to the tenant, or with None to what is of no tenant? The words are those of
    `policies/control.cedarschema`.

    `of_tenant_id` is whose the key is, None an operator's. `gives` is the role that the key at hand has, None: none.
    """

    key_id: str
    role: CallerRole
    of_tenant_id: str | None
    action: PlatformAction | TenantAction
    tenant_id: str | None = None
    tenant_state: State = "active"
    gives: Role | None = None


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


def check_page(partition: str, limit: int) -> None:
    """ValueError for a listing that no store answers."""
    check_key(Key(partition))
    if not 1 <= limit <= MOST_ROWS:
        raise ValueError(f"a limit of {limit} rows, must be 1 to {MOST_ROWS}")


def check_take(key: Key, amount: int, ceiling: int) -> None:
    """ValueError for a take whose numbers some store could not keep exactly."""
    check_key(key)
    if abs(amount) > MOST_COUNT or not 0 <= ceiling <= MOST_COUNT:
        raise ValueError(f"take {amount} under {ceiling}: amounts and ceilings go to {MOST_COUNT}")
