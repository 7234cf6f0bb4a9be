"""What is written of a server, so that another gateway can go on with it: who it is, where it answers, and which process sees to it.

`<replica>/replica`, for its owner alone: it holds what the server's restricted APIs ask for. It is there, whole, before the server starts.
The gateway that has the server in hand has all of a flock on it: while that one lives nobody else takes the server. The nanny removes it
before it ends the server, so what ends is taken by nobody.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec

from gateway.cluster.certificates import Process
from gateway.scaling.scaler import Replica

NAME: Final = "replica"
FORMAT: Final = 1


class Record(msgspec.Struct, frozen=True):
    """Format 1, JSON. Later programs read what earlier ones wrote: what is added has a default, and what they do not know they ignore.
    What an earlier program could not go on with is another format; it ends a server of a format that it does not know.
    """

    replica: Replica
    nanny: Process
    format: int = FORMAT


class Unreadable(Exception):
    """It is there and says nothing that this program can go on with."""


class _Head(msgspec.Struct):
    format: int


def encode(record: Record) -> bytes:
    return msgspec.json.encode(record) + b"\n"


def decode(data: bytes) -> Record:
    """Raises Unreadable."""
    try:
        if (found := msgspec.json.decode(data, type=_Head).format) != FORMAT:
            raise Unreadable(f"format {found}")
        return msgspec.json.decode(data, type=Record)
    except msgspec.MsgspecError as fault:
        raise Unreadable(str(fault)) from fault


def put(home: Path, record: Record) -> int:
    """It is there, and the descriptor has the server in hand until it is closed. Raises OSError."""
    new = home / f"{NAME}.new"
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, encode(record))
        new.rename(home / NAME)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def take(home: Path) -> int | None:
    """A descriptor that has the server in hand; None where another gateway has, or there is nothing to go on with (any more)."""
    path = home / NAME
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(path.stat(), os.fstat(descriptor)):  # and was not removed meanwhile
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
    return None


def read(descriptor: int) -> Record:
    """What a file says that was taken. Raises Unreadable."""
    try:
        return decode(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    except OSError as fault:
        raise Unreadable(str(fault)) from fault
