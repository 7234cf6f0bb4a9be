"""What servers leave in the scaler's folder, and what is cleared away there: as a server ends, and at the next start what a crash left.

backends/          links to the wheel's backend, of all servers
<replica>/         the folder of one server, which its nanny keeps locked
<replica>/models   its repository
<replica>/replica  what somebody else has to know to go on with it (`record`)
<replica>.log      what it said, with <replica>.log.1 before it; the newest twenty outlive their servers
alive, last        who lives (`gateway.scaling.alive`); charge: who has charge of the servers (`gateway.scaling.charge`)
"""

import contextlib
import fcntl
import os
import shutil
import signal
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


def is_locked(home: Path) -> bool:
    """Whether its nanny runs, or is about to."""
    try:
        os.close(lock(home))
    except BlockingIOError:
        return True
    return False


def clear(home: Path) -> None:
    """The shared memory and the folder of a server that is gone are gone too."""
    for region in SHARED_MEMORY.glob(f"{shm_prefix(home.name)}*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(home, ignore_errors=True)


def end(replica_id: str) -> int:
    """Kill every process of this replica, for a nanny that was killed and has ended nothing; how many there were."""
    found = 0
    for number in [int(path.name) for path in Path("/proc").glob("[0-9]*")]:
        with contextlib.suppress(OSError):
            found += _ended(number, replica_id)
    return found


def _ended(number: int, replica_id: str) -> bool:
    """It is looked at by its number and killed by a descriptor that was there before: so it is the one that was looked at."""
    if not _is_of(number, replica_id):
        return False
    process = os.pidfd_open(number)
    try:
        is_of = _is_of(number, replica_id)
        if is_of:
            signal.pidfd_send_signal(process, signal.SIGKILL)
    finally:
        os.close(process)
    return is_of


def _is_of(number: int, replica_id: str) -> bool:
    """Whether it runs as its server, a stub of it, or its nanny. One that has ended has no command line."""
    words = Path(f"/proc/{number}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return f"--id={replica_id}" in words or any(word.startswith(shm_prefix(replica_id)) for word in words)


def sweep(folder: Path) -> None:
    """Clear away what servers left whose nanny was killed with its gateway, and the oldest logs.

    Another gateway may use the same folder: what is locked is in use.
    """
    for models in folder.glob("*/models"):
        home = models.parent
        with contextlib.suppress(OSError):
            descriptor = lock(home)
            try:
                end(home.name)
                clear(home)
            finally:
                os.close(descriptor)
    ended = [log for log in folder.glob("*.log") if not log.with_suffix("").exists()]
    for log in sorted(ended, key=_changed_at)[:-KEPT_LOGS]:
        log.unlink(missing_ok=True)
        Path(f"{log}.1").unlink(missing_ok=True)


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
