"""How a place is emptied that many processes send to: what a member may send, and when the leader may unload. Pure.

    LOADING -> READY -> DRAINING -> UNLOADING -> gone     READY: members send there     UNLOADING: for good, nobody does
       |        |^---------'            ^
       '--------+-----------------------'                 a broken place is cut: UNLOADING at once, whoever has calls there

All places are in one row, the *placements*, which only a compare-and-swap changes. The version that brought a place into its phase names
that: of a place that drains it is the drain's *generation*.

A member: beat, then read, then send.      1 note the clock   2 write the beat, with what it acknowledges   3 read the placements
                                           4 send, until the clock of 1 plus the silence that is allowed
The leader: mark, then hear, then unload.  1 write DRAINING   2 read the beats   3 write UNLOADING, if every member is out of it
                                           4 tell Triton     5 write that it is gone, once Triton says UNAVAILABLE

Why this holds: a member that was heard after the mark either has acknowledged it, or is dead, or still holds calls there, or has not read
it yet; the last one is waited for until it has, or until it was silent for longer than its own deadline lets it send. What it reads after
that is the mark. A cut place is not waited for: what works no more has nothing to lose, and its calls are ended by who made them. What a
member sends there that has not read it yet fails, gets Triton's 404, or is run by the model's next load. Two leaders harm nothing: each
step is one version after the other, and a replica takes no order that is older than what it was told before.

Times are seconds of a clock that goes on while the machine sleeps, CLOCK_BOOTTIME; none is compared with another process's.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from gateway.scaling.residency import Phase

_DRIFT = 1e-3  # by how much two clocks may differ in speed


class Spot(NamedTuple):
    """Where a place is, or was."""

    replica: str
    model: str


class Placed(NamedTuple):
    """A place in the placements. `version` is theirs, of when it came into this phase; `loaded` of when it was ordered: which load of
    the model it is. `is_cut`: it is UNLOADING without a drain, as it is broken."""

    phase: Phase
    version: int
    loaded: int
    memory_bytes: int
    is_cut: bool = False


class Drain(NamedTuple):
    """One drain of a place: no other one of the same place is meant."""

    spot: Spot
    generation: int


@dataclass(frozen=True, slots=True)
class Placements:
    """The row. A change is written only over the version that it was made from."""

    version: int = 0
    places: Mapping[Spot, Placed] = field(default_factory=dict)

    def used_bytes(self, replica: str) -> int:
        """Taken on this replica, also by what is on its way in or out."""
        return sum(placed.memory_bytes for spot, placed in self.places.items() if spot.replica == replica)


_MOVES: Mapping[Phase, tuple[Phase | None, ...]] = {
    Phase.LOADING: (Phase.READY, Phase.UNLOADING),
    Phase.READY: (Phase.DRAINING, Phase.UNLOADING),
    Phase.DRAINING: (Phase.READY, Phase.UNLOADING),
    Phase.UNLOADING: (None,),
}


def placed(old: Placements, spot: Spot, memory_bytes: int, capacity_bytes: int) -> Placements | None:
    """With one more place, LOADING; None where its replica has no room for it, or has it."""
    if spot in old.places or old.used_bytes(spot.replica) + memory_bytes > capacity_bytes:
        return None
    version = old.version + 1
    return Placements(version, {**old.places, spot: Placed(Phase.LOADING, version, version, memory_bytes)})


def moved(old: Placements, spot: Spot, to: Phase | None, *, is_cut: bool = False) -> Placements:
    """With this place in its next phase; None: gone. Raises ValueError for a move that there is not: only what is cut needs no drain."""
    before, version = old.places[spot], old.version + 1
    is_undrained = before.phase is Phase.READY and to is Phase.UNLOADING and not is_cut
    if to not in _MOVES[before.phase] or is_undrained:
        raise ValueError(f"{before.phase.name} does not become {to.name if to else 'gone'}")
    places = {each: it for each, it in old.places.items() if each != spot}
    if to is not None:
        places[spot] = Placed(to, version, before.loaded, before.memory_bytes, is_cut)
    return Placements(version, places)


def without(old: Placements, replica: str) -> Placements:
    """Its server has ended, and its places with it: nobody is waited for."""
    return Placements(
        old.version + 1, {spot: it for spot, it in old.places.items() if spot.replica != replica}
    )


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a member may be silent; the margin covers what passes between its look at the clock and the first byte."""

    silence_seconds: float
    margin_seconds: float

    def deadline(self, began: float) -> float:
        """Until when a member may send that began a beat then, by its own clock."""
        return began + self.silence_seconds - self.margin_seconds

    def is_over(self, since: float, now: float, lasts_seconds: float = 0.0) -> bool:
        """Whether a beat that stood still from `since` to `now`, by the listener's clock, lets its member send no more. `lasts_seconds`:
        what the member says that it may be silent; the longer one counts."""
        return now - since >= max(self.silence_seconds, lasts_seconds) * (1 + _DRIFT) + self.margin_seconds


# A member


@dataclass(frozen=True, slots=True)
class Beat:
    """What a member last wrote of itself, and whether its death is certain. `number` is another one each time."""

    number: int
    acknowledged: frozenset[Drain] = frozenset()
    is_dead: bool = False
    lasts_seconds: float = 0.0


@dataclass(slots=True)
class Member:
    """What one process knows and holds. Fails closed: what has not been read, or long ago, is not sent to.

    `take` follows on `may_send` or `may_go_on` with no await between, and the first byte on that. A body that is still streamed is held
    as a call that is answered is; so is an open sequence.
    """

    patience: Patience
    view: Placements = field(default_factory=lambda: Placements(version=-1))
    deadline: float = -math.inf
    held: Counter[Spot] = field(default_factory=Counter)
    lapsed: frozenset[Drain] = frozenset()
    """Drains under way in which it was late, so that nobody may wait for it any more."""

    def may_send(self, spot: Spot, now: float) -> bool:
        """Whether a new call, or a new sequence, may go there."""
        known = self.view.places.get(spot)
        return known is not None and known.phase is Phase.READY and self._is_current(now)

    def may_go_on(self, spot: Spot, loaded: int, now: float) -> bool:
        """Whether a call of a sequence that is open in that load may: also while it drains, as what is held is not acknowledged."""
        return self.has(spot, loaded) and self.held[spot] > 0 and self._is_current(now)

    def has(self, spot: Spot, loaded: int) -> bool:
        """Whether that load is there for what began in it, as far as is known. A sequence is lost else."""
        known = self.view.places.get(spot)
        if known is None or known.loaded != loaded:
            return False
        is_waited_for = known.phase is Phase.DRAINING and Drain(spot, known.version) not in self.lapsed
        return known.phase is Phase.READY or is_waited_for

    def _is_current(self, now: float) -> bool:
        return now < self.deadline

    def take(self, spot: Spot) -> None:
        """One more call or sequence is there."""
        self.held[spot] += 1

    def leave(self, spot: Spot) -> None:
        """One is over: its last byte came, or Triton's 404."""
        self.held[spot] -= 1
        if not self.held[spot]:
            del self.held[spot]

    def acknowledged(self) -> frozenset[Drain]:
        """What its next beat says: of which drains it has read and holds nothing any more. It stays true until that drain is over."""
        return frozenset(drain for drain in self._drains() if not self.held[drain.spot])

    def _drains(self) -> Iterator[Drain]:
        return (
            Drain(spot, it.version) for spot, it in self.view.places.items() if it.phase is Phase.DRAINING
        )

    def look(self, view: Placements) -> None:
        """The placements as they were read without a beat before: what is newer is followed, and nothing may be sent for longer."""
        if view.version > self.view.version:
            self.view = view

    def read(self, view: Placements, *, began: float, now: float) -> None:
        """The placements as they were read after a beat was written that began at `began`; `now` is behind both. An answer that was
        overtaken shows nothing newer."""
        self.look(view)
        drains = frozenset(self._drains())
        self.lapsed = drains if now >= self.deadline else self.lapsed & drains
        self.deadline = max(self.deadline, self.patience.deadline(began))


# The leader


class Heard(NamedTuple):
    """Of one member: its beat, since when that stands, and whether it can send nothing any more."""

    number: int
    since: float
    is_out: bool
    acknowledged: frozenset[Drain]


@dataclass(slots=True)
class Watch:
    """What a leader has heard of the members. A new leader begins with nothing, so that it waits longer and never less.

    `version` is of the placements that it had read before it asked: what was heard earlier proves nothing about a later mark, as a member
    may have come, or come back, in between.
    """

    patience: Patience
    version: int = -1
    heard: dict[str, Heard] = field(default_factory=dict)

    def hear(self, beats: Mapping[str, Beat], *, version: int, asked_at: float, now: float) -> None:
        """The beats of all members, by their names; a member that starts again has another name.

        Silence ends when the question was put, and begins when the answer had come: neither counts what passed on the way.
        """
        self.version = version
        self.heard = {name: self._heard(name, beat, asked_at, now) for name, beat in beats.items()}

    def _heard(self, name: str, beat: Beat, asked_at: float, now: float) -> Heard:
        before = self.heard.get(name)
        if before is None or before.number != beat.number:
            return Heard(beat.number, now, beat.is_dead, beat.acknowledged)
        is_silent = self.patience.is_over(before.since, asked_at, beat.lasts_seconds)
        return Heard(beat.number, before.since, beat.is_dead or is_silent, beat.acknowledged)

    def is_drained(self, drain: Drain) -> bool:
        """Whether no member can send there any more, nor holds anything there that it could lose."""
        return self.version >= drain.generation and all(
            member.is_out or drain in member.acknowledged for member in self.heard.values()
        )


class Said(Enum):
    """What Triton says of a model."""

    READY = auto()
    CHANGING = auto()  # LOADING or UNLOADING: its memory is taken
    AWAY = auto()  # UNAVAILABLE, or never loaded


class Order(Enum):
    """What a replica is told. Either may be told again."""

    LOAD = auto()
    UNLOAD = auto()


@dataclass(frozen=True, slots=True)
class Move:
    """What is written of a place next; None: that it is gone."""

    to: Phase | None


def due(spot: Spot, it: Placed | None, said: Said, watch: Watch) -> Move | Order | None:
    """What is to be done about a place now, whoever began it; None: nothing, or to wait. `said` was asked with these placements' version.

    What Triton has and the placements have not is unloaded: nobody sends there.
    """
    if it is None:
        return Order.UNLOAD if said is Said.READY else None
    match it.phase, said:
        case Phase.LOADING, Said.READY:
            return Move(Phase.READY)
        case Phase.LOADING, Said.AWAY:
            return Order.LOAD
        case Phase.DRAINING, _ if watch.is_drained(Drain(spot, it.version)):
            return Move(Phase.UNLOADING)
        case Phase.UNLOADING, Said.READY:
            return Order.UNLOAD
        case Phase.UNLOADING, Said.AWAY:
            return Move(None)
    return None


@dataclass(slots=True)
class Fence:
    """At each replica, in the one process that speaks to its model control: orders of a leader that was overtaken do not pass.

    Questions count as orders do: after the answer nothing older can change what it said. Who begins with an empty fence reads the
    placements first.
    """

    version: int = -1

    def passes(self, version: int) -> bool:
        """Whether an order, or a question, of these placements is taken. Closed for what is older than the newest."""
        if version < self.version:
            return False
        self.version = version
        return True
