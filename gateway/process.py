"""What the kernel and the C library say of this process. Linux with glibc only, as Triton is."""

import ctypes
import resource
from pathlib import Path
from typing import Final

_PAGE_BYTES: Final = resource.getpagesize()
_libc: Final = ctypes.CDLL(None)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def used_bytes() -> int:
    """The same, once what is free has gone back to the kernel: glibc keeps it else, for good where something small lies behind it. Takes
    some ten milliseconds for each 100 MiB that go.
    """
    _libc.malloc_trim(0)
    return resident_bytes()
