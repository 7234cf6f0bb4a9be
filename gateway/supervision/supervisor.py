"""The side and the workers run, each as long as it is wanted: who ends is replaced, who is renewed hands over to the next one.

Fails open: whatever becomes of a child, the others serve on. Only where the first start of one fails do all end: the next would too.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from gateway.loops import Spawn, every, jobs
from gateway.supervision.child import Child
from gateway.supervision.plan import ENDED, STARTS, Ready, Role, Stage, failures_after, pause_seconds

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
READY_SECONDS: Final = 60.0
"""A start that takes longer has failed."""
BEAT_SECONDS: Final = 10.0
"""The side beats each second; who has not for so long is killed."""
_KILLED_SECONDS: Final = 5.0

Start: TypeAlias = "Callable[[Role, str, Stage], Awaitable[Child]]"


class StartFailed(Exception):
    """A first start has failed. The child has said why; `code` is to be ours."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True, eq=False)
class Slot:
    """`child` is the one that serves, or did last. `renewal` is there while the next one is to take over: whether it has."""

    name: str
    role: Role
    child: Child | None = None
    failures: int = 0
    said: Ready | None = None
    renewal: "asyncio.Future[bool] | None" = None

    @property
    def serves(self) -> bool:
        return self.child is not None and not self.child.ended.done()

    def renewed(self, *, has: bool) -> None:
        if self.renewal is not None and not self.renewal.done():
            self.renewal.set_result(has)


@dataclass(slots=True)
class Supervisor:
    """`start` gives a child of that role, for the slot of that name; OSError where there can be none. `certify` is told of each that has
    ended. `drain_seconds` is how long one may take that was asked to end, `hand_over_seconds` one that hands over.
    """

    start: Start
    certify: Callable[[Child], Coroutine[Any, Any, None]]
    clock: Callable[[], float]
    workers: int
    drain_seconds: float
    hand_over_seconds: float
    _slots: list[Slot] = field(default_factory=list)
    _children: set[Child] = field(default_factory=set)
    _all_serve: asyncio.Event = field(default_factory=asyncio.Event)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _renew: asyncio.Event = field(default_factory=asyncio.Event)
    _code: int = 0
    _is_hurried: bool = False

    # What signals ask

    def stop(self) -> None:
        """All end, the workers first. The second time they wait for nothing more."""
        if self._stop.is_set():
            self._is_hurried = True
            for child in self._children:
                child.hurry()
        self._stop.set()

    def renew(self) -> None:
        """The workers are replaced one by one, then the side; once more if it is asked meanwhile."""
        self._renew.set()

    async def run(self, started: Callable[[list[Ready]], None], closing: Callable[[], None]) -> None:
        """Until it is stopped. `started` is told once all can serve what each says, the side first; `closing` before any is asked to end.
        Raises StartFailed.
        """
        self._slots = [
            Slot("side", "side"),
            *(Slot(f"worker{n}", "worker") for n in range(1, self.workers + 1)),
        ]
        async with jobs() as lives:
            try:
                async with jobs() as acts:
                    acts("start", self._start_all(lives, started))
                    acts("renewals", self._renewals(lives))
                    acts("looks", every(LOOK_SECONDS, self._look))
                    await self._stop.wait()
            finally:
                closing()
                for role in ("worker", "side"):
                    await self._end([child for child in self._children if child.part.role == role])
        if self._code:
            raise StartFailed(self._code)

    # The life of a child

    async def _live(self, slot: Slot, stage: Stage, lives: Spawn) -> None:
        """One life, and what follows from its end."""
        child, code = None, 1
        if self._stop.is_set():
            return
        try:
            child = await self.start(slot.role, slot.name, stage)
        except OSError as fault:
            log.error("%s cannot be started: %s", slot.name, fault)  # noqa: TRY400 - the sentence says it all
        if child is not None:
            self._children.add(child)
            if self._stop.is_set():
                child.drain(hands_over=False)
            code = await child.watch(lambda said: self._serves(slot, child, said, lives))
            self._children.discard(child)
            lives(f"certificate of {child.name}", self.certify(child))
        if self._stop.is_set():
            return
        match ENDED[child.stage if child is not None else stage]:
            case "end all":
                if code <= 0:
                    log.error("%s ended with %d before it could serve", slot.name, code)
                self._code = code if code > 0 else 1
                self._stop.set()
            case "another":
                await self._another(slot, child, code, lives)
            case "keep the other":
                log.error(
                    "%s is not renewed: the next one ended with %d, and the old one goes on", slot.name, code
                )
                slot.renewed(has=False)
            case "nothing":
                pass

    def _serves(self, slot: Slot, child: Child, said: Ready, lives: Spawn) -> None:
        """It can serve, and who did in its place hands over."""
        if child.stage in STARTS:
            child.stage = "serves"
        old, slot.child, slot.said = slot.child, child, said
        log.info("%s serves as %s, process %d", slot.name, child.name, child.process.pid)
        if old is None or old.ended.done():
            slot.renewed(has=True)
        else:
            old.drain(hands_over=True)
            lives(f"{old.name} ends", self._replaced(slot, old))
        if all(it.said is not None for it in self._slots if it.role == slot.role):
            self._all_serve.set()

    async def _replaced(self, slot: Slot, old: Child) -> None:
        await self._over([old], self.hand_over_seconds)
        slot.renewed(has=True)

    async def _another(self, slot: Slot, child: Child | None, code: int, lives: Spawn) -> None:
        """In its place, but not for ever at once."""
        slot.failures = failures_after(slot.failures, child.served_seconds if child is not None else 0.0)
        pause = pause_seconds(slot.failures)
        log.error("%s ended unasked with %d: another one starts in %.0f s", slot.name, code, pause)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._stop.wait()
        if not (self._stop.is_set() or slot.serves):
            lives(slot.name, self._live(slot, "again", lives))

    # What goes on beside

    async def _start_all(self, lives: Spawn, started: Callable[[list[Ready]], None]) -> None:
        """The side first: what is wrong with the configuration is said once."""
        for role in ("side", "worker"):
            self._all_serve.clear()
            for slot in self._slots:
                if slot.role == role:
                    lives(slot.name, self._live(slot, "first", lives))
            await self._all_serve.wait()
        started([it.said for it in self._slots if it.said is not None])

    async def _renewals(self, lives: Spawn) -> None:
        while True:
            await self._renew.wait()
            self._renew.clear()
            for slot in [*self._slots[1:], self._slots[0]]:
                slot.renewal = asyncio.get_running_loop().create_future()
                lives(slot.name, self._live(slot, "beside", lives))
                if not await slot.renewal:
                    break
            else:
                log.info("all are renewed")

    async def _look(self) -> None:
        """Who does not start in time is killed, and a side that does not beat: it hangs or was stopped, and nobody else does its work."""
        now = self.clock()
        for child in self._children:
            if child.stage in STARTS and now - child.born > READY_SECONDS:
                log.error("%s takes over %.0f s to start, and is killed", child.name, READY_SECONDS)
                child.kill()
            if child.part.role == "side" and child.stage == "serves" and now - child.beat_at > BEAT_SECONDS:
                log.error("%s has not beaten for %.0f s, and is killed", child.name, BEAT_SECONDS)
                child.kill()

    # The end

    async def _end(self, children: list[Child]) -> None:
        for child in children:
            child.drain(hands_over=False)
            if self._is_hurried:
                child.hurry()
        await self._over(children, self.drain_seconds)

    async def _over(self, children: list[Child], seconds: float) -> None:
        """All have ended; who takes too long is killed. Who has not ended even then, or where nobody hears of it, as what goes on beside
        has failed, is waited for no longer."""
        if not children:
            return
        await asyncio.wait([child.ended for child in children], timeout=seconds)
        for child in children:
            if not child.ended.done():
                log.error("%s has not ended in %.0f s, and is killed", child.name, seconds)
                child.kill()
        await asyncio.wait([child.ended for child in children], timeout=_KILLED_SECONDS)
