"""What a model on a replica shows of its health when it is asked. Who acts on it is `lifecycle`."""

import asyncio

from gateway.scaling.board import Lodging, ManagedServer
from gateway.scaling.registry import Resident
from gateway.scaling.scaler import Replica
from gateway.triton import canary, control
from gateway.triton.canary import Health
from gateway.triton.client import Client, NotSent, UpstreamFailed
from gateway.triton.probe import is_ready

CANARY_SECONDS = 2.0
_SILENCE = (NotSent, UpstreamFailed, TimeoutError)


async def health(place: Lodging) -> Health:
    """A canary's answer; of a model without one, what Triton says of it, and whether calls met its process dead."""
    if place.canary is not None:
        found = await canary.answer(place.client, place.model, place.canary, CANARY_SECONDS)
        if found is not Health.UNUSABLE:  # the model is gone, or does not take any more what it took
            return found
    state = await _state(place.server.control, place.replica, place.model)
    if state is None:
        return Health.SILENT
    return Health.WELL if state == "READY" and not place.is_failing else Health.FAILING


async def is_alive(server: ManagedServer) -> bool:
    """Whether the server answers anything at all."""
    if server.control is None or server.replica is None:
        return False
    return await is_ready(server.control, server.replica.id, CANARY_SECONDS)


async def is_unloaded(place: Resident) -> bool:
    """Whether Triton says that it does not have the model. Not when it says nothing: a call may have run then."""
    return await _state(place.server.control, place.replica, place.model) not in ("READY", None)


async def _state(client: Client | None, replica: Replica, model: str) -> control.State | None:
    if client is None:
        return None
    try:
        async with asyncio.timeout(CANARY_SECONDS):
            return await control.state(client, replica, model)
    except _SILENCE:
        return None
