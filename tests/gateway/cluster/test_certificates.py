"""A certificate proves that one process is dead, and says nothing of any other."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.cluster.certificates import NotProven, Process, gone, is_proof, left, reaped, started, unlocked
from gateway.process import identity, stat_of
from gateway.scaling.scalers.leftovers import lock

WORKER = Process("here", "kernel", 100, 7)
PARENT = Process("here", "kernel", 1, 1)
ELSEWHERE = replace(PARENT, kernel="the kernel of another start")


@contextmanager
def worker(held: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock of a folder until it is killed."""
    program = "import sys; sys.stdout.write('up'); sys.stdout.flush(); sys.stdin.read()"
    descriptor = lock(held)
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[descriptor],
    ) as process:
        os.close(descriptor)
        assert process.stdout is not None
        assert process.stdout.read(2) == b"up"
        try:
            yield process
        finally:
            process.kill()


def test_whoever_waited_for_a_child_has_the_proof_that_it_is_dead(tmp_path: Path) -> None:
    with worker(tmp_path) as process:
        child = identity(process.pid)
        process.send_signal(signal.SIGKILL)
        pid, _ = os.waitpid(process.pid, 0)
        certificate = reaped("m1", child, pid, identity(os.getpid()))
    assert is_proof(certificate, "m1", child)
    assert not is_proof(certificate, "m2", child)


def test_whoever_is_given_the_lock_of_a_member_has_the_proof_and_nobody_is_while_it_lives(
    tmp_path: Path,
) -> None:
    with worker(tmp_path) as process:
        child = identity(process.pid)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(BlockingIOError):
            lock(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(lock(tmp_path))
        assert is_proof(unlocked("m1", child, identity(os.getpid())), "m1", child)


def test_a_pid_that_another_process_has_now_proves_that_the_first_one_is_gone_and_nothing_of_the_other(
    tmp_path: Path,
) -> None:
    with worker(tmp_path) as process:
        now = identity(process.pid)
        before = replace(now, started=now.started - 1)
        here, stat = identity(os.getpid()), stat_of(process.pid)
        certificate = gone("m1", before, stat, here)
        assert is_proof(certificate, "m1", before)
        assert not is_proof(certificate, "m1", now)
        with pytest.raises(NotProven):
            gone("m1", now, stat, here)


def test_a_process_that_nobody_waited_for_is_not_gone(tmp_path: Path) -> None:
    with worker(tmp_path) as process:
        child = identity(process.pid)
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(NotProven):
            gone("m1", child, stat_of(process.pid), identity(os.getpid()))
        process.wait()
        assert is_proof(gone("m1", child, stat_of(process.pid), identity(os.getpid())), "m1", child)


def test_another_kernel_can_prove_nothing_nor_can_the_process_itself() -> None:
    with pytest.raises(NotProven):
        reaped("m1", WORKER, 100, ELSEWHERE)
    with pytest.raises(NotProven):
        unlocked("m1", WORKER, ELSEWHERE)
    with pytest.raises(NotProven):
        gone("m1", WORKER, None, ELSEWHERE)
    with pytest.raises(NotProven):
        unlocked("m1", WORKER, WORKER)


def test_another_pid_that_was_reaped_proves_nothing() -> None:
    with pytest.raises(NotProven):
        reaped("m1", WORKER, 101, PARENT)


def test_only_who_leaves_may_say_so_of_itself() -> None:
    certificate = left("m1", WORKER)
    assert is_proof(certificate, "m1", WORKER)
    assert not is_proof(replace(certificate, by=PARENT), "m1", WORKER)
    assert not is_proof(replace(reaped("m1", WORKER, 100, PARENT), by=WORKER), "m1", WORKER)
    assert not is_proof(replace(reaped("m1", WORKER, 100, PARENT), by=ELSEWHERE), "m1", WORKER)


def test_when_a_process_was_started_is_read_whatever_its_name_is() -> None:
    fields = " ".join(["S", *map(str, range(4, 53))])
    assert started(f"100 (a ) b (c) {fields}\n".encode()) == 22
    with pytest.raises(ValueError, match="no /proc"):
        started(b"100 (a) S 1 2")


def test_a_pid_that_nobody_has_has_no_identity() -> None:
    assert stat_of(2**30) is None
    with pytest.raises(ProcessLookupError):
        identity(2**30)
