"""What servers leave in the scaler's folder, and what is cleared away there: as a server ends, and at the next start what a crash left.

backends/         links to the wheel's backend, of all servers
<replica>/models  the repository of one server, which its nanny keeps locked
<replica>.log     what it said, with <replica>.log.1 before it; the newest twenty outlive their servers
"""

import contextlib
import fcntl
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory, not a temporary file
KEPT_LOGS = 20


def shm_prefix(replica_id: str) -> str:
    return f"gateway_{replica_id}_"


def lock(home: Path) -> int:
    """A descriptor that locks a replica's folder until it and all that inherit it are closed. Raises BlockingIOError."""
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def clear(home: Path) -> None:
    """The shared memory and the folder of a server that is gone are gone too."""
    for region in SHARED_MEMORY.glob(f"{shm_prefix(home.name)}*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(home, ignore_errors=True)


def end_group(group: int) -> None:
    """For a nanny that was killed and has ended nothing."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def sweep(folder: Path) -> None:
    """Clear away what servers left whose nanny was killed with its gateway, and the oldest logs.

    Another gateway may use the same folder: what is locked is in use.
    """
    for models in folder.glob("*/models"):
        home = models.parent
        with contextlib.suppress(OSError):
            descriptor = lock(home)
            for pid in _servers(home.name):
                end_group(os.getpgid(pid))
            clear(home)
            os.close(descriptor)
    ended = [log for log in folder.glob("*.log") if not log.with_suffix("").exists()]
    for log in sorted(ended, key=_changed_at)[:-KEPT_LOGS]:
        log.unlink(missing_ok=True)
        Path(f"{log}.1").unlink(missing_ok=True)


def _servers(replica_id: str) -> Iterator[int]:
    """The processes that run as this replica's server."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"--id={replica_id}".encode() in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
