"""What one process of a host does for all: servers and models come and go with demand, what is old goes, data keys are looked after."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import Final

from gateway.ageing import opened_ageing
from gateway.loops import every, running
from gateway.roles.shared import Shared
from gateway.scaling.autoscaler import Autoscaler
from gateway.scaling.charge import Charge, Orphans
from gateway.scaling.scaler import Scaler
from gateway.state import TRITON, clock, new_id, usage_log
from gateway.telemetry.rooms import watch_servers, watch_usage
from gateway.triton.reach import Reach
from gateway.usage.fold import Folder
from tenants.errors import TableUnavailable, Unreadable

_CARE_SECONDS: Final = 60.0
_ADOPT_SECONDS: Final = 1.0
_FOLD_SECONDS: Final = 1.0


@asynccontextmanager
async def opened_side(shared: Shared, scaler: Scaler, progress: Callable[[str], None]) -> AsyncIterator[None]:
    """The loops run while the block does; `progress` is told of servers that start. Raises TableUnavailable, UnknownFormat,
    BlobsUnavailable, SegmentFailed.
    """
    settings, known = shared.settings, shared.known
    async with AsyncExitStack() as stack:
        charge = stack.enter_context(closing(Charge(shared.state / TRITON)))
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
            leaves=lambda: charge.is_taken and not shared.alive.is_last(),
        )
        folder = Folder(usage_log(settings), shared.usage)
        watch_usage(shared.meter, folder)
        watch_servers(shared.meter, shared.registry)
        await stack.enter_async_context(
            running(
                autoscaler=autoscaler.run(),
                orphans=every(_ADOPT_SECONDS, Orphans(charge, scaler).look, OSError),
                usage=every(_FOLD_SECONDS, folder.look, TableUnavailable, Unreadable, OSError),
                caretaker=every(_CARE_SECONDS, shared.data_keys.caretaker.look),
                **{name: loop() for name, loop in ageing.items()},
            )
        )
        yield
