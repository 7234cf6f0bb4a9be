"""What the kernel and the C library say of this process, and of others that it sees. Linux with glibc only, as Triton is."""

import ctypes
import os
import resource
from functools import cache
from pathlib import Path
from typing import Final

from gateway.cluster.certificates import Process, started

_PAGE_BYTES: Final = resource.getpagesize()
_MOST_BYTES: Final = 200  # of seven numbers
_libc: Final = ctypes.CDLL(None)


@cache
def _statm() -> int:
    """A descriptor of what the kernel counts, kept open: whoever asks must be told also when no file can be opened any more."""
    return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)


def resident_bytes() -> int:
    return int(os.pread(_statm(), _MOST_BYTES, 0).split()[1]) * _PAGE_BYTES


def used_bytes() -> int:
    """The same, once what is free has gone back to the kernel: glibc keeps it else, for good where something small lies behind it. Takes
    some ten milliseconds for each 100 MiB that go.
    """
    _libc.malloc_trim(0)
    return resident_bytes()


def identity(pid: int) -> Process:
    """Which process has that pid now. Its parent that has not waited for it may rely on the answer. Raises ProcessLookupError."""
    stat = stat_of(pid)
    if stat is None:
        raise ProcessLookupError(f"there is no process {pid}")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    kernel = f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return Process(os.uname().nodename, kernel, pid, started(stat))


def stat_of(pid: int) -> bytes | None:
    """What the kernel says of a process (proc_pid_stat(5)); None: there is none of that pid."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
