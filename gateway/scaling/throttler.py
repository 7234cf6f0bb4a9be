"""Holds calls while no replica can take them, and has one started: single flight, however many wait.

One replica for all models of a repository; more of them, residency and health are the work of later rooms beside this one.
Bounded: at most `most_waiting` calls are held, each no longer than its own deadline; the others are refused with a Retry-After that says
what the last start took. A server that is not ready within `start_seconds` is stopped, and who waited for it is refused.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.errors import Code, GatewayError
from gateway.scaling.scaler import Replica, Scaler, StartFailed
from gateway.triton.client import Client, NotSent, UpstreamFailed
from gateway.triton.probe import Loaded, is_ready, loaded
from gateway.triton.repository import versions

log = logging.getLogger(__name__)

_PROBE_SECONDS = 0.02
_PAUSE_SECONDS = 1.0
_NOT_LOADED_SECONDS = 60.0  # nothing but an operator changes that


@dataclass(slots=True)
class Slot:
    """A call's place on a replica."""

    replica: Replica
    client: Client
    models: Loaded

    def version_of(self, model: str) -> str:
        """The newest version of the model that this replica serves, "" when it has none."""
        return max(self.models.get(model, ()), key=int, default="")


@dataclass(slots=True)
class Throttler:
    """`run` is its loop: it starts what is wanted and ends what runs.

    `clock` gives monotonic seconds, `repositories` the models that a replica is to serve, each with the folder it is in.
    """

    scaler: Scaler
    clock: Callable[[], float]
    repositories: Callable[[], Mapping[str, Path]]
    start_seconds: float = 30.0
    most_waiting: int = 1_000
    progress: Callable[[str], None] = lambda _: None
    _place: Slot | None = None
    _waiting: list[asyncio.Future[Slot]] = field(default_factory=list)
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _last_start_seconds: float = 2.0

    async def acquire(self, model: str) -> Slot:
        """A place for a call of this model. Raises MODEL_UNAVAILABLE, OVERLOADED; the caller's deadline cancels the wait."""
        place = self._place
        if place is None or self.scaler.why_gone(place.replica):
            place = await self._wait()
        if model not in place.models:
            raise GatewayError(
                Code.MODEL_UNAVAILABLE,
                private=f"{place.replica.id} could not load {model}; its log says why",
                retry_after_seconds=_NOT_LOADED_SECONDS,
            )
        return place

    def offers(self, model: str, version: str) -> bool:
        """Whether a call could be served: by the replica that runs, or by one that can be started. Starts nothing."""
        if self._place is not None:
            found = self._place.models.get(model, ())
        else:
            folder = self.repositories().get(model)
            found = versions(folder, model) if folder else ()
        return version in found if version else bool(found)

    def lost(self, slot: Slot, why: NotSent) -> None:
        """The slot's replica could not be reached; the next call has another one started, if it is gone indeed."""
        gone = self.scaler.why_gone(slot.replica)
        if self._place is slot and (gone or isinstance(why.__cause__, ConnectionRefusedError)):
            log.warning("replica %s is gone: %s", slot.replica.id, gone or why)
            self._leave()

    async def _wait(self) -> Slot:
        if len(self._waiting) >= self.most_waiting:
            raise GatewayError(Code.OVERLOADED, retry_after_seconds=math.ceil(self._last_start_seconds))
        waiter: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._wanted.set()
        try:
            return await waiter
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    async def run(self) -> None:
        """Start a replica whenever one is wanted; stop all of them when cancelled."""
        replicas: list[Replica] = []
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                if not self._waiting:
                    continue
                self._leave()
                while replicas:
                    await self.scaler.stop(replicas.pop())
                try:
                    replicas.append(replica := await self.scaler.start())
                    self._place = await self._boot(replica)
                except StartFailed as fault:
                    log.warning("Triton could not be started: %s", fault)
                    self._answer(fault)
                    while replicas:
                        await self.scaler.stop(replicas.pop())
                    await asyncio.sleep(_PAUSE_SECONDS)  # or it would be started in a circle
                else:
                    self._answer(self._place)
        finally:
            self._leave()
            for replica in replicas:
                await self.scaler.stop(replica)

    def _leave(self) -> None:
        """Send no more calls to the present replica."""
        if self._place is not None:
            self._place.client.close()
            self._place = None

    async def _boot(self, replica: Replica) -> Slot:
        """Wait until the server is ready. Raises StartFailed."""
        started = self.clock()
        client = Client(replica.host, replica.port)
        self.progress(f"starting Triton on port {replica.port}")
        while not await is_ready(client, replica.id):
            took = self.clock() - started
            why = self.scaler.why_gone(replica)
            if why is not None or took > self.start_seconds:
                client.close()
                raise StartFailed(why or f"Triton was not ready within {self.start_seconds:.0f} s")
            await asyncio.sleep(_PROBE_SECONDS)
        try:
            models = await loaded(client, sorted(self.repositories()))
        except (NotSent, UpstreamFailed, TimeoutError) as fault:
            client.close()
            raise StartFailed(f"Triton stopped answering as it started: {fault}") from fault
        self._last_start_seconds = self.clock() - started
        self.progress(
            f"Triton is ready after {self._last_start_seconds:.1f} s with {', '.join(models) or 'no model'}"
        )
        return Slot(replica, client, models)

    def _answer(self, result: Slot | StartFailed) -> None:
        """Let everyone who waits go on."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if waiter.done():
                continue
            if isinstance(result, Slot):
                waiter.set_result(result)
            else:
                waiter.set_exception(
                    GatewayError(
                        Code.MODEL_UNAVAILABLE, private=str(result), retry_after_seconds=_PAUSE_SECONDS
                    )
                )
