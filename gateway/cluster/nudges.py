"""Who is told to look now? A word from one process of a host to another, that something it reads in the table has changed.

Each process has a datagram socket by its member's name. A word is a byte, says nothing else, and may be lost: who hears none looks by
itself, a little later. So nothing rests on it, and whoever can write to the folder can make processes look more often, no more.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_SUFFIX: Final = ".sock"
_MOST_WORDS: Final = 64  # read at once: many are as good as one


@dataclass(slots=True)
class Nudges:
    """Of the member of that name, once `opened`."""

    name: str
    _folder: int
    _socket: socket.socket
    _listeners: list[Callable[[], None]] = field(default_factory=list)

    def listen(self, wake: Callable[[], None]) -> None:
        """Called, on the loop, whenever somebody says the word."""
        self._listeners.append(wake)

    def tell(self, name: str) -> None:
        """The word to that member, should it be there. Never raises, never waits."""
        if name == self.name:
            self._wake()
        elif name:
            with suppress(OSError):
                self._socket.sendto(b"!", self._at(f"{name}{_SUFFIX}"))

    def heard(self) -> None:
        """Somebody has."""
        with suppress(OSError):
            for _ in range(_MOST_WORDS):
                self._socket.recv(1)
        self._wake()

    def _wake(self) -> None:
        for wake in self._listeners:
            wake()

    def _at(self, file: str) -> str:
        """By the descriptor of its folder, whose path may be longer than a socket's address."""
        return f"/proc/self/fd/{self._folder}/{file}"

    def sweep(self) -> None:
        """The sockets of processes that have ended are gone."""
        for file in os.listdir(self._folder):
            if not file.endswith(_SUFFIX):
                continue
            try:
                self._socket.sendto(b"!", self._at(file))
            except ConnectionRefusedError:
                with suppress(OSError):
                    os.unlink(file, dir_fd=self._folder)
            except OSError:
                continue  # it is full, or gone


@contextmanager
def opened_nudges(folder: Path, name: str) -> Iterator[Nudges]:
    """Within a running loop. Raises OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    loop = asyncio.get_running_loop()
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
            bound.setblocking(False)  # noqa: FBT003 - it has no name
            found = Nudges(name, descriptor, bound)
            found.sweep()
            os.fchmod(bound.fileno(), 0o600)  # before it is bound: it is so from its first moment on
            bound.bind(f"/proc/self/fd/{descriptor}/{name}{_SUFFIX}")
            loop.add_reader(bound, found.heard)
            try:
                yield found
            finally:
                loop.remove_reader(bound)
                with suppress(OSError):
                    os.unlink(f"{name}{_SUFFIX}", dir_fd=descriptor)
    finally:
        os.close(descriptor)
