"""How many slots of a model each member has: what the leader hands out, twice a second. Pure.

A slot is a call that may be under way. Tenants share the slots by weight, none more than it has calls (max-min fairness). A member's
part is what its tenants' shares come to, each divided as that tenant's calls are; what is less than a slot is carried over, so that over
some rounds each member has what it should. A slot that may still be in use where it was is not given to another.

A stale leader does no harm that lasts: a member does what it was told last, and the next round sees what is there.
"""

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from msgspec import Struct

# So much work is sent ahead of an instance that runs. Of a call that takes longer, the next one is not sent before it ends: who
# comes then would wait for two, which costs more than what the replica stands idle between them. A batch is sent ahead always.
LOOK_AHEAD_SECONDS = 0.02
_MOST_AHEAD = 64  # batches
# A slot that moves is idle until it is known to be free, so it moves only for more than what rounding alone would ask for.
_HOLD = 1.0
_FITTINGS = 8
_LEAST = 1e-3  # of a slot


class Demand(Struct, frozen=True):
    """One tenant's at one member: its weight, and its calls that wait or run."""

    weight: float
    calls: int


class Report(Struct, frozen=True):
    """What a member says. `seen` is the last round whose grant it had when it said so, `slots` what that gave it."""

    seen: int
    slots: int
    running: int
    demands: Mapping[str, Demand] = {}

    @property
    def is_busy(self) -> bool:
        return any(it.calls for it in self.demands.values())


class Grant(Struct, frozen=True):
    """What a member may do until it is told otherwise."""

    slots: int = 0
    fractions: Mapping[str, float] = {}
    """Of the weight of a tenant, what counts here: the rest is at other members. One that is not named has all of it here."""
    round: int = 0


@dataclass(slots=True)
class _Holding:
    wanted: int = 0  # what it is to have once that is free
    slots: int = 0  # what it was granted last
    most: int = 0  # what it may use by a grant that it may not know to be over, or has in use
    carried: float = 0.0  # parts of a slot that it should have had


@dataclass(slots=True)
class Slots:
    """Those of one model, kept by the leader. A new leader begins with what the members report."""

    round: int = 0
    _members: dict[str, _Holding] = field(default_factory=dict)
    _parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def hand_out(self, total: int, reports: Mapping[str, Report | None]) -> Mapping[str, Grant]:
        """The grants of one round, by the members that live; None for one that is silent: it gets none, and what it may still use is
        nobody else's. One that is left out is gone, and its slots are free."""
        present = {member: it for member, it in sorted(reports.items()) if it is not None}
        self._update(reports)
        self._parts = _parts(total, present)
        self._plan(total, {member for member, it in present.items() if it.is_busy})
        return self._grants(total, present.keys())

    def pass_on(self, total: int, reports: Mapping[str, Report | None]) -> Mapping[str, Grant]:
        """Between two rounds: what members have given back meanwhile goes to whom it was meant for."""
        self._update(reports)
        return self._grants(total, {member: it for member, it in reports.items() if it is not None}.keys())

    def _update(self, reports: Mapping[str, Report | None]) -> None:
        for member in self._members.keys() - reports.keys():
            del self._members[member]
        self.round = max([self.round, *(it.seen for it in reports.values() if it is not None)])
        for member, it in reports.items():
            held = self._members.get(member)
            if held is None:
                slots = it.slots if it else 0
                held = self._members[member] = _Holding(slots, slots, slots)
            if it is None:
                held.wanted = held.slots = 0
                held.carried = 0.0
            elif it.seen == self.round:
                held.most = max(held.slots, it.running)
            else:
                held.most = max(held.most, it.running)

    def _plan(self, total: int, busy: Set[str]) -> None:
        """Whole slots: as they are now, but for moves that bring two members nearer to their parts."""
        parts = {member: sum(it.values()) for member, it in self._parts.items()}
        want = {member: part + self._members[member].carried for member, part in parts.items()}
        whole = {member: self._members[member].wanted for member in parts}
        if not whole:
            return

        def lacks(member: str) -> float:
            return want[member] - whole[member]

        def spares(member: str) -> float:
            return -lacks(member) if whole[member] else -math.inf

        over = sum(whole.values()) - total
        for _ in range(abs(over)):
            member = max(whole, key=spares if over > 0 else lacks)
            whole[member] -= 1 if over > 0 else -1
        for _ in range(total):
            poor, rich = max(whole, key=lacks), max(whole, key=spares)
            if lacks(poor) + spares(rich) <= 1 + _HOLD * (rich in busy):
                break
            whole[poor] += 1
            whole[rich] -= 1
        for member, slots in whole.items():
            held = self._members[member]
            held.wanted = slots
            held.carried = held.carried + parts[member] - slots if member in busy else 0.0
        # What nobody could have, nobody is owed.
        mean = sum(self._members[member].carried for member in busy) / max(1, len(busy))
        for member in busy:
            self._members[member].carried -= mean

    def _grants(self, total: int, present: Set[str]) -> Mapping[str, Grant]:
        """Take at once, give what is free, most to whom most is missing."""
        for held in self._members.values():
            held.slots = min(held.slots, held.wanted)
        free = total - sum(held.most for held in self._members.values())
        for held in sorted(self._members.values(), key=lambda it: it.slots - it.wanted):
            given = min(held.wanted, max(held.slots, held.most + max(0, free)))
            free -= max(0, given - held.most)
            held.slots, held.most = given, max(given, held.most)
        self.round += 1
        slots = {member: self._members[member].slots for member in present if member in self._parts}
        fractions = _fractions(slots, {member: self._parts[member] for member in slots})
        return {member: Grant(slots[member], fractions[member], self.round) for member in slots}


def slots_of(instances: int, batch: int, batch_seconds: float) -> int:
    """Slots of a place: as many calls as its instances take at once, and where batches are short so many more that the next one is
    there when the last ends, and ends in time. `batch` calls are one batch, 1 for a model that has none; one is sent ahead while
    nothing was measured (0)."""
    ahead = min(_MOST_AHEAD, int(LOOK_AHEAD_SECONDS / batch_seconds)) if batch_seconds else 1
    if (
        batch > 1
    ):  # else it is taken with what has come when the last one ends: with half of its calls, or one
        ahead = max(1, ahead)
    return instances * (1 + ahead) * batch


def _parts(total: int, reports: Mapping[str, Report]) -> dict[str, dict[str, float]]:
    """Each member's part of the slots, in slots and parts of one, by tenant; what nobody has calls for is under "".
    They sum to the total."""
    calls: dict[str, int] = {}
    weights: dict[str, float] = {}
    for report in reports.values():
        for tenant, it in report.demands.items():
            calls[tenant] = calls.get(tenant, 0) + it.calls
            weights[tenant] = max(it.weight, weights.get(tenant, 0.0))
    shares = max_min(total, calls, weights)
    spare = max(0.0, total - sum(shares.values())) / max(1, len(reports))
    return {
        member: {"": spare}
        | {tenant: shares[tenant] * it.calls / calls[tenant] for tenant, it in report.demands.items()}
        for member, report in reports.items()
    }


def max_min(total: float, calls: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, float]:
    """The shares by weight, none more than its calls; what those leave goes to the others."""
    shares: dict[str, float] = {}
    left, weight = float(total), sum(weights[tenant] for tenant in calls)
    for tenant in sorted(calls, key=lambda it: (calls[it] / weights[it], it)):
        shares[tenant] = min(calls[tenant], left * weights[tenant] / weight)
        left -= shares[tenant]
        weight -= weights[tenant]
    return shares


def _fractions(
    slots: Mapping[str, int], parts: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """How each tenant's weight divides over the members, so that with these whole slots it gets its share of all: iterative
    proportional fitting (Deming, Stephan 1940), towards the members' slots and the tenants' shares in turn."""
    fitted = {
        member: {tenant: part for tenant, part in found.items() if tenant and part > 0}
        for member, found in parts.items()
    }
    shares = _by_tenant(fitted)
    for _ in range(_FITTINGS if len(fitted) > 1 else 0):
        for member, found in fitted.items():
            scale = slots[member] / sum(found.values()) if found else 0.0
            for tenant in found:
                found[tenant] = max(_LEAST, found[tenant] * scale)
        sums = _by_tenant(fitted)
        for found in fitted.values():
            for tenant in found:
                found[tenant] *= shares[tenant] / sums[tenant]
    return {
        member: {tenant: part / shares[tenant] for tenant, part in found.items() if part < shares[tenant]}
        for member, found in fitted.items()
    }


def _by_tenant(parts: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for found in parts.values():
        for tenant, part in found.items():
            sums[tenant] = sums.get(tenant, 0.0) + part
    return sums
