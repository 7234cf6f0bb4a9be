"""What do the placements say, and how do they become what is wanted? Pure.

partition     sort                       value
placements    <domain>                   Document: who has charge, the replicas, the places, what is not tried again yet
facts         <domain>/<replica>/<load>  Facts (facts.py): what a member needs to call one load of a model; before it is READY

A domain is one host, by its kernel: all who send to its Tritons read one clock, and who has charge sees whether a process of it lives.
Only who has charge writes, over the version that it read. The versions of the content go on for as long as the kernel runs: a row that
was lost begins with the microseconds of its clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Struct

from gateway.scaling.draining import Placed, Placements, Spot, moved, placed, without
from gateway.scaling.residency import Phase
from tenants.errors import Unreadable
from tenants.ports import Key, Row

PLACEMENTS: Final = "placements"
FACTS: Final = "facts"
_NO_BOUND: Final = 2**62  # whether there is room is the plan's business (residency)


class Address(Struct, frozen=True):
    """A server that runs. `control` are the headers that its restricted APIs ask for: as secret as the folder that the table is in.
    `retiring`: no model comes to it any more."""

    fleet: str
    host: str
    port: int
    grpc_port: int
    control: tuple[tuple[str, str], ...] = ()
    retiring: bool = False


class Lodged(Struct, frozen=True, array_like=True):
    """A place. `takes`: whether it is given new calls, as one that is silent is not. `looks`: how often it was looked at because somebody
    suspected it, and works."""

    phase: str
    version: int
    loaded: int
    memory_bytes: int
    is_cut: bool = False
    takes: bool = True
    looks: int = 0


class Pause(Struct, frozen=True, array_like=True):
    """What failed is not tried again until then, on the clock of the host. With each new number of `refusals` those who wait are told."""

    why: str
    until: float
    refusals: int


class Lasted(Struct, frozen=True):
    """By name, what the last start of a fleet, or the last load of a model, took, and the pause after failures."""

    seconds: Mapping[str, float] = {}
    pauses: Mapping[str, Pause] = {}


class Document(Struct, frozen=True, tag_field="v", tag=1):
    """The row. `charge` is who has charge, to be told of what cannot wait. `asks`: with each new number every member reports at once.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before; any other change, also another
    phase, is version 2. Readers refuse versions that they do not know: they learn nothing then, and send until their time is over.
    """

    version: int
    charge: str
    replicas: Mapping[str, Address] = {}
    places: Mapping[str, Mapping[str, Lodged]] = {}
    fleets: Lasted = Lasted()
    models: Lasted = Lasted()
    asks: int = 0

    @property
    def placements(self) -> Placements:
        return Placements(
            self.version,
            {
                Spot(replica, model): Placed(
                    Phase[it.phase], it.version, it.loaded, it.memory_bytes, it.is_cut
                )
                for replica, models in self.places.items()
                for model, it in models.items()
            },
        )


def placements_at(domain: str) -> Key:
    return Key(PLACEMENTS, domain)


def facts_at(domain: str, replica: str, loaded: int) -> Key:
    return Key(FACTS, f"{domain}/{replica}/{loaded}")


def encoded(document: Document) -> bytes:
    return msgspec.json.encode(document)


def read(row: Row) -> Document:
    """Raises Unreadable: fails closed."""
    try:
        found = msgspec.json.decode(row.value, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise Unreadable(f"{row.key}: {fault}") from fault
    phases = {it.phase for models in found.places.values() for it in models.values()}
    if not phases <= Phase.__members__.keys():
        raise Unreadable(f"{row.key}: {phases} are not all phases")
    return found


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be written of a place: of the load that was written as `loaded`, or, with 0, of one that was not yet."""

    phase: Phase
    memory_bytes: int
    loaded: int = 0
    is_cut: bool = False


def brought(old: Placements, replicas: Mapping[str, object], wanted: Mapping[Spot, Wanted]) -> Placements:
    """The placements as they are wanted, by moves that there are; the same when all is so. Raises ValueError where no moves lead there:
    a place is never UNLOADING without a drain or a cut."""
    new = old
    for replica in {spot.replica for spot in old.places} - replicas.keys():
        new = without(new, replica)
    for spot, it in list(new.places.items()):
        want = wanted.get(spot)
        if want is None or want.loaded != it.loaded:
            new = _gone(new, spot)
    for spot, want in wanted.items():
        if spot not in new.places:
            new = _placed(new, spot, want.memory_bytes)
        new = _brought(new, spot, want)
    return new


def _placed(old: Placements, spot: Spot, memory_bytes: int) -> Placements:
    new = placed(old, spot, memory_bytes, _NO_BOUND)
    if new is None:
        raise ValueError(f"{spot.replica} has {spot.model}")
    return new


def _gone(old: Placements, spot: Spot) -> Placements:
    """Triton does not have it any more."""
    if old.places[spot].phase is not Phase.UNLOADING:
        old = moved(old, spot, Phase.UNLOADING, is_cut=True)
    return moved(old, spot, None)


def _brought(old: Placements, spot: Spot, want: Wanted) -> Placements:
    """LOADING -> READY -> DRAINING is one way; what was not written in between is."""
    phase = old.places[spot].phase
    if phase is want.phase:
        return old
    if phase is Phase.LOADING and want.phase is Phase.DRAINING:
        old = moved(old, spot, Phase.READY)
    return moved(old, spot, want.phase, is_cut=want.is_cut)
