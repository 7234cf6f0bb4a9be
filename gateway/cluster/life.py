"""What does a process do to be a member? It joins, looks and beats, stands for the lead, says who of its host is gone, and leaves.

A call of the table that takes over a second is given up, which is the same as a lost answer. While there is none, this goes on: who is
here and who leads is over by itself when its time is (`membership`, `leadership`). Closed: `Ended` takes the process down.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.cluster.certificates import NotProven, Process, gone
from gateway.cluster.leadership import Leadership
from gateway.cluster.membership import Crowded, Membership, Standing, certify
from gateway.loops import every, running
from tenants.errors import TableUnavailable, Unreadable
from tenants.ports import Table

log = logging.getLogger(__name__)

TURN_SECONDS: Final = 1.0
SWEEP_SECONDS: Final = 60.0
_HOST_LETTERS: Final = 32
_NO_ANSWER: Final = (TableUnavailable, TimeoutError, Crowded, Unreadable)


@dataclass(slots=True)
class Life:
    """Of one member. `stat_of` gives what the kernel says of a pid, None for none: by that it knows who of its host is gone."""

    membership: Membership
    leadership: Leadership
    stat_of: Callable[[int], bytes | None]
    call_seconds: float = 1.0
    _is_answered: bool = True
    _dead: set[str] = field(default_factory=set)
    """All that were ever seen dead. Rows that name them may be read much later."""
    _asked: dict[str, float] = field(default_factory=dict)
    """Of those of whom no look knew: when somebody asked first."""

    @classmethod
    def of(
        cls,
        table: Table,
        name: str,
        process: Process,
        clock: Callable[[], float],
        stat_of: Callable[[int], bytes | None],
    ) -> "Life":
        membership = Membership(table, name, process, clock)
        leadership = Leadership(table, name, clock, membership.is_here, membership.is_dead)
        return cls(membership, leadership, stat_of)

    @property
    def name(self) -> str:
        return self.membership.name

    def is_dead(self, name: str) -> bool:
        """Whether that member, which a row names, is gone: by its certificate, also long after its row was swept. One of whom nothing is
        known is dead when a look that began behind the first question has found no row of it (`Membership.is_dead`).
        """
        if name in self._dead:
            return True
        if self.membership.standing(name) is not None:
            self._asked.pop(name, None)
            return self.membership.is_dead(name)
        return self.membership.is_dead(name, self._asked.setdefault(name, self.membership.clock()))

    def standing(self, name: str) -> Standing | None:
        """Of another member, as it was found last; this one lives."""
        return "live" if name == self.name else self.membership.standing(name)

    def acting(self) -> int | None:
        """The term that an act of the leader carries now; None: this one does not lead."""
        return self.leadership.acting(self.membership.clock())

    def outranked(self, term: int) -> None:
        """An act of that term was found."""
        self.leadership.outranked(term)

    def leads(self) -> bool:
        """Whether this member does what only one may do, at this moment."""
        return self.leadership.leads(self.membership.clock())

    def live(self) -> int:
        """How many members live that take calls, this one among them if it does. Who cannot be read may."""
        others = (it for name, it in self.membership.members().items() if name != self.name)
        serve = (it.standing == "live" and (it.member is None or it.member.says.serves) for it in others)
        return sum(serve) + self.membership.says.serves

    async def begin(self) -> None:
        """This member is here, and those of its host that ended without a word are known to be dead. Raises Crowded, TableUnavailable,
        TimeoutError.
        """
        await self._bounded(self.membership.join())
        if await self._certified():
            await self._bounded(self.membership.look())
        self._remember()
        await self.tick()

    async def turn(self) -> None:
        """A look and a beat. Raises Ended."""
        failed: Exception | None = None
        for act in (self.membership.look, self._certified, self.membership.beat):
            try:
                await self._bounded(act())
            except _NO_ANSWER as fault:
                failed = failed or fault
        self._remember()
        if self._is_answered != (failed is None):
            self._is_answered = failed is None
            if failed is None:
                log.warning("member %s is seen by others again", self.name)
            else:
                log.warning("member %s is not seen by others for now: %r", self.name, failed)

    async def tick(self) -> None:
        """Raises TableUnavailable, TimeoutError, Unreadable: who leads goes on until its time is over."""
        led = self.leadership.leads(self.membership.clock())
        await self._bounded(self.leadership.tick())
        if led is not (leads := self.leadership.leads(self.membership.clock())):
            log.info(
                "member %s %s, term %d",
                self.name,
                "leads" if leads else "does not lead",
                self.leadership.term,
            )

    async def stand(self) -> None:
        """A tick that bears to have no answer. Raises Unreadable."""
        with suppress(TableUnavailable, TimeoutError):  # `turn` says so
            await self.tick()

    async def sweep(self) -> None:
        """Raises TableUnavailable, TimeoutError: the next one goes on."""
        await self._bounded(self.membership.sweep())

    async def end(self) -> None:
        """Others know that this member does nothing more. What is not answered is not tried again: its silence says the same, later."""
        for act in (self.leadership.hand_over, self.membership.leave):
            try:
                await self._bounded(act())
            except (*_NO_ANSWER, NotProven) as fault:
                log.warning("member %s ends without a word: %r", self.name, fault)

    def _remember(self) -> None:
        self._dead |= {name for name, it in self.membership.members().items() if it.standing == "dead"}

    async def _bounded(self, act: Coroutine[Any, Any, Any]) -> None:
        async with asyncio.timeout(self.call_seconds):
            await act

    async def _certified(self) -> bool:
        """Who shares this member's pids and has none any more is dead, and its row says so. Whether there was one. Raises
        TableUnavailable.
        """
        by, found = self.membership.process, False
        for name, seen in list(self.membership.members().items()):
            member = seen.member
            if name == self.name or member is None or seen.standing == "dead":
                continue
            try:
                proof = gone(name, member.process, self.stat_of(member.process.pid), by)
                await certify(self.membership.table, proof, member.lasts_seconds)
            except NotProven:  # it lives, or is of another host
                continue
            log.warning("member %s is gone without a word: process %d", name, member.process.pid)
            found = True
        return found


@asynccontextmanager
async def living(life: Life) -> AsyncIterator[None]:
    """Here from before the block until after it. Raises Crowded, TableUnavailable before it; Ended ends the block."""
    try:
        await life.begin()
    except TimeoutError as fault:
        raise TableUnavailable("the members' rows gave no answer") from fault
    except Unreadable as fault:
        log.warning("nobody can be elected: %s", fault)  # it is of a later version
    try:
        loops = {
            "member": every(TURN_SECONDS, life.turn),
            "leader": every(TURN_SECONDS, life.stand, Unreadable),
            "members": every(SWEEP_SECONDS, life.sweep, *_NO_ANSWER),
        }
        async with running(**loops):
            yield
    finally:
        await life.end()


def member_name(host: str, part: int | str, secret: str) -> str:
    """A name that no other life of any process has. `part` is its pid, or what it is for."""
    kept = "".join(it for it in host if it.isascii() and (it.isalnum() or it in "_.-"))
    return f"{kept[:_HOST_LETTERS] or 'host'}-{part}-{secret[:12]}"
