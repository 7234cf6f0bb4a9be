"""What one process of a host does for all: servers and models come and go with demand, what is old goes, data keys are looked after."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from gateway.ageing import opened_ageing
from gateway.loops import every, running
from gateway.roles.shared import Shared
from gateway.scaling.autoscaler import Autoscaler
from gateway.scaling.scaler import Scaler
from gateway.state import clock, new_id
from gateway.telemetry.rooms import watch_servers
from gateway.triton.reach import Reach

_CARE_SECONDS: Final = 60.0


@asynccontextmanager
async def opened_side(shared: Shared, scaler: Scaler, progress: Callable[[str], None]) -> AsyncIterator[None]:
    """The loops run while the block does; `progress` is told of servers that start. Raises TableUnavailable, UnknownFormat,
    BlobsUnavailable, SegmentFailed.
    """
    settings, known = shared.settings, shared.known
    async with AsyncExitStack() as stack:
        ageing = await stack.enter_async_context(opened_ageing(settings, shared.directory, shared.meter))
        autoscaler = Autoscaler(
            scaler=scaler,
            registry=shared.registry,
            throttler=shared.throttler,
            observer=shared.meter,
            clock=clock,
            models=known.models,
            fleets=known.fleets,
            new_name=lambda: new_id()[:12],
            start_seconds=settings.triton.start_seconds,
            progress=progress,
            reach=Reach.of(settings.upstream.networks),
            trust=shared.trusted.context,
        )
        watch_servers(shared.meter, shared.registry)
        await stack.enter_async_context(
            running(
                autoscaler=autoscaler.run(),
                caretaker=every(_CARE_SECONDS, shared.data_keys.caretaker.look),
                **{name: loop() for name, loop in ageing.items()},
            )
        )
        yield
