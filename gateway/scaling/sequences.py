"""Sequences of calls: a model keeps a state for each, so all its calls go to the place where the first one went.

    open -> (each call, at the same place) -> ended: its last call was answered | idle: Triton has forgotten it | lost: its place is gone,
                                              or has drained for too long

A sequence is known by tenant, model, version and the client's own id; Triton is told another id, drawn for this sequence, so that no
tenant can reach into another's. While it is open it holds its place as a call does: nothing unloads that place, and one that drains
drains. A lost one is remembered for as long, so that its next call is told so. Plain state, on one loop.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.admission.fair_queueing import Ticket
from gateway.call import Sequence
from gateway.errors import Code, GatewayError
from gateway.scaling.registry import Resident
from gateway.scaling.residency import Phase
from gateway.scaling.throttler import Throttler
from gateway.triton.control import Correlation

_MOST = 1_000  # open ones of a tenant
_LATE_SECONDS = 0.5  # Triton forgets an idle one no later than we do


class Key(NamedTuple):
    tenant_id: str
    model: str
    version: str
    id: int | str


@dataclass(slots=True, eq=False)
class Open:
    """A sequence that has begun. `ours` is the id that Triton knows it by."""

    key: Key
    place: Resident
    correlation: Correlation
    ours: int | str
    has_begun: bool = False  # a call of it was answered
    calls: int = 0  # under way
    last: float = 0.0  # when the last one ended
    drains_since: float = 0.0
    is_lost: bool = False


@dataclass(slots=True)
class Sequences:
    """`clock` gives monotonic seconds, `draw` a number from 0 up to another one, at random."""

    throttler: Throttler
    clock: Callable[[], float]
    draw: Callable[[int], int]
    _open: dict[Key, Open] = field(default_factory=dict)
    _of_tenant: Counter[str] = field(default_factory=Counter)
    _taken: set[tuple[str, int | str]] = field(default_factory=set)  # models, and the ids that Triton knows

    async def acquire(self, key: Key, sequence: Sequence, ticket: Ticket) -> tuple[Resident, Open | None]:
        """The place for a call of the sequence, to be released, and the sequence, to be left; None when the model keeps none. Only the
        call that begins it comes in its turn: the others' place is theirs.

        Raises SEQUENCE_LOST, BAD_REQUEST, TOO_MANY_AT_ONCE, and what the throttler does.
        """
        found = self._rejoined(key, sequence)
        if found is not None:
            return found.place, found
        place = await self.throttler.acquire(key.model, ticket)
        if place.correlation is None:
            return place, None
        try:
            found = self._rejoined(key, sequence)  # another call of it may have been first
            if found is None:
                return place, self._begin(key, place, place.correlation)
        except GatewayError:
            self.throttler.release(place, "none", ticket)
            raise
        self.throttler.release(place, "none", ticket)
        return found.place, found

    def _rejoined(self, key: Key, sequence: Sequence) -> Open | None:
        found = self._open.get(key)
        if found is None:
            return None
        if not found.is_lost and self.throttler.rejoin(found.place):
            found.calls += 1
            return found
        self._close(found)
        if not sequence.starts:
            raise GatewayError(Code.SEQUENCE_LOST)
        return None

    def _begin(self, key: Key, place: Resident, correlation: Correlation) -> Open:
        if isinstance(key.id, str) != (correlation.largest is None):
            kind = "texts" if correlation.largest is None else "numbers"
            raise GatewayError(Code.BAD_REQUEST, detail=f"the sequences of this model are known by {kind}")
        if self._of_tenant[key.tenant_id] >= _MOST:
            detail = f"no more than {_MOST} sequences can be open at once; end some first"
            raise GatewayError(Code.TOO_MANY_AT_ONCE, detail=detail, retry_after_seconds=1)
        begun = Open(key, place, correlation, self._new_id(key.model, correlation), calls=1)
        self.throttler.hold(place)  # until it is over
        self._open[key] = begun
        self._of_tenant[key.tenant_id] += 1
        self._taken.add((key.model, begun.ours))
        return begun

    def _new_id(self, model: str, correlation: Correlation) -> int | str:
        """One that no open sequence of the model has; 0 is none for Triton."""
        while True:
            number = 1 + self.draw(correlation.largest or 2**63 - 1)
            ours = number if correlation.largest else f"{number:016x}"
            if (model, ours) not in self._taken:
                return ours

    def left(self, found: Open, sequence: Sequence, *, answered: bool) -> None:
        """A call of it is over. One that nobody answered has begun no sequence, and leaves none behind."""
        found.calls -= 1
        found.last = self.clock()
        found.has_begun |= answered
        is_over = (answered and sequence.ends) or not (found.has_begun or found.calls)
        if is_over and self._open.get(found.key) is found:
            self._close(found)

    async def sweep(self) -> None:
        """Let go of what is idle or lost."""
        now = self.clock()
        for found in list(self._open.values()):
            if not found.is_lost and not self._keeps(found, now):
                found.is_lost = True
                self.throttler.release(found.place, "none")
            if not found.calls and now - found.last > found.correlation.idle_seconds + _LATE_SECONDS:
                self._close(found)

    def _keeps(self, found: Open, now: float) -> bool:
        """Whether its place is there, and may stay: a sequence that goes on and on does not keep a draining one for ever from others."""
        if found.place.phase is not Phase.DRAINING:
            found.drains_since = 0.0
            return self.throttler.has(found.place)
        found.drains_since = found.drains_since or now
        patience = found.place.row.scaling.start_deadline_seconds / 2
        return self.throttler.has(found.place) and now - found.drains_since < patience

    def _close(self, found: Open) -> None:
        del self._open[found.key]
        self._taken.discard((found.key.model, found.ours))
        self._of_tenant[found.key.tenant_id] -= 1
        if not self._of_tenant[found.key.tenant_id]:
            del self._of_tenant[found.key.tenant_id]
        if not found.is_lost:
            found.is_lost = True
            self.throttler.release(found.place, "none")
