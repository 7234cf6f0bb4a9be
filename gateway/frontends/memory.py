"""A budget of memory that calls under way share: what is here of their requests is on their tenant's account until they are settled."""

from dataclasses import dataclass, field
from typing import ClassVar

from gateway.errors import Code, GatewayError


@dataclass(slots=True)
class Memory:
    """One tenant has no more than a quarter of the budget, so that the others are served whatever it sends.

    The largest part that is taken for one thing, `most_bytes`, always fits in that quarter, however small the budget was set.
    """

    what: ClassVar[str]

    budget_bytes: int
    most_bytes: int
    taken_bytes: int = field(default=0, init=False)
    _taken_by: dict[str, int] = field(default_factory=dict, init=False)

    def take(self, tenant_id: str, size: int) -> None:
        """Raises TOO_MANY_AT_ONCE when the tenant's part is spent, OVERLOADED when all is."""
        taken_by = self._taken_by.get(tenant_id, 0)
        if taken_by + size > max(self.budget_bytes // 4, self.most_bytes):
            private = f"the tenant's part of the memory for {self.what} is spent"
            raise GatewayError(Code.TOO_MANY_AT_ONCE, private=private, retry_after_seconds=1)
        if self.taken_bytes + size > self.budget_bytes:
            private = f"the memory for {self.what} is spent"
            raise GatewayError(Code.OVERLOADED, private=private, retry_after_seconds=1)
        self.add(tenant_id, size)

    def add(self, tenant_id: str, size: int) -> None:
        """What is here already, whether there is room for it or not."""
        self._taken_by[tenant_id] = self._taken_by.get(tenant_id, 0) + size
        self.taken_bytes += size

    def give_back(self, tenant_id: str, size: int) -> None:
        self.taken_bytes -= size
        left = self._taken_by.pop(tenant_id, 0) - size
        if left > 0:
            self._taken_by[tenant_id] = left
