"""What the side tells operators of all processes of its supervisor: each worker tells it of itself, over a socket.

    run/<supervisor>/               of one supervisor, which has it locked while it lives; the next one removes what others left
    run/<supervisor>/<name>.figures whoever connects is told that process's figures and whether it serves, and hears no more
    run/<supervisor>/<name>.past    what a process had counted that has ended, by its own last word, or by its last answer

So a counter never shrinks, whoever ends; of a side that is killed its own are lost. A worker that does not answer in time is counted, and
stands for what it had counted by its last answer. Only its owner reaches any of it.
"""

import asyncio
import fcntl
import logging
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.frontends.http import Readiness
from gateway.telemetry.meter import Reading
from gateway.telemetry.sums import Told, added, decoded, encoded, lasting, read

log = logging.getLogger(__name__)

_ANSWER_SECONDS: Final = 1.0
MOST_BYTES: Final = 16 * 1024 * 1024
"""Of what one process tells."""
_PIECE_BYTES: Final = 256 * 1024
_FIGURES: Final = ".figures"
_PAST: Final = ".past"


@contextmanager
def own_folder(run: Path, name: str) -> Iterator[None]:
    """A supervisor's, for as long as the block runs. Raises OSError."""
    run.mkdir(mode=0o700, exist_ok=True)
    for other in run.iterdir():
        if other.is_dir():
            with suppress(OSError), _locked(other):  # else its supervisor lives
                shutil.rmtree(other)
    folder = run / name
    folder.mkdir(mode=0o700)
    try:
        with _locked(folder):
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def telling(folder: Path, name: str, tell: Callable[[], bytes]) -> AsyncIterator[None]:
    """Who asks is told, while the block runs; what was told last stays behind it. Raises OSError."""

    async def told(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(tell())
            await writer.drain()
            writer.close()

    with _place(folder) as at, leaving(folder, name, tell), socket.socket(socket.AF_UNIX) as listener:
        os.fchmod(listener.fileno(), 0o600)  # before it is bound: it is so from its first moment on
        listener.bind(f"{at}/{name}{_FIGURES}")
        async with await asyncio.start_unix_server(told, sock=listener):
            yield


@contextmanager
def leaving(folder: Path, name: str, tell: Callable[[], bytes]) -> Iterator[None]:
    """Behind the block it is known what this process had counted. Its supervisor may be gone by then, and nobody wants to know."""
    try:
        yield
    finally:
        with suppress(OSError):
            _leave(folder, name, tell())


@dataclass(slots=True)
class Gathering:
    """Of the workers that tell in this folder, `workers` of them, and of this process itself. `silent` counts answers that did not come."""

    folder: Path
    workers: int
    own: Callable[[], Reading]
    present: Callable[[], Readiness]
    silent: int = 0
    _told: dict[str, Told] = field(default_factory=dict)
    _past: dict[str, Reading] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def figures(self) -> Reading:
        """Of all, now."""
        answers = await self._asked()
        late = [lasting(read(told)) for name, told in self._told.items() if name not in answers]
        living = [read(told) for told in answers.values()]
        return added([self.own(), *self._past.values(), *late, *living])

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
        """What a worker counts is known to within some seconds when it is killed."""
        await self._asked()

    async def _asked(self) -> dict[str, Told]:
        """What each tells that answers and has not ended."""
        async with self._turn:
            try:
                return await self._gathered()
            except (
                OSError
            ) as fault:  # the supervisor is dead, and the next one has swept its folder; no descriptors
                log.warning("no process can be asked for its figures: %r", fault)
                return {}

    async def _gathered(self) -> dict[str, Told]:
        with _place(self.folder) as at:
            names = [it.stem for it in self.folder.glob(f"*{_FIGURES}")]
            answers = await asyncio.gather(*(self._ask(at, name) for name in names))
        found = {name: told for name, told in zip(names, answers, strict=True) if told is not None}
        self._told |= found
        for past in self.folder.glob(f"*{_PAST}"):
            if past.stem not in self._past:
                self._past[past.stem] = lasting(read(decoded(past.read_bytes())))
        for name in self._past.keys() & self._told.keys():
            del self._told[name]
            found.pop(name, None)
        return found

    async def _ask(self, at: str, name: str) -> Told | None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(f"{at}/{name}{_FIGURES}")
                try:
                    return decoded(await _all_of(reader))
                finally:
                    writer.close()
        except (ConnectionRefusedError, FileNotFoundError):  # it is gone
            last = self._told.get(name)
            with suppress(OSError):  # a full disk, say: the next look leaves it
                _leave(self.folder, name, encoded(read(last), ready=False, state="") if last else b"")
        except (TimeoutError, OSError, ValueError) as fault:
            self.silent += 1
            log.warning("%s does not tell its figures: %r", name, fault)
        return None


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    """What comes until its end. ValueError for more than anybody tells."""
    told = bytearray()
    while piece := await reader.read(_PIECE_BYTES):
        told += piece
        if len(told) > MOST_BYTES:
            raise ValueError(f"over {MOST_BYTES} bytes")
    return bytes(told)


def _leave(folder: Path, name: str, told: bytes) -> None:
    """The first word counts: a process has the last one on itself, and who speaks for it comes later. Then nobody is to ask any more."""
    if told:
        new = folder / f"{name}.{os.getpid()}"
        new.touch(mode=0o600)
        new.write_bytes(told)
        with suppress(FileExistsError):
            os.link(new, folder / f"{name}{_PAST}")
        new.unlink()
    (folder / f"{name}{_FIGURES}").unlink(missing_ok=True)


@contextmanager
def _place(folder: Path) -> Iterator[str]:
    """A short name of the folder, as the address of a socket may have 107 bytes and a state may lie deep."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises BlockingIOError, if somebody else has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
