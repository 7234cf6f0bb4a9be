"""Who else is here? Each member writes its own row and reads all rows, about once a second.

    standing   how it is judged, by the newest look, on the clock of the one who looks
    live       its row has changed lately, or is new here
    silent     its row has stood still for so long that its owner has stopped acting by it; it may come back, and beats then
    dead       its row holds a death certificate: its process is gone. For ever

**Who is here** acts only while its own deadline lies ahead: its last beat that was answered, and its last look, are younger than
`stale_seconds`, both counted from before they were sent. So whoever was stopped and goes on finds out before it acts, by one comparison.
What others take from a silent member it has stopped using before (`stillness`). Who finds itself dead, or without a row, has ended: it is
never here again (`Ended`), and its process is to end. All of this fails closed.

**Swept.** The row of a dead member goes once it was dead for `stale_seconds` (and what `stillness` adds) on the clock of who sweeps: by
then everybody who is here has begun a look behind the certificate, and whoever is not must look first. The row of a silent one goes after
`swept_seconds`; should it come back it has ended. Who finds somebody named in another row, and no row of it in a look that began later,
knows that it was swept: a member's row is there before anything names it. `is_dead` says so.

A lost answer of an own write is recognised by the number that each attempt has, also when the write is late. A call may be cancelled at any
await; that is the same as a lost answer. `beat`, `join` and `leave` are not called while one of them is under way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal, NamedTuple

from gateway.cluster.certificates import Certificate, NotProven, Process, left
from gateway.cluster.member import MEMBERS, MOST_MEMBERS, Member, Says, encoded, member_at, read
from gateway.cluster.stillness import Timing, ends, is_over
from tenants.errors import Conflict, TableUnavailable, Unreadable
from tenants.ports import MOST_COUNT, MOST_ROWS, Delete, Put, Row, Table

Standing = Literal["live", "silent", "dead"]
_TRIES: Final = 5


class Ended(Exception):
    """This member is dead by its row, or has none any more: it is not here, and never again. Its process ends."""


class Crowded(Exception):
    """There are as many members as there may be, so this one has not joined."""


class Seen(NamedTuple):
    """A row as a look found it. `since`: when it was first found as it is now, on the clock of who looks. `member`: None where it cannot
    be read.
    """

    version: int
    since: float
    member: Member | None
    standing: Standing


class _Attempt(NamedTuple):
    beat: int
    sent: float


@dataclass(slots=True)
class Membership:
    """`name` is of this life of this process alone. `clock` gives seconds since the machine was started, those that it slept among them.
    Not shared between loops.
    """

    table: Table
    name: str
    process: Process
    clock: Callable[[], float]
    timing: Timing = field(default_factory=Timing)
    ended: str = ""
    """Why it has; "": it has not."""
    _says: Says = field(default_factory=Says)
    _version: int = 0
    _beat: int = 0
    _attempt: _Attempt | None = None
    """The newest write, while it is not known whether it was made."""
    _beat_until: float = -inf
    _looked_at: float = -inf
    _seen: dict[str, Seen] = field(default_factory=dict)

    # What others ask; nothing here asks for anything

    def is_here(self, now: float) -> bool:
        """Whether this member may act, by its clock read just before it does."""
        until = min(self._beat_until, self._ends(self._looked_at))
        return not self.ended and now < until

    def members(self) -> Mapping[str, Seen]:
        """All whose rows the newest answered look found, by name."""
        return self._seen

    def standing(self, name: str) -> Standing | None:
        """None: the newest look found no row of it; see `is_dead`."""
        seen = self._seen.get(name)
        return seen.standing if seen else None

    def is_dead(self, name: str, named_at: float = inf) -> bool:
        """Whether its process is gone, by its certificate; or its row was swept, as no look found it that began after `named_at`, when on
        this member's clock it was found named somewhere. A member that is asked for again is known by the next look.
        """
        seen = self._seen.get(name)
        return seen.standing == "dead" if seen else self._looked_at > named_at

    @property
    def says(self) -> Says:
        """What this member tells of itself, with its next beat if not before."""
        return self._says

    def say(self, says: Says) -> None:
        """What the next beat tells. ValueError for more than fits in a row."""
        encoded(self._member(says, MOST_COUNT))
        self._says = says

    # What it does

    async def join(self) -> None:
        """This member is here, and others will know. Raises Crowded, Ended, TableUnavailable: may be tried again, but for Ended."""
        await self.look()
        if self._version == 0 and len(self._seen.keys() - {self.name}) >= MOST_MEMBERS:
            raise Crowded(
                f"there are {len(self._seen)} members of this state, at most {MOST_MEMBERS}; those that ended go by themselves"
            )
        await self.beat()

    async def beat(self) -> None:
        """Others find this member live. Raises Ended, and TableUnavailable: then it may have been written, and the next beat finds out."""
        self._check()
        if self._attempt is not None:
            await self._settle()
        self._beat += 1
        attempt = self._attempt = _Attempt(self._beat, self.clock())
        value = encoded(self._member(self._says, attempt.beat))
        try:
            await self.table.transact(Put(member_at(self.name), value, self._version))
        except Conflict:
            self._attempt = None  # it was not made; one before it was, late, or somebody else wrote
            await self._settle()
        else:
            self._made(attempt, self._version + 1)

    async def look(self) -> None:
        """Everybody is judged by what is there now. Raises Ended, TableUnavailable, Crowded: then all stand as they stood."""
        self._check()
        version, began = self._version, self.clock()
        rows = await self._rows()
        now = self.clock()
        self._seen = {row.key.sort: self._judged(row, began, now) for row in rows}
        self._looked_at = began
        own = self._seen.get(self.name)
        if version and own is None:
            self._end("its row is gone")
        elif own is not None and own.standing == "dead":
            self._end("its row says that it is dead")

    async def sweep(self) -> None:
        """Rows that nobody counts on any more are gone, by the newest look. Raises TableUnavailable: the next time goes on."""
        for name, seen in list(self._seen.items()):
            if self._is_swept(seen):
                try:
                    await self.table.transact(Delete(member_at(name), seen.version))
                except Conflict:
                    continue  # it came back, or somebody else swept it

    async def leave(self) -> None:
        """Others know that this member is dead; call it when nothing is under way any more, as it is never here again. Raises
        TableUnavailable: it is silent later, or its host says that it is dead.
        """
        self.ended = self.ended or "it left"
        await certify(self.table, left(self.name, self.process), self.timing.stale_seconds)

    # Within

    def _check(self) -> None:
        if self.ended:
            raise Ended(
                f"this gateway ends, as it is no member any more; start it anew. Member {self.name}: {self.ended}"
            )

    def _end(self, why: str) -> None:
        self.ended = self.ended or why
        self._check()

    def _ends(self, sent: float) -> float:
        return ends(sent, self.timing.stale_seconds, self.timing.margin_seconds)

    def _member(self, says: Says, beat: int) -> Member:
        return Member(self.process, beat, self.timing.stale_seconds, says)

    def _made(self, attempt: _Attempt, version: int) -> None:
        self._attempt, self._version = None, version
        self._beat_until = self._ends(attempt.sent)

    async def _settle(self) -> None:
        """What became of a write whose answer was lost; one that is made later than this finds another version, or is found again."""
        attempt, row = self._attempt, await self.table.get(member_at(self.name))
        if row is None:
            if self._version:
                self._end("its row is gone")
            return
        member = read(row)
        if member.is_dead(self.name):
            self._end("its row says that it is dead")
        if member.process != self.process:
            self._end("its name is another's too")
        if attempt is not None and member.beat == attempt.beat:
            self._made(attempt, row.version)
        else:
            self._version = row.version

    async def _rows(self) -> list[Row]:
        found: list[Row] = []
        after: str | None = None
        while True:
            page = await self.table.list(MEMBERS, after=after, limit=MOST_ROWS)
            found += page.rows
            if page.next_after is None:
                return found
            if (
                len(found) >= 4 * MOST_MEMBERS
            ):  # more than can have joined at once: not all are judged, so none is
                raise Crowded(f"there are over {len(found)} members, at most {MOST_MEMBERS}")
            after = page.next_after

    def _judged(self, row: Row, began: float, now: float) -> Seen:
        """By when it was first found as it is, and that it still was when this look had begun."""
        before = self._seen.get(row.key.sort)
        since = before.since if before is not None and before.version == row.version else now
        try:
            member = read(row)
        except Unreadable:
            member = None
        if member is not None and member.is_dead(row.key.sort):
            return Seen(row.version, since, member, "dead")
        is_silent = self._is_silent(member, began, since)
        return Seen(row.version, since, member, "silent" if is_silent else "live")

    def _is_silent(self, member: Member | None, began: float, since: float) -> bool:
        lasts = self.timing.stale_seconds if member is None else member.lasts_seconds
        return is_over(began - since, lasts, self.timing.margin_seconds)

    def _is_swept(self, seen: Seen) -> bool:
        still = self._looked_at - seen.since
        if seen.standing == "dead":
            return is_over(still, self.timing.stale_seconds, self.timing.margin_seconds)
        return seen.standing == "silent" and still >= self.timing.swept_seconds


async def certify(table: Table, certificate: Certificate, lasts_seconds: float = 60.0) -> None:
    """The row of that member says that it is dead, whether or not it has joined: what it wrote before and is made later is not made.

    Raises NotProven where the row is of another process, TableUnavailable: ask again, Unreadable.
    """
    at = member_at(certificate.member)
    for _ in range(_TRIES):
        row = await table.get(at)
        before = read(row) if row else None
        if before is not None and before.is_dead(certificate.member):
            return
        if before is not None and before.process != certificate.process:
            raise NotProven(f"{certificate.member} is another process")
        beat = before.beat if before else 0
        dead = Member(certificate.process, beat, lasts_seconds, certificate=certificate)
        try:
            await table.transact(Put(at, encoded(dead), row.version if row else 0))
        except Conflict:
            continue  # a beat of its last moments
        return
    raise TableUnavailable(f"the row of {certificate.member} changes all the time")
