"""What one process of a host does for all: servers and models come and go with demand, what is old goes, data keys are looked after."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import Final

from gateway.ageing import opened_ageing
from gateway.loops import every, running
from gateway.roles.shared import Shared
from gateway.scaling.autoscaler import Autoscaler
from gateway.scaling.board import NOBODY_MEASURES, Measures
from gateway.scaling.charge import Charge
from gateway.scaling.desk import Desk
from gateway.scaling.scaler import Scaler
from gateway.state import TRITON, boot_clock, new_id, now_us, usage_log
from gateway.telemetry.rooms import watch_servers, watch_usage
from gateway.usage.fold import Folder
from gateway.usage.heard import Calls
from gateway.usage.measuring import Measuring
from tenants.errors import Conflict, TableUnavailable, Unreadable

_CARE_SECONDS: Final = 60.0
_FOLD_SECONDS: Final = 1.0


@asynccontextmanager
async def opened_side(shared: Shared, scaler: Scaler, progress: Callable[[str], None]) -> AsyncIterator[None]:
    """All of it runs while the block does; `progress` is told of servers that start. Raises TableUnavailable, UnknownFormat,
    BlobsUnavailable, SegmentFailed.
    """
    measuring = Measuring(shared.usage, Calls(), shared.board.servers.values, now_us)
    async with opened_upkeep(shared, measuring):
        async with opened_scaling(shared, scaler, progress, measuring):
            yield
        await measuring.close()


@asynccontextmanager
async def opened_upkeep(shared: Shared, measuring: Measuring | None = None) -> AsyncIterator[None]:
    """What is old goes, data keys are looked after, what was used is summed. Raises as `opened_side`."""
    folder = Folder(
        usage_log(shared.settings), shared.usage, measuring.calls.hear if measuring else lambda _: None
    )
    watch_usage(shared.meter, folder)

    async def count() -> None:
        """One behind the other: both write the same sums."""
        await folder.look()
        if measuring is not None:
            await measuring.look()

    async with (
        opened_ageing(shared.settings, shared.directory, shared.meter) as ageing,
        running(
            usage=every(_FOLD_SECONDS, count, TableUnavailable, Unreadable, Conflict, OSError),
            caretaker=every(_CARE_SECONDS, shared.data_keys.caretaker.look),
            **{name: loop() for name, loop in ageing.items()},
        ),
    ):
        yield


@asynccontextmanager
async def opened_scaling(
    shared: Shared, scaler: Scaler, progress: Callable[[str], None], measures: Measures = NOBODY_MEASURES
) -> AsyncIterator[None]:
    """Servers and models come and go with demand, by who has charge of them."""
    settings, known = shared.settings, shared.known
    charge = Charge(shared.state / TRITON)
    desk = Desk(
        table=shared.live,
        domain=shared.domain,
        name=shared.life.name,
        board=shared.board,
        clock=boot_clock,
        patience=shared.throttler.member.patience,
        is_dead=shared.life.is_dead,
        tell=shared.nudges.tell,
    )
    shared.nudges.listen(shared.board.wake.set)
    autoscaler = Autoscaler(
        scaler=scaler,
        board=shared.board,
        desk=desk,
        observer=shared.meter,
        clock=boot_clock,
        models=known.models,
        fleets=known.fleets,
        new_name=lambda: new_id()[:12],
        start_seconds=settings.triton.start_seconds,
        progress=progress,
        taken=charge.taken,
        leaves=lambda: charge.is_taken and not shared.alive.is_last(),
        measures=measures,
    )
    watch_servers(shared.meter, shared.board)
    with closing(charge):
        async with running(autoscaler=autoscaler.run()):
            yield
