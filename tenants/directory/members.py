"""The members and service accounts of the tenants."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from msgspec.structs import replace

from tenants import members, names, tenant
from tenants.acts import Act
from tenants.directory.journal import Journal, Judged, Page
from tenants.directory.tenants import Found, Tenants, check_version
from tenants.errors import AlreadyExists, Invalid, NotFound
from tenants.events import Action
from tenants.ids import is_id
from tenants.members import Account, Member
from tenants.ports import MOST_KEYS, Key, Row
from tenants.rows import Change, encoded, read
from tenants.tenant import Tenant

MOST: Final = 1000

_One = TypeVar("_One", Member, Account)


class _Roster(Generic[_One]):
    """Who acts for a tenant, of one sort: each has an id, something that nobody else of the tenant has, and a role."""

    _sort: str
    _kind: type[_One]
    _added: Action
    _changed: Action
    _removed: Action

    def __init__(self, journal: Journal, tenants: Tenants) -> None:
        self.journal = journal
        self.tenants = tenants

    async def change(
        self, tenant_name: str, one_id: str, role: str, act: Act, *, expected: int | None = None
    ) -> _One:
        """The same one in that role. Repeated: the same, without another event. Raises Stale for another version than `expected`."""
        given = members.role(role, "role")

        async def judge() -> Judged[_One]:
            row = await self._row(await self.tenants.show(tenant_name), one_id, expected)
            before = read(row, self._kind)
            after = replace(before, role=given)
            if after == before:
                return Judged(before, stored=before)
            change = Change(self._changed, one_id, row.key, row, encoded(after), before.tenant_id)
            return Judged(after, (change,), after)

        return await self.journal.change(act, judge)

    async def remove(self, tenant_name: str, one_id: str, act: Act, *, expected: int | None = None) -> None:
        """There is no such one any more; keys of an account that is gone do not work. Repeated: NotFound."""

        async def judge() -> Judged[None]:
            row = await self._row(await self.tenants.show(tenant_name), one_id, expected)
            owner_id = read(row, self._kind).tenant_id
            return Judged(None, (Change(self._removed, one_id, row.key, row, None, owner_id),))

        await self.journal.change(act, judge)

    async def find(self, tenant_name: str, one_id: str) -> Found[_One]:
        row = await self._row(await self.tenants.show(tenant_name), one_id, None)
        return Found(read(row, self._kind), row.version)

    async def list(self, tenant_name: str, after: str | None = None, limit: int = MOST_KEYS) -> Page[_One]:
        """By their ids; `after` is the cursor of the page before."""
        owner = await self.tenants.show(tenant_name)
        page = await self.journal.table.list(f"tenant/{owner.id}", f"{self._sort}/", after, limit)
        return Page(tuple(read(row, self._kind) for row in page.rows), page.next_after)

    async def _add(self, tenant_name: str, unique: str, make: Callable[[Tenant], _One], act: Act) -> _One:
        async def judge() -> Judged[_One]:
            owner = await self.tenants.show(tenant_name)
            check_open(owner, act.at_us)
            rows = await self.journal.partition(f"tenant/{owner.id}", f"{self._sort}/")
            made = make(owner)
            if any(getattr(read(row, self._kind), unique) == getattr(made, unique) for row in rows):
                raise AlreadyExists(self._sort, getattr(made, unique))
            if len(rows) >= MOST:
                raise Invalid(unique, f"the tenant has {MOST} of these, the most there may be")
            change = Change(self._added, made.id, self._at(owner, made.id), None, encoded(made), owner.id)
            return Judged(made, (change,), made)

        return await self.journal.change(act, judge)

    def _at(self, owner: Tenant, one_id: str) -> Key:
        return Key(f"tenant/{owner.id}", f"{self._sort}/{one_id}")

    async def _row(self, owner: Tenant, one_id: str, expected: int | None) -> Row:
        row = await self.journal.table.get(self._at(owner, one_id)) if is_id(one_id) else None
        if row is None:
            raise NotFound(self._sort, one_id)
        check_version(row, expected, self._sort, one_id)
        return row


class Members(_Roster[Member]):
    """People, each of an email."""

    _sort, _kind = "member", Member
    _added, _changed, _removed = Action.MEMBER_INVITED, Action.MEMBER_CHANGED, Action.MEMBER_REMOVED

    async def invite(self, tenant_name: str, email: str, role: str, act: Act) -> Member:
        """The new member. Repeated: AlreadyExists."""
        address, given = members.email(email, "email"), members.role(role, "role")

        def make(owner: Tenant) -> Member:
            return Member(self.journal.new_id("u"), owner.id, address, given, act.at_us)

        return await self._add(tenant_name, "email", make, act)


class Accounts(_Roster[Account]):
    """Programs: service accounts, each of a name. Their keys have their role."""

    _sort, _kind = "account", Account
    _added, _changed, _removed = Action.ACCOUNT_CREATED, Action.ACCOUNT_CHANGED, Action.ACCOUNT_REMOVED

    async def create(self, tenant_name: str, name: str, role: str, act: Act) -> Account:
        """The new account. Repeated: AlreadyExists."""
        names.SERVICE_ACCOUNT.check_new(name, "name")
        given = members.role(role, "role")

        def make(owner: Tenant) -> Account:
            return Account(self.journal.new_id("s"), owner.id, name, given, act.at_us)

        return await self._add(tenant_name, "name", make, act)


def check_open(owner: Tenant, now_us: int) -> None:
    """Invalid for a tenant that gets nothing new any more."""
    if (state := tenant.state(owner, now_us)) in ("closing", "closed"):
        raise Invalid("tenant", f"is {state}")
