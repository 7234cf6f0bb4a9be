"""What proves that a member is dead? Pure.

A death certificate says that a process has ended, so that it cannot act any more; others then take at once what it had. It names the member
and the process: its pid, when it was started, and the kernel that counts both. So a pid that was given to another process proves nothing,
nor does a host that started anew under its old name. A certificate that does not name what its row is about is no proof.

    cause       who may write it, and what it saw
    reaped      the parent: `waitpid` gave the pid, which nobody else can have had before
    unlocked    who was given the exclusive flock that the member held: the kernel frees it with the last process that has it, and not
                before. On a disk of that host only; of one that several share the lock may be lost while its owner lives
    gone        who sees the same pids, and none of that number that was started then
    left        the member itself, as its last act: it has stopped, and does nothing more

There is none for a process of another kernel, also where that one's host is this one before it was started anew: such a member is silent,
and never dead. A zombie is not gone: its first thread has ended, and others may go on.
"""

from typing import Final, Literal

from msgspec import Struct

Cause = Literal["reaped", "unlocked", "gone", "left"]
_STARTED: Final = 19  # the place of `starttime` behind the name (proc_pid_stat(5), field 22)


class NotProven(Exception):
    """What was seen does not prove that this member is dead, so nothing was written. The text is for operators."""


class Process(Struct, frozen=True):
    """One life of one process. `host` is a name for people and proves nothing. `kernel` is one start of one kernel, and the namespaces
    that pids and time are counted in. `started` counts clock ticks from that start.
    """

    host: str
    kernel: str
    pid: int
    started: int


class Certificate(Struct, frozen=True):
    """That this member, which was this process, is dead; by whom."""

    member: str
    process: Process
    cause: Cause
    by: Process


def reaped(member: str, child: Process, pid: int, by: Process) -> Certificate:
    """`pid` is what `waitpid` gave its parent. Raises NotProven."""
    if pid != child.pid:
        raise NotProven(f"process {pid} was reaped, and {member} is {child.pid}")
    return _certificate(member, child, "reaped", by)


def unlocked(member: str, holder: Process, by: Process) -> Certificate:
    """`by` has been given the flock that the member took when it started and never gave back. Raises NotProven."""
    return _certificate(member, holder, "unlocked", by)


def gone(member: str, process: Process, stat: bytes | None, by: Process) -> Certificate:
    """`stat` is what /proc/<pid>/stat says now; None: there is no such pid. Raises NotProven."""
    if stat is not None and started(stat) == process.started:
        raise NotProven(f"{member} is still process {process.pid}")
    return _certificate(member, process, "gone", by)


def left(member: str, process: Process) -> Certificate:
    return Certificate(member, process, "left", process)


def is_proof(certificate: Certificate, member: str, process: Process) -> bool:
    """Whether it is of that member and that process, and by somebody who could know."""
    is_own = certificate.by == process
    return (
        (certificate.member, certificate.process) == (member, process)
        and certificate.by.kernel == process.kernel
        and is_own == (certificate.cause == "left")
    )


def started(stat: bytes) -> int:
    """When that process was started, by its /proc/<pid>/stat. ValueError for what is none."""
    fields = stat.rpartition(b")")[2].split()  # the name before it may hold anything
    if len(fields) <= _STARTED:
        raise ValueError("this is no /proc/<pid>/stat")
    return int(fields[_STARTED])


def _certificate(member: str, process: Process, cause: Cause, by: Process) -> Certificate:
    if by.kernel != process.kernel:
        raise NotProven(f"{member} ran under another kernel, on {process.host}")
    if by == process:
        raise NotProven(f"{member} cannot see its own end")
    return Certificate(member, process, cause, by)
