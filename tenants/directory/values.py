"""What the directory keeps as it is declared. An issuer is named by its id (`issuers.id_of`), all else by its name."""

from dataclasses import dataclass
from typing import Final, TypeVar

from tenants import catalogue, names
from tenants.acts import Act
from tenants.catalogue import PARTITIONS, Value, name_of, plural
from tenants.directory import stages
from tenants.directory.holdings import check_free
from tenants.directory.journal import MOST_CHANGES, Journal, Judged, Page
from tenants.directory.tenants import Found, check_version
from tenants.errors import Conflict, InUse, NotFound
from tenants.events import Event
from tenants.fleet import Fleet
from tenants.issuers import Issuer
from tenants.model import Model
from tenants.plans import Plan
from tenants.ports import MOST_KEYS, Key, Row
from tenants.privacy import Privacy
from tenants.rows import read, readable

_Value = TypeVar("_Value", Fleet, Issuer, Model, Plan, Privacy)

_LOOKS: Final = 20
_NAMES: Final[dict[type[Value], names.Names]] = {
    Fleet: names.FLEET,
    Issuer: names.ISSUER,
    Model: names.MODEL,
    Plan: names.PLAN,
    Privacy: names.PRIVACY,
}
_MOST_ISSUERS: Final = 5


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that can be read of one instant, by name: behind the change with that number, and before the next one."""

    sequence: int
    fleets: dict[str, Fleet]
    models: dict[str, Model]
    plans: dict[str, Plan]
    issuers: dict[str, Issuer]
    privacies: dict[str, Privacy]


def most_at_once(kind: type[Value]) -> int:
    """So many of this kind are put in one change; an issuer has more rows that go with it."""
    return _MOST_ISSUERS if kind is Issuer else MOST_CHANGES


@dataclass(frozen=True, slots=True)
class Values:
    journal: Journal

    async def put(self, *wanted: Value, act: Act, expected: int | None = None) -> tuple[Value, ...]:
        """All are as given and fit one another and what is there, or nothing is changed; a model keeps its id or gets one.

        Repeated: nothing more is written. Raises ValueError for more than fit in one transaction (`most_at_once`; more is for
        documents), Stale where the only one is there in another version than `expected` (0: where it is there), and InUse for an issuer
        that a tenant has with the same audience.
        """
        if len(wanted) > (most := min(map(most_at_once, map(type, wanted)), default=MOST_CHANGES)):
            raise ValueError(f"{len(wanted)} values, at most {most}")

        async def judge() -> Judged[tuple[Value, ...]]:
            rows = await self.rows()
            if expected is not None:
                _check(rows, wanted[0], expected)
            await check_free(self.journal, (it.held for it in wanted if isinstance(it, Issuer)), None)
            found = catalogue.changes(wanted, rows, lambda: self.journal.new_id("m"))
            return Judged(found.values, found.changes, found.values[0])

        return await self.journal.change(act, judge)

    async def remove(self, kind: type[_Value], name: str, act: Act, *, expected: int | None = None) -> None:
        """There is none any more. Repeated: NotFound. Raises InUse for a fleet of models, and a plan or a privacy of
        tenants, Stale.
        """

        async def judge() -> Judged[None]:
            rows = await self.rows()
            value = _named(rows, kind, name)
            if expected is not None:
                _check(rows, value, expected)
            what = kind.__name__.lower()
            if isinstance(value, Plan | Privacy) and await self.tenants_have(what, name):
                raise InUse(what, name, "tenants")
            found = catalogue.changes((), rows, lambda: "", unwanted=(value,))
            return Judged(None, found.changes)

        await self.journal.change(act, judge)

    async def find(self, kind: type[_Value], name: str) -> Found[_Value]:
        """Raises NotFound."""
        is_name = not any(_NAMES[kind].faults(name, "name"))
        row = await self.journal.table.get(Key(_partition(kind), name)) if is_name else None
        if row is None:
            raise NotFound(kind.__name__.lower(), name)
        return Found(read(row, kind), row.version)

    async def list(
        self, kind: type[_Value], after: str | None = None, limit: int = MOST_KEYS
    ) -> Page[_Value]:
        """By name, behind the name `after`."""
        page = await self.journal.table.list(_partition(kind), after=after, limit=limit)
        return Page(tuple(read(row, kind) for row in page.rows), page.next_after)

    async def catalogue(self) -> Catalogue:
        """All of one instant. Fails closed: what cannot be read is not there. Raises Conflict where changes never stop."""
        for _ in range(_LOOKS):
            sequence = await self.journal.sequence()
            rows = await self.rows()
            if (await self.journal.glance()).sequence == sequence:
                return Catalogue(
                    sequence,
                    _all(rows, Fleet),
                    _all(rows, Model),
                    _all(rows, Plan),
                    _all(rows, Issuer),
                    _all(rows, Privacy),
                )
        raise Conflict(f"changed {_LOOKS} times while it was read")

    async def models(self) -> dict[str, Model]:
        """All models by name. Fails closed: one that cannot be read is not there."""
        return _all(await self.rows("models"), Model)

    async def fleets(self) -> dict[str, Fleet]:
        """All fleets by name. Fails closed: one that cannot be read is not there."""
        return _all(await self.rows("fleets"), Fleet)

    async def plans(self) -> dict[str, Plan]:
        """All plans by name. Fails closed: one that cannot be read is not there."""
        return _all(await self.rows("plans"), Plan)

    async def privacies(self) -> dict[str, Privacy]:
        """All privacies by name. Fails closed: one that cannot be read is not there."""
        return _all(await self.rows("privacies"), Privacy)

    async def tenants_have(self, what: str, name: str) -> bool:
        """Whether any tenant, also a closed one, has this `plan` or `privacy`."""
        page = await self.journal.table.list(f"{what}/{name}", limit=1)
        while not page.rows and page.next_after is not None:
            page = await self.journal.table.list(f"{what}/{name}", after=page.next_after, limit=1)
        return bool(page.rows)

    async def events(self, after: str | None = None, limit: int = MOST_KEYS) -> Page[Event]:
        """What happened to what is of no tenant, oldest first."""
        page = await self.journal.table.list("events", after=after, limit=limit)
        return Page(tuple(read(row, Event) for row in page.rows), page.next_after)

    async def generation(self) -> stages.Generation:
        return (await stages.generation(self.journal))[1]

    async def rows(self, *partitions: str) -> dict[Key, Row]:
        found = [await self.journal.partition(name) for name in partitions or PARTITIONS]
        return {row.key: row for rows in found for row in rows}


def _all(rows: dict[Key, Row], kind: type[_Value]) -> dict[str, _Value]:
    own = {key: row for key, row in rows.items() if key.partition == _partition(kind)}
    return {found.name: found for found in readable(own, kind).values()}


def _partition(kind: type[_Value]) -> str:
    return plural(kind.__name__)


def _named(rows: dict[Key, Row], kind: type[_Value], name: str) -> _Value:
    row = rows.get(Key(_partition(kind), name))
    if row is None:
        raise NotFound(kind.__name__.lower(), name)
    return read(row, kind)


def _check(rows: dict[Key, Row], value: Value, expected: int) -> None:
    kind, name = name_of(value)
    row = rows.get(catalogue.at(value), Row(catalogue.at(value), b"", 0))
    check_version(row, expected, kind.lower(), name)
