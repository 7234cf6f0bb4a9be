"""What a worker or the side does as one that is supervised: it takes the sockets that it is given, says that it can serve, and beats."""

import os
import signal
import socket
from contextlib import suppress
from typing import Final

import msgspec

from gateway.app import Sockets, opened_as, serve_at
from gateway.commands.printing import progress
from gateway.frontends.http_server import Orders
from gateway.frontends.sockets import Addresses
from gateway.loops import every, running
from gateway.settings import Settings
from gateway.supervision.child import BEAT
from gateway.supervision.plan import Part, Ready

_BEAT_SECONDS: Final = 1.0
_ORDERS: Final = 0
_SAID: Final = 1


async def serve_part(settings: Settings, part: Part) -> None:
    """Until it gets the order, or its supervisor ends. The side heeds no signal but SIGKILL: who ends all processes of a service at once
    would take it from workers that finish their calls. Raises as `opened` and `serve` do.
    """
    is_worker = part.role == "worker"
    if not is_worker:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    listener = socket.socket(fileno=part.listener)
    sockets = (
        Sockets(http=listener, grpc_port=part.grpc_port, shares_grpc_port=True)
        if is_worker
        else Sockets(operator=listener)
    )
    async with (
        opened_as(part, settings, progress) as gateway,
        running(beat=every(_BEAT_SECONDS, _beat)),
    ):
        await serve_at(sockets, gateway, _tell, Orders(heeds_signals=is_worker, pipe=_ORDERS))


def _tell(found: Addresses) -> None:
    _say(msgspec.json.encode(Ready(found.http or found.operator, found.grpc)) + b"\n")


async def _beat() -> None:
    _say(BEAT)


def _say(line: bytes) -> None:
    """Nobody may listen any more: then the end of our orders is on its way."""
    with suppress(OSError):
        os.write(_SAID, line)
