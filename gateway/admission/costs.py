"""What calls of one model cost, as far as it is known: decayed means of compute seconds a unit, of the model and of each tenant. Pure."""

from collections import OrderedDict
from dataclasses import dataclass, field

_RECENT = 1 / 16  # of the model's means, by each call
_RECENT_OF_TENANT = 1 / 4  # a tenant's calls are alike


@dataclass(slots=True)
class Costs:
    """A tenant that is not among the `most_tenants` who called last is taken for an average one. `seconds` is what a unit costs while
    nothing was measured: so little that nobody is refused for it."""

    seconds: float = 0.001
    most_tenants: int = 256
    held_seconds: float = 0.0
    """How long a call holds its slot, in the mean."""
    call_seconds: float = 0.0
    """What it computes meanwhile, in the mean: less, when it waits there or shares a batch."""
    rounds: float = 1.0
    """How many batches run one after another meanwhile, in the mean."""
    _tenants: "OrderedDict[str, float]" = field(default_factory=OrderedDict)
    _calls: int = 0

    def estimate(self, tenant: str, size: float) -> float:
        """Compute seconds of a call of this size."""
        return size * self._tenants.get(tenant, self.seconds)

    @property
    def pace(self) -> float:
        """Compute seconds that one slot gives in a second."""
        return self.call_seconds / self.held_seconds if self.held_seconds and self.call_seconds else 1.0

    @property
    def batch_seconds(self) -> float:
        """How long one would hold its slot with nothing ahead of it: of the means, as a call that came first of many waits for the
        gateway to send the others."""
        return self.held_seconds / self.rounds

    def learn(
        self, tenant: str, size: float, seconds: float, held_seconds: float, rounds: float = 1.0
    ) -> None:
        """A call of this size took so much compute, and so long from the slot to its end, `rounds` batches one after another."""
        unit = seconds / size
        self._calls += 1
        part = max(_RECENT, 1 / self._calls)
        self.seconds += (unit - self.seconds) * part
        self.call_seconds += (seconds - self.call_seconds) * part
        self.held_seconds += (held_seconds - self.held_seconds) * part
        self.rounds += (rounds - self.rounds) * part
        known = self._tenants.get(tenant)
        if known is not None:
            self._tenants[tenant] = known + (unit - known) * _RECENT_OF_TENANT
            self._tenants.move_to_end(tenant)
            return
        self._tenants[tenant] = unit
        if len(self._tenants) > self.most_tenants:
            self._tenants.popitem(last=False)
