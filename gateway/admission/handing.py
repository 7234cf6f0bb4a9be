"""How do a model's slots come to the members that send to its places? Each says what waits and runs with it, and hears its part.

    partition    sort           value
    slots        <its name>     Said, by each member that has calls of a model that some member has too many of
    slots        ""             Granted, by whoever leads

`slots.py` says who gets how many. While no member has more calls than its even part nobody says anything, and nothing is written: then each
has that part, rounded up. So the first calls of a model need no word of anybody. Once it is divided, who is given nothing lets one call
pass (`fair_order`): as many more than there are slots can be under way as there are members. A process that is alone has all slots.

Open: without an answer of the table, or a leader, or where a row would be larger than a table takes, members keep what they have, and what
was never divided is even parts. What is granted is never given twice; see `slots.py`.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from gateway.admission.fair_order import FairOrder
from gateway.admission.slots import Grant, Report, Slots
from tenants.errors import Conflict, TableUnavailable, Unreadable
from tenants.ports import MOST_ROWS, Delete, Key, Put, Row, Table
from tenants.rows import decoded

log = logging.getLogger(__name__)

SLOTS: Final = "slots"
GRANTED_AT: Final = Key(SLOTS)
STEP_SECONDS: Final = 0.25
_ROUNDS: Final = 2  # steps from one hand-out to the next; between them is only passed on what came free
_CALL_SECONDS: Final = 1.0
_MOST_GONE: Final = 20  # rows of dead members that go in one step
_NO_ANSWER: Final = (TableUnavailable, TimeoutError, Conflict, Unreadable)


class Wanted(Struct, frozen=True):
    """Of one model: how many slots its places have, as this member measures them, and what it has there."""

    total: int
    report: Report


class Said(Struct, frozen=True, tag_field="v", tag=1):
    """One member's, by model.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before; any other change is version 2.
    Who cannot read it divides nothing: all keep what they have.
    """

    models: Mapping[str, Wanted] = {}


class Granted(Struct, frozen=True, tag_field="v", tag=1):
    """By model and member, in a leader's term.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before; any other change is version 2.
    Who cannot read it keeps what it has, and leaves the row to others.
    """

    term: int = 0
    models: Mapping[str, Mapping[str, Grant]] = {}


class Calls(NamedTuple):
    """What a member has of one model: `total` slots of all its places, `part` of them its own, in use by `running` calls."""

    order: FairOrder
    total: int
    part: int
    running: int


class Here(Protocol):
    """Of the throttler."""

    def calls(self) -> Mapping[str, Calls]:
        """The models that have calls here, and a number of slots."""

    def divided(self, members: int, grants: Mapping[str, Grant]) -> None:
        """So many members are here; these are granted, of all others each has an even part."""


class Members(Protocol):
    """Who is here, and whether this one leads."""

    @property
    def name(self) -> str: ...
    def live(self) -> int: ...
    def standing(self, name: str) -> Literal["live", "silent", "dead"] | None: ...
    def acting(self) -> int | None: ...
    def outranked(self, term: int) -> None: ...


@dataclass(slots=True)
class Handing:
    """Of one member. `step` is called each STEP_SECONDS, and not while it is under way."""

    table: Table
    members: Members
    here: Here
    _granted: Granted = field(default_factory=Granted)
    _said: Said = field(default_factory=Said)
    _models: dict[str, Slots] = field(default_factory=dict)
    _steps: int = 0
    _failed: bool = False

    async def step(self) -> None:
        """Say what is here, divide if this one leads, hear. Without an answer, or room in a row, all stays as it is."""
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                await self._step()
        except (
            *_NO_ANSWER,
            ValueError,
        ) as fault:  # ValueError: so many tenants wait that a row does not hold them
            if not self._failed and not isinstance(fault, Conflict):
                log.warning("slots are not divided for now: %r", fault)
            self._failed = True
        else:
            self._failed = False

    async def leave(self) -> None:
        """Others need not wait until this member is known to be gone."""
        with suppress(*_NO_ANSWER):
            async with asyncio.timeout(_CALL_SECONDS):
                await self._say(Said())

    async def _step(self) -> None:
        self._steps += 1
        live = self.members.live()
        if live <= 1:
            self._granted, self._models = Granted(), {}
            self.here.divided(1, {})
            await self._say(Said())
            return
        calls = self.here.calls()
        term = self.members.acting()
        await self._say(Said(self._wanted(calls)))
        await self._meet(term)
        name = self.members.name
        mine = {
            # Of what it said nothing of, its slots are others'.
            model: grants.get(name, Grant()) if model in self._said.models else Grant()
            for model, grants in self._granted.models.items()
        }
        self.here.divided(live, mine)

    def _wanted(self, calls: Mapping[str, Calls]) -> dict[str, Wanted]:
        """Of the models that have too many calls, here or at another member."""
        found: dict[str, Wanted] = {}
        for model, it in calls.items():
            grants = self._granted.models.get(model)
            if it.order.waiting or grants is not None:
                grant = (grants or {}).get(self.members.name)
                report = Report(grant.round if grant else 0, it.part, it.running, it.order.demands())
                found[model] = Wanted(it.total, report)
        return found

    async def _say(self, said: Said) -> None:
        if said == self._said:
            return
        at = Key(SLOTS, self.members.name)
        await self.table.transact(
            Put(at, msgspec.json.encode(said), None) if said.models else Delete(at, None)
        )
        self._said = said

    async def _meet(self, term: int | None) -> None:
        rows = {row.key.sort: row for row in (await self.table.list(SLOTS, limit=MOST_ROWS)).rows}
        row = rows.pop("", None)
        granted = decoded(row, Granted, Unreadable) if row else Granted()
        if term is not None and granted.term > term:
            self.members.outranked(granted.term)
        elif term is not None:
            granted = await self._divide(term, row, granted, rows)
        else:
            self._models.clear()
        self._granted = granted

    async def _divide(self, term: int, row: Row | None, before: Granted, rows: Mapping[str, Row]) -> Granted:
        """What the leader does."""
        wanted: dict[str, dict[str, Wanted | None]] = {}
        gone = []
        for name, found in rows.items():
            standing = self.members.standing(name)
            if standing == "dead":
                gone.append(Delete(found.key, found.version))
            for model, it in _said(found).items() if standing != "dead" else ():
                wanted.setdefault(model, {})[name] = it if standing == "live" else None
        models = {model: self._model(model, its, before) for model, its in wanted.items()}
        for model in self._models.keys() - wanted.keys():
            del self._models[model]
        granted = Granted(term, models)
        writes: list[Put | Delete] = [*gone[:_MOST_GONE]]
        if models != before.models or (row is not None and term != before.term):
            writes.append(Put(GRANTED_AT, msgspec.json.encode(granted), row.version if row else 0))
        else:
            granted = before
        if writes:
            await self.table.transact(*writes)
        return granted

    def _model(self, model: str, wanted: Mapping[str, Wanted | None], before: Granted) -> Mapping[str, Grant]:
        slots = self._models.get(model)
        is_round = slots is None or self._steps % _ROUNDS == 0
        slots = self._models.setdefault(model, Slots())
        total = max(it.total for it in wanted.values() if it is not None) if any(wanted.values()) else 0
        reports = {name: it.report if it is not None else None for name, it in wanted.items()}
        grants = slots.hand_out(total, reports) if is_round else slots.pass_on(total, reports)
        told = before.models.get(model, {})
        if _without_round(grants) != _without_round(told):
            return grants
        slots.round = max(it.round for it in told.values()) if told else slots.round
        return told  # nothing new, and so no other round: members are to know of the one that they have heard


def _said(row: Row) -> Mapping[str, Wanted]:
    return decoded(row, Said, Unreadable).models


def _without_round(grants: Mapping[str, Grant]) -> dict[str, tuple[int, Mapping[str, float]]]:
    return {name: (it.slots, it.fractions) for name, it in grants.items()}
