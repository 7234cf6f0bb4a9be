"""The port through which servers come and go. Adapters are in `scalers`."""

from dataclasses import dataclass, field
from typing import Protocol

from tenants.model import Model


@dataclass(frozen=True, slots=True)
class Replica:
    """One running tritonserver and where it answers, over HTTP and over gRPC; `id` is unique for ever.

    `control` are the headers that its restricted APIs (model control, configuration) ask for. `fleet` is the one that it was started for.
    """

    id: str
    host: str
    port: int
    control: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    grpc_port: int = 0
    fleet: str = ""


class StartFailed(Exception):
    """The server could not be started; the text says what to do about it."""


class Scaler(Protocol):
    """A server that was started or adopted is in this process's hand: nobody else stops it or adopts it, until it is left or this process
    ends, however it ends. Then it runs on while any gateway of its host lives.
    """

    async def start(self, fleet: str) -> Replica:
        """A new server's process runs, without a model; it may not answer yet. Raises StartFailed."""

    async def adopt(self) -> list[Replica]:
        """Those that ran in nobody's hand are in this one's, as they were started; they may not answer yet, or have ended by now. What
        was left of others is cleared away. All of them, once this process has charge and only who has charge starts servers. Raises
        OSError.
        """

    async def leave(self, replica: Replica) -> None:
        """It is in nobody's hand, and runs on if another gateway lives. Who waits for its end waits no more."""

    async def provide(self, replica: Replica, model: Model) -> None:
        """The model's files are where the replica loads them from. Raises StartFailed, with what is wrong with them."""

    async def tidy(self, replica: Replica) -> None:
        """What was provided and is not there any more (an operator deleted it) is not in the replica's way. Never raises."""

    async def gone(self, replica: Replica) -> str:
        """Returns once the server's process has ended: a sentence that says how, with the end of its log."""

    async def stop(self, replica: Replica, grace_seconds: float) -> None:
        """The server and all its children are gone, nothing of theirs is left. Requests that it held had the grace to finish; with 0
        it is killed, also one that is stopped or hangs."""
