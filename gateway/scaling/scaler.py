"""The port through which servers come and go. Adapters are in `scalers`."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Replica:
    """One running tritonserver and where it answers; `id` is unique for ever."""

    id: str
    host: str
    port: int


class StartFailed(Exception):
    """The server could not be started; the text says what to do about it."""


class Scaler(Protocol):
    async def start(self) -> Replica:
        """A new server's process runs; it may not answer yet. Raises StartFailed."""

    def why_gone(self, replica: Replica) -> str | None:
        """None while its process runs, else a sentence that says how it ended."""

    async def stop(self, replica: Replica) -> None:
        """The server and all its children are gone. Requests that it held had time to finish."""
