"""What was used until now: the sums, and what is in the log and not in them yet. So an answer is as young as the log: whoever asks sees
each call as soon as its outcome is on the disk.

A read is not of one instant. Where something was folded meanwhile it is made again, and when that does not end the younger one counts: then
a call that was folded in between may be seen twice, and nobody is billed by that.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from gateway.usage.fold import places
from gateway.usage.segments import Log, Segments
from gateway.usage.standing import Standing, calls_of, start
from tenants import usage
from tenants.errors import TableUnavailable
from tenants.ports import MOST_ROWS, Table
from tenants.usage import Asked, Call, Group, Sums, Used

_TRIES: Final = 4


class Reader:
    def __init__(self, log: Callable[[], Log], table: Table) -> None:
        self._segments = Segments(log)
        self._table = table

    async def used(self, asked: Asked) -> Used:
        """Raises TableUnavailable, also where the log cannot be read; Unreadable."""
        try:
            return await self._used(asked)
        except OSError as fault:
            raise TableUnavailable(f"the audit log cannot be read: {fault}") from fault

    async def _used(self, asked: Asked) -> Used:
        for _ in range(_TRIES):
            before = await self._standings()
            stored = await self._stored(asked)
            fresh = await asyncio.to_thread(self._waiting, asked, before)
            if before == await self._standings():
                break
        both = {
            group: stored.get(group, usage.NOTHING) + fresh.get(group, usage.NOTHING)
            for group in sorted(stored.keys() | fresh.keys())
        }
        return Used(both, sum(sums.calls for sums in fresh.values()))

    async def _standings(self) -> dict[str, Standing]:
        return {name: place.standing for name, place in (await places(self._table)).items()}

    async def _stored(self, asked: Asked) -> dict[Group, Sums]:
        found: dict[Group, Sums] = {}
        partition = Group(asked.tenant, asked.unit, "", "", "").at.partition
        after: str | None = asked.start or None
        while True:
            page = await self._table.list(partition, "", after, MOST_ROWS)
            for row in page.rows:
                group = usage.group_of(asked.tenant, asked.unit, row.key.sort)
                if asked.end and group.period >= asked.end:
                    return found
                if asked.holds(group):
                    found[group] = usage.read(row)
            after = page.next_after
            if after is None:
                return found

    def _waiting(self, asked: Asked, standings: Mapping[str, Standing]) -> dict[Group, Sums]:
        """What is not folded; the newest commit of each segment counts here, as whoever asks wants to see it."""
        found: dict[Group, Sums] = {}
        for name in self._segments.look():
            standing = standings.get(name) or start(name)
            if not standing.done:
                calls = (call for call in self._behind(name, standing) if call.tenant == asked.tenant)
                for group, sums in usage.folded(calls).items():
                    if asked.holds(group):
                        found[group] = found.get(group, usage.NOTHING) + sums
        return found

    def _behind(self, name: str, standing: Standing) -> Iterator[Call]:
        """The calls of one segment, read piece by piece."""
        if (end := self._segments.end(name)) is not None and standing.commits >= end:
            return
        it = self._segments.next(name, standing)
        if end is not None and not it.counted:
            standing = self._segments.placed(name, standing)
            it = self._segments.next(name, standing)
        while it.counted:
            yield from calls_of(it.counted, standing)
            standing = standing.behind_all(it.counted)
            it = self._segments.next(name, standing)
        if it.waiting is not None:
            yield from calls_of((it.waiting,), standing)
