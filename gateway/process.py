"""What the kernel and the C library say of this process, and of others that it sees. Linux with glibc only, as Triton is."""

import ctypes
import os
import resource
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from gateway.cluster.certificates import Process, started

_PAGE_BYTES: Final = resource.getpagesize()
_MOST_BYTES: Final = 200  # of seven numbers
_libc: Final = ctypes.CDLL(None)
_SO_ATTACH_FILTER: Final = 26
# Packets of a listener that begin a connection are dropped: SYN without ACK (struct sock_filter of linux/filter.h).
_NO_SYN: Final = b"".join(
    struct.pack("@HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # A = the flags, byte 13 of the TCP header
        (0x54, 0, 0, 0x12),  # A = A & (ACK | SYN)
        (0x15, 0, 1, 0x02),  # if A == SYN
        (0x06, 0, 0, 0),  # drop it
        (0x06, 0, 0, 0xFFFFFFFF),  # keep all of it
    )
)
_UNACKED: Final = 24
"""Of struct tcp_info: of a listener it counts the connections that wait."""


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
    kernel = "/".join((boot, *(_namespace(kind) for kind in ("pid", "time"))))
    return Process(os.uname().nodename, kernel, pid, started(stat))


def _namespace(kind: str) -> str:
    """Which one this process is in: in another of pids a pid is another one, in another of time it started at another time."""
    try:
        return os.readlink(f"/proc/self/ns/{kind}")
    except FileNotFoundError:  # a kernel without such namespaces; those of time came with 5.6
        return ""


def stat_of(pid: int) -> bytes | None:
    """What the kernel says of a process (proc_pid_stat(5)); None: there is none of that pid."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None


def deafen(port: int) -> None:
    """No connection begins at this port of this process any more, and those that have begun come still. Whoever tries does so again after a
    second, by TCP's own rule, and is heard by who listens there then. Raises OSError where the kernel takes no filter.
    """
    code = ctypes.create_string_buffer(_NO_SYN)
    program = struct.pack("@HP", len(_NO_SYN) // 8, ctypes.addressof(code))
    for found in _listeners(port):
        found.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def waiting_at(port: int) -> int:
    """How many connections are there that nobody has accepted yet."""
    size = _UNACKED + 4
    infos = [found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size) for found in _listeners(port)]
    return sum(int.from_bytes(info[_UNACKED:size], sys.byteorder) for info in infos)


def close_listeners(port: int) -> None:
    """Nobody listens at this port any more; connections that are accepted stay, others are reset. For grpc, whose Python gives nobody its
    sockets, and stops to listen only as it ends; it says so on the standard error ("Failed accept4").
    """
    for found in _listeners(port):
        found.shutdown(socket.SHUT_RD)


def connections_at(port: int) -> int:
    """How many there are."""
    return sum(_is_connected(found) for found in _at(port))


def _listeners(port: int) -> Iterator[socket.socket]:
    return (found for found in _at(port) if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _at(port: int) -> Iterator[socket.socket]:
    """Each for as long as the loop's turn lasts: what is closed then is our number for it, and not grpc's."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # it was the listing's own, or was closed meanwhile
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as found:
                    if found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port:
                        yield found


def _is_connected(found: socket.socket) -> bool:
    try:
        found.getpeername()
    except OSError:
        return False
    return True
