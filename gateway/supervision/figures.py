"""What the side tells operators of all processes of its host: each worker tells it of itself, over a socket in the state.

    run/<name>.figures   whoever connects is told the worker's figures and whether it serves, and hears no more

Only its owner reaches it. A worker that is gone refuses, and what it counted is kept; one that does not answer in time is counted, and
stands for what it counted by its last answer.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.frontends.http import Readiness
from gateway.telemetry.meter import Reading
from gateway.telemetry.sums import Told, added, decoded, lasting, read

log = logging.getLogger(__name__)

_ANSWER_SECONDS: Final = 1.0
_MOST_BYTES: Final = 64 * 1024 * 1024
_SUFFIX: Final = ".figures"


@asynccontextmanager
async def telling(folder: Path, name: str, tell: Callable[[], bytes]) -> AsyncIterator[None]:
    """Who asks is told, while the block runs. Raises OSError."""

    async def told(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(tell())
            await writer.drain()
            writer.close()

    with _place(folder) as at, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{at}/{name}{_SUFFIX}")
        try:
            async with await asyncio.start_unix_server(told, sock=listener):
                yield
        finally:
            (folder / f"{name}{_SUFFIX}").unlink(missing_ok=True)


@contextmanager
def _place(folder: Path) -> Iterator[str]:
    """A short name of the folder, as the address of a socket may have 107 bytes and a state may lie deep. The folder is made."""
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class Gathering:
    """Of the workers that tell in this folder, `workers` of them, and of this process itself. `silent` counts answers that did not come."""

    folder: Path
    workers: int
    own: Callable[[], Reading]
    present: Callable[[], Readiness]
    silent: int = 0
    _told: dict[str, Told] = field(default_factory=dict)
    _past: Reading = field(default_factory=dict)
    """What the workers had counted that are gone."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def figures(self) -> Reading:
        """Of all, now."""
        answers = await self._asked()
        late = [lasting(read(told)) for name, told in self._told.items() if name not in answers]
        return added([self.own(), self._past, *late, *(read(told) for told in answers.values())])

    async def readiness(self) -> Readiness:
        """Whether all serve."""
        answers, own = await self._asked(), self.present()
        said = [own, *(Readiness(ready=it.ready, state=it.state) for it in answers.values())]
        for it in said:
            if not it.ready:
                return it
        if len(answers) < self.workers:
            return Readiness(ready=False, state=f"{len(answers)} of {self.workers} workers answer")
        return next((it for it in said if it.state != "ok"), own)

    async def look(self) -> None:
        """What a worker counts is known to within some seconds when it ends."""
        await self._asked()

    async def _asked(self) -> dict[str, Told]:
        """What each tells that answers. Of who was gone before, what it had counted is past."""
        async with self._turn:
            with _place(self.folder) as at:
                names = [it.stem for it in self.folder.glob(f"*{_SUFFIX}")]
                for name in self._told.keys() - set(names):
                    self._past = added([self._past, lasting(read(self._told.pop(name)))])
                answers = await asyncio.gather(*(self._ask(at, name) for name in names))
            found = {name: told for name, told in zip(names, answers, strict=True) if told is not None}
            self._told |= found
            return found

    async def _ask(self, at: str, name: str) -> Told | None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(
                    f"{at}/{name}{_SUFFIX}", limit=_MOST_BYTES
                )
                try:
                    return decoded(await reader.read())
                finally:
                    writer.close()
        except (ConnectionRefusedError, FileNotFoundError):  # it is gone
            (self.folder / f"{name}{_SUFFIX}").unlink(missing_ok=True)
        except (TimeoutError, OSError, ValueError) as fault:
            self.silent += 1
            log.warning("%s does not tell its figures: %r", name, fault)
        return None
