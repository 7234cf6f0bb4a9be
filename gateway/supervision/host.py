"""The supervisor of this host: it has the listeners, and it is the parent of the side and the workers.

It holds the public listener's socket for all workers, so a connection that comes while one of them is replaced waits for the others. gRPC
takes no socket from anybody: each worker binds its port itself, which the supervisor keeps reserved for them.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.cluster.certificates import NotProven, Process, reaped
from gateway.cluster.life import member_name
from gateway.cluster.membership import certify
from gateway.frontends.sockets import bound_socket, reserved_socket, tell_what_is_in_the_clear
from gateway.loops import every
from gateway.process import identity
from gateway.scaling.alive import deserted
from gateway.settings import CLOSED, Settings
from gateway.state import RUN, TRITON, boot_clock, new_id, opened_live, state_folder
from gateway.supervision.child import Child
from gateway.supervision.figures import own_folder
from gateway.supervision.plan import Part, Ready, Role, Stage
from gateway.supervision.supervisor import Supervisor
from tenants.errors import TableUnavailable, Unreadable
from tenants.ports import Table

log = logging.getLogger(__name__)

_CALL_SECONDS: Final = 1.0
_SLACK_SECONDS: Final = 15.0  # for what ends behind the last call: the log, the rooms, servers


@dataclass(frozen=True, slots=True)
class Doors:
    """Bound, and given to each child that is started."""

    http: socket.socket
    operator: socket.socket
    grpc: socket.socket | None

    @property
    def grpc_port(self) -> int:
        return int(self.grpc.getsockname()[1]) if self.grpc is not None else CLOSED

    def close(self) -> None:
        for it in (self.http, self.operator, self.grpc):
            if it is not None:
                it.close()


async def supervise(
    settings: Settings,
    workers: int,
    *,
    free_port: Callable[[], int],
    started: Callable[[list[Ready]], None],
) -> None:
    """Until SIGTERM or SIGINT. SIGHUP renews all, one by one. `started` is told once all can serve what each says, the side first. Raises
    OSError, TableUnavailable, StartFailed of `supervisor`.
    """
    tell_what_is_in_the_clear(settings)
    with ExitStack() as stack:
        doors = Doors(
            stack.enter_context(bound_socket(settings.host, settings.port or free_port())),
            stack.enter_context(bound_socket(settings.operator_host, settings.operator_port or free_port())),
            None
            if settings.grpc_port == CLOSED
            else stack.enter_context(reserved_socket(settings.grpc_host, settings.grpc_port or free_port())),
        )
        name = new_id()[:12]
        stack.enter_context(own_folder(state_folder(settings) / RUN, name))
        async with opened_live(settings) as table:
            own = identity(os.getpid())
            drain = settings.http.grace_seconds + settings.http.drain_seconds + _SLACK_SECONDS
            supervisor = Supervisor(
                start=lambda role, slot, stage: _started(
                    doors, workers, name, role=role, slot=slot, stage=stage
                ),
                certify=lambda child: _certify(table, child, own),
                clock=boot_clock,
                workers=workers,
                drain_seconds=drain,
                hand_over_seconds=drain + 1.1 * settings.grpc.connection_seconds,
            )
            async with _signals(supervisor):
                try:
                    await supervisor.run(started, doors.close)
                finally:
                    await deserted(state_folder(settings) / TRITON)


async def _started(
    doors: Doors, workers: int, supervisor: str, *, role: Role, slot: str, stage: Stage
) -> Child:
    """A fresh interpreter, so that it has nothing of ours but what it is given. In a session of its own: Ctrl-C is for us alone, who end
    all in their order. Raises OSError.
    """
    listener = doors.http if role == "worker" else doors.operator
    name = member_name(os.uname().nodename, slot, new_id())
    part = Part(
        role, name, supervisor, listener.fileno(), workers, doors.grpc_port if role == "worker" else CLOSED
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "gateway.cli", *sys.argv[1:]),
        *("--part", msgspec.json.encode(part).decode()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        pass_fds=(listener.fileno(),),
        start_new_session=True,
    )
    who: Process | None = None
    with suppress(ProcessLookupError):
        who = identity(process.pid)
    return Child(part, process, who, boot_clock, stage, born=boot_clock())


async def _certify(table: Table, child: Child, own: Process) -> None:
    """Others know that it is dead, as soon as the table answers. One that has left itself has said so."""
    if child.identity is None:
        return
    proof = reaped(child.name, child.identity, child.process.pid, own)

    async def ask() -> None:
        async with asyncio.timeout(_CALL_SECONDS):
            await certify(table, proof)
        raise _Answered

    with suppress(_Answered, NotProven, Unreadable):
        await every(_CALL_SECONDS, ask, TableUnavailable, TimeoutError)


class _Answered(Exception):
    """The row says so."""


@asynccontextmanager
async def _signals(supervisor: Supervisor) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    heeded = {
        signal.SIGTERM: supervisor.stop,
        signal.SIGINT: supervisor.stop,
        signal.SIGHUP: supervisor.renew,
    }
    for number, act in heeded.items():
        loop.add_signal_handler(number, act)
    try:
        yield
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)
