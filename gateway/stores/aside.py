"""Write a file beside the one that it becomes, for its owner alone (0600), and have it there whole or not at all.

What a crash leaves of a write may hold secrets. Who writes has a lock on it, and a lock ends with its process: so what is not locked was
left, and is removed by the next write and by `swept`.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from tempfile import mkstemp

from gateway.stores.files import sync

_RANDOM = "?" * 8  # of mkstemp
_LAST = ".partial"  # what has another end is somebody's own, as a copy that is called by its day


@contextmanager
def aside(path: Path, content: bytes) -> Iterator[str]:
    """A file beside it that is on the disk, to be linked or renamed to where it belongs. Raises OSError."""
    swept(path)
    descriptor, made = _locked(path)
    with open(descriptor, "wb") as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
            yield made
        finally:
            with suppress(FileNotFoundError):  # it was renamed
                os.unlink(made)


def put(path: Path, content: bytes) -> None:
    """The file has this content, durably; a crash leaves the old or the new. Raises OSError."""
    with aside(path, content) as made:
        os.rename(made, path)
    sync(path.parent)


def swept(path: Path) -> None:
    """What crashes left beside this file is gone; what somebody writes now stays. Never raises for what cannot be removed."""
    for left in path.parent.glob(f".{escape(path.name)}.{_RANDOM}{_LAST}"):
        with suppress(OSError):  # somebody writes it, or was faster, or it is somebody else's
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(left)


def _locked(path: Path) -> tuple[int, str]:
    while True:
        descriptor, made = mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_LAST)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, made
        os.close(descriptor)  # it was taken for one that is left, before it was locked
