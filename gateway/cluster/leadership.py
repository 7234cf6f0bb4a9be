"""Who does what only one may do? One row says so; whoever is elected leads for a term, while it renews that row.

    partition    sort    value
    leader       ""      Leader

It is elected by one compare-and-swap, when the row names nobody, or a dead member, or when the row has stood still for so long that its
leader has stopped (`stillness`). The leader stops first: `leads(now)` is false from (its clock before its last renewal was sent) +
`leadership_seconds` - margin on, and whenever this member is not here. So at no instant do two members lead, whatever pauses, clocks and
lost answers.

**What this does not promise.** Whoever asked `leads`, was stopped, and goes on, acts late, maybe in the term of another: no row can help
that, as what acts is not the table. So every act carries the term that `acting` gave. An act that is a write takes the term into its row,
by compare-and-swap, and is not made over a higher one; who finds a higher one says so (`outranked`) and stops. An act outside of the table,
as a start or an unload, is done again or undone by the next tick of whoever leads, which compares what is wanted with what there is: such
acts must bear to be done twice. And there may be nobody who leads: for a second or two behind a certificate, for `leadership_seconds` and
some behind a silent end, and for as long as the table gives no answer.

`tick` is called about once a second in every member. It may be cancelled at any await, and is not called while it is under way.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from gateway.cluster.member import Lasts
from gateway.cluster.stillness import Timing, ends, is_over
from tenants.errors import Conflict, Unreadable
from tenants.ports import Key, Put, Row, Table
from tenants.rows import decoded

LEADER_AT: Final = Key("leader")
_TRIES: Final = 5


class Leader(Struct, frozen=True, tag_field="v", tag=1):
    """Who leads ("": nobody), in which term, and for how long by this beat, which is another number in each attempt of the same member.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before; any other change is version 2.
    Who cannot read the row elects nobody.
    """

    name: str
    term: int
    beat: int
    lasts_seconds: Lasts


class _Attempt(NamedTuple):
    leader: Leader
    sent: float


@dataclass(slots=True)
class Leadership:
    """`clock` is that of the membership, `is_here` and `is_dead` are its answers. Not shared between loops."""

    table: Table
    name: str
    clock: Callable[[], float]
    is_here: Callable[[float], bool]
    is_dead: Callable[[str, float], bool]
    timing: Timing = field(default_factory=Timing)
    leader: str = ""
    """By the last answer; for the log, not to act by."""
    term: int = 0
    """The highest that was seen; it only grows."""
    _held: int | None = None
    """The term in which the row is this member's, as far as it knows."""
    _until: float = -inf
    _stands: bool = True
    _beat: int = 0
    _attempt: _Attempt | None = None
    _version: int = -1
    _since: float = -inf
    """When the row was first found as it is."""

    def leads(self, now: float) -> bool:
        """Whether this member leads, by its clock read just before it acts."""
        return self._held is not None and self._stands and now < self._until and self.is_here(now)

    def acting(self, now: float) -> int | None:
        """The term that an act at this moment carries; None: do not act."""
        return self._held if self.leads(now) else None

    def outranked(self, term: int) -> None:
        """An act of that term was found: whoever led in a lower one does not any more."""
        self.term = max(self.term, term)
        if self._held is not None and self._held < term:
            self._held, self._until = None, -inf

    async def tick(self) -> None:
        """The row is renewed if it is this member's, and taken if nobody's. Raises TableUnavailable, Unreadable: who leads, goes on until
        its time is over.
        """
        row = await self.table.get(LEADER_AT)
        now = self.clock()
        found = self._read(row)
        self._note(found, row.version if row else 0, now)
        if self._held is not None and not self._stands:
            await self.hand_over()  # an attempt of before, that was late
        elif self._stands and self.is_here(now) and (self._held is not None or self._is_vacant(found, now)):
            # In the table's newest term, but in one of its own after another's, and where acts were found of a higher one.
            goes_on = self._held is not None and found.term == self.term
            await self._write(self.term if goes_on else self.term + 1)

    async def hand_over(self) -> None:
        """This member does not lead, and never again; another one can at once. Raises TableUnavailable: others wait until its time is
        over.
        """
        self._stands = False  # before anything is sent
        for _ in range(_TRIES):
            row = await self.table.get(LEADER_AT)
            found = self._read(row)
            if row is None or found.name != self.name:
                return
            self._beat += 1
            nobody = Leader("", found.term, self._beat, found.lasts_seconds)
            try:
                await self.table.transact(Put(LEADER_AT, msgspec.json.encode(nobody), row.version))
            except Conflict:
                continue
            return

    def _read(self, row: Row | None) -> Leader:
        return read(row) if row else Leader("", 0, 0, self.timing.leadership_seconds)

    def _note(self, found: Leader, version: int, now: float) -> None:
        self.leader, self.term = found.name, max(self.term, found.term)
        if version != self._version:
            self._version, self._since = version, now
        if found.name != self.name:
            self._held, self._until = None, -inf
        elif self._attempt is not None and found == self._attempt.leader:
            self._made(self._attempt)
        elif (
            self._held != found.term
        ):  # an attempt of before, that was late: nothing is known of when it was sent
            self._held, self._until = found.term, -inf

    def _is_vacant(self, found: Leader, now: float) -> bool:
        """That it still stands as it was found shows when it is overwritten."""
        if not found.name or self.is_dead(found.name, self._since):
            return True
        return is_over(now - self._since, found.lasts_seconds, self.timing.margin_seconds)

    async def _write(self, term: int) -> None:
        self._beat += 1
        wanted = Leader(self.name, term, self._beat, self.timing.leadership_seconds)
        attempt = self._attempt = _Attempt(wanted, self.clock())
        try:
            await self.table.transact(Put(LEADER_AT, msgspec.json.encode(wanted), self._version))
        except Conflict:  # the next tick finds whose it is; until its time is over nobody else leads
            self._attempt = None
        else:
            self._version, self._since = self._version + 1, self.clock()
            self._made(attempt)

    def _made(self, attempt: _Attempt) -> None:
        self._attempt = None
        self.leader, self._held = self.name, attempt.leader.term
        self.term = max(self.term, attempt.leader.term)
        self._until = ends(attempt.sent, attempt.leader.lasts_seconds, self.timing.margin_seconds)


def read(row: Row) -> Leader:
    """Raises Unreadable: nobody is elected over what cannot be read. Fails closed."""
    return decoded(row, Leader, Unreadable)
