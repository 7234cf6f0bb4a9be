"""Servers that somebody else runs: a model's document says where, and here its one place is kept and looked at.

    document read -> takes calls -> [a call could not be sent, or it is not ready: takes none] -> says that it is ready: takes calls again

Nothing is started for it, and nothing planned with it. It takes calls as soon as its document is read: a server that is not there is
found out by its first call. While it is used, or takes no calls, it is asked every two seconds whether it is ready, and at once when a
call has failed; who waits for it meanwhile is held and refused as for a model that is loaded (`throttler`). One that does not prove over
TLS who it is is not waited for.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.scaling.breaker import Breaker
from gateway.scaling.registry import Demand, KnownServer, Registry, Resident
from gateway.scaling.residency import Life, Phase
from gateway.scaling.scaler import Replica
from gateway.scaling.throttler import Throttler
from gateway.triton.client import Client, NotSent, Untrusted, UpstreamFailed
from gateway.triton.grpc_client import GrpcClient
from gateway.triton.reach import LOOPBACK, Reach
from tenants.model import Model
from tenants.openai import PassThrough

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
_AT_ONCE_SECONDS = 0.25  # who fails many times a second is looked at a few times
_FREE_FAILURES = 2
# It is over when the server says that it is ready: until the next look at the latest, which may take its time too.
_PAUSE_SECONDS = 2 * LOOK_SECONDS
# Such servers hang up on an idle connection after five (uvicorn); a call that went out at that moment would be lost with it.
_IDLE_SECONDS = 2.0
_READY = "/health/ready"  # of Triton's own front end
_READY_STATUSES = (200, 404)  # a server that has no such path has answered, too


@dataclass(slots=True)
class Elsewhere:
    """`clock` gives monotonic seconds, `models` what the documents say, `spawn` runs a look beside the loop that ticks."""

    registry: Registry
    throttler: Throttler
    clock: Callable[[], float]
    models: Callable[[], Mapping[str, Model]]
    spawn: Callable[[str, Coroutine[Any, Any, None]], None]
    reach: Reach = LOOPBACK
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context
    """Whose certificates are taken over TLS, now."""
    places: dict[str, Resident] = field(default_factory=dict)
    _seen: Mapping[str, Model] = field(default_factory=dict)

    def tick(self, now: float) -> None:
        """The places are those of the documents, and who is due is looked at."""
        if self.models() is not self._seen:
            self._seen = self.models()
            self._reconcile(self._seen)
        for place in self.places.values():
            if _is_due(place, now):
                place.is_checked = True
                self.spawn(f"look at {place.replica.id}", self._look(place))

    @property
    def is_watching(self) -> bool:
        """Whether some place has to be looked at when its time comes."""
        return any(_is_watched(place) for place in self.places.values())

    def close(self) -> None:
        """Whoever had a call has its answer by now: no connection is kept."""
        for place in self.places.values():
            place.abort()

    def _reconcile(self, rows: Mapping[str, Model]) -> None:
        wanted = {name: row.openai for name, row in rows.items() if isinstance(row.openai, PassThrough)}
        for name, place in list(self.places.items()):
            if name not in wanted or wanted[name].address != place.replica.id:
                self._leave(place)
        for name, section in wanted.items():
            place = self.places.get(name) or self._enter(rows[name], section)
            place.row = rows[name]

    def _enter(self, row: Model, section: PassThrough) -> Resident:
        demand = self.registry.demand(row.name)
        demand.loads = Breaker(_FREE_FAILURES, first_seconds=_PAUSE_SECONDS, most_seconds=_PAUSE_SECONDS)
        for place in list(demand.rotation):  # of a Triton of ours, as its document had it until now
            self.throttler.withdraw(place)
        replica = Replica(section.address, section.host, section.port)
        place = self.places[row.name] = Resident(
            model=row.name,
            memory_bytes=0,
            phase=Phase.READY,
            row=row,
            server=KnownServer(name=replica.id, fleet="", life=Life.READY, replica=replica),
            replica=replica,
            client=self._client(section),
            grpc=GrpcClient(replica.host, replica.grpc_port, clock=self.clock),  # nobody calls it so
            demand=demand,
        )
        self.throttler.admit(place)
        return place

    def _client(self, section: PassThrough) -> Client:
        return Client(
            section.host,
            section.port,
            _IDLE_SECONDS,
            reach=self.reach.over_tls() if section.is_tls else self.reach,
            trust=self.trust if section.is_tls else None,
            authority=section.authority,
        )

    def _leave(self, place: Resident) -> None:
        """It gets no more calls; those that it has go on. Who waits waits for what the document says now."""
        del self.places[place.model]
        place.phase = Phase.DRAINING
        place.demand.loads, place.demand.is_untrusted = Demand().loads, False
        self.throttler.withdraw(place)
        place.close()

    async def _look(self, place: Resident) -> None:
        calls, place.is_suspect, place.used_at_check = place.well, False, place.uses
        why_not = await _why_not(place.client)
        place.is_checked, place.judged_at = False, self.clock()
        if self.places.get(place.model) is not place:
            return
        if not why_not or place.well > calls:  # a reply to a call outweighs an answer that did not come
            self._works(place)
        else:
            self._failed(place, why_not, place.judged_at)

    def _works(self, place: Resident) -> None:
        place.demand.loads.succeeded()
        place.demand.is_untrusted = False
        if place not in place.demand.rotation:
            log.warning("%s takes calls of %s again", place.replica.id, place.model)
            self.throttler.admit(place)

    def _failed(self, place: Resident, fault: Exception | str, now: float) -> None:
        """It is held against the model; who waits need not wait on while it backs off."""
        why = str(fault)
        if place in place.demand.rotation:
            self.throttler.lost(place, why)
        loads = place.demand.loads
        place.demand.is_untrusted = isinstance(fault, Untrusted)
        loads.failed(why, now, is_certain=place.demand.is_untrusted)
        if loads.state(now) == "open":
            self.throttler.refuse(place.row, why, now)


async def _why_not(client: Client) -> Exception | str:
    """Why the server takes no calls; "" when it does."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            answer = await client.ask("GET", _READY)
    except TimeoutError:
        return f"{_READY} was not answered within {LOOK_SECONDS:g} s"
    except (NotSent, UpstreamFailed) as fault:
        return fault
    return "" if answer.status in _READY_STATUSES else f"{_READY} is {answer.status}"


def _is_watched(place: Resident) -> bool:
    is_used = place.in_flight > 0 or place.uses != place.used_at_check
    return is_used or place.is_suspect or place not in place.demand.rotation


def _is_due(place: Resident, now: float) -> bool:
    pause = _AT_ONCE_SECONDS if place.is_suspect else LOOK_SECONDS
    return not place.is_checked and _is_watched(place) and now - place.judged_at >= pause
