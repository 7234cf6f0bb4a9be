"""Whose turn it is with what few threads do for all tenants. Pure: who calls it holds a lock.

A tenant has one job under way at most, and as many wait as MOST_WAITING. Tenants with waiting jobs take turns: so however much one asks
for, and however long each of its jobs takes, another waits at most for one job of each other tenant.
"""

from collections import OrderedDict, deque
from typing import Final, Generic, TypeVar

MOST_WAITING: Final = 16
"""Of one tenant."""
MOST_TENANTS: Final = 1024
"""That wait at once."""

Job = TypeVar("Job")


class Turns(Generic[Job]):
    __slots__ = ("_under_way", "_waiting")

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()  # next in turn first; none is empty
        self._under_way: set[str] = set()

    def add(self, tenant_id: str, job: Job) -> bool:
        """Let it wait; False when too many do. A door that closes: what was not added is refused."""
        jobs = self._waiting.get(tenant_id)
        if jobs is None:
            if len(self._waiting) >= MOST_TENANTS:
                return False
            jobs = self._waiting[tenant_id] = deque()
        elif len(jobs) >= MOST_WAITING:
            return False
        jobs.append(job)
        return True

    def take(self) -> tuple[str, Job] | None:
        """The next job and whose it is, until `end` under way; None: all that wait are of tenants who have one under way, or none does."""
        tenant_id = next((it for it in self._waiting if it not in self._under_way), None)
        if tenant_id is None:
            return None
        jobs = self._waiting[tenant_id]
        job = jobs.popleft()
        if jobs:
            self._waiting.move_to_end(tenant_id)
        else:
            del self._waiting[tenant_id]
        self._under_way.add(tenant_id)
        return tenant_id, job

    def end(self, tenant_id: str) -> None:
        """The tenant's job that was under way is over."""
        self._under_way.discard(tenant_id)

    def drop(self, tenant_id: str, job: Job) -> None:
        """Nobody waits for the job any more; one that has begun goes on."""
        jobs = self._waiting.get(tenant_id)
        if jobs is not None and job in jobs:
            jobs.remove(job)
            if not jobs:
                del self._waiting[tenant_id]
