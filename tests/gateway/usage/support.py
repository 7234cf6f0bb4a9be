"""The log of a world of segments as the fold sees it, and what the sums must be, counted another way."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tenants import usage
from tenants.usage import Group, Sums
from tests.worlds.segments import SegmentWorld
from tests.worlds.table import MemoryTable


@dataclass(frozen=True, slots=True)
class WorldLog:
    """`most` bounds a piece, so that commits are longer than one."""

    world: SegmentWorld
    most: int = 1 << 30

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.world.disk))

    def piece(self, segment_id: str, offset_bytes: int, most_bytes: int) -> bytes:
        return self.world.bytes_of(segment_id)[offset_bytes:][: min(most_bytes, self.most)]


def stored(table: MemoryTable, unit: usage.Unit = "hour") -> dict[Group, Sums]:
    found = {}
    for key, row in table.rows.items():
        place, _, rest = key.partition.partition("/")
        tenant, _, of = rest.partition("/")
        if place == "usage" and of == unit:
            group = usage.group_of(tenant, unit, key.sort)
            found[group] = usage.read(row)
    return found


def total(sums: dict[Group, Sums]) -> Sums:
    return sum(sums.values(), usage.NOTHING)


def endings(sums: Sums) -> Counter[str]:
    return Counter({name: getattr(sums, name) for name in ("done", "failed", "unknown")})
