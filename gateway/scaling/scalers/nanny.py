"""The parent of one tritonserver: it keeps the server's log, ends the server when told to, and when its gateway is gone, however that went.

    python -I -S nanny.py SHM_PREFIX FOLDER LOCK LOG COMMAND...

Its standard input is a pipe whose other end only the gateway holds: the kernel closes it when the gateway dies, and no new gateway can
be mistaken for the old one. SIGTERM is passed on to the server; when the pipe closes the server is killed. The nanny leads the process
group of the server and its stubs: when the server is gone it ends the rest, and removes their shared memory and the replica's FOLDER,
which the descriptor LOCK keeps locked for as long as the nanny lives. Few modules and no thread, so that it starts in milliseconds.
"""

import os
import select
import signal
import sys

LOG_BYTES = 16 * 1024**2
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where Linux keeps shared memory, not a temporary file
_GATEWAY = 0
_CHUNK_BYTES = 64 * 1024


class Log:
    """What the server says, in the file that standard error is; a full file becomes LOG.1, which is replaced. Never raises."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._written = os.fstat(2).st_size

    def write(self, data: bytes) -> None:
        try:
            if self._written + len(data) > LOG_BYTES:
                self._rotate()
            self._written += os.write(2, data)
        except OSError:
            pass  # a full disk must not stop the server

    def _rotate(self) -> None:
        os.rename(self._path, f"{self._path}.1")
        fresh = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(fresh, 2, inheritable=False)
        os.close(fresh)
        self._written = 0


def main(shm_prefix: str, folder: str, lock: int, log: str, command: list[str]) -> int:
    os.set_inheritable(lock, False)  # noqa: FBT003 - it has no name
    signals = _signals(signal.SIGTERM, signal.SIGCHLD)
    lines, output = os.pipe()
    server = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores them
    )
    os.close(output)
    code = _attend(server, lines, signals, Log(log))
    for region in os.listdir(_SHARED_MEMORY):
        if region.startswith(shm_prefix):
            os.unlink(f"{_SHARED_MEMORY}/{region}")
    _remove(folder)
    return code


def _signals(*numbers: int) -> int:
    """A descriptor from which these signals are read, a byte each."""
    signals, received = os.pipe()
    os.set_blocking(received, False)
    signal.set_wakeup_fd(received)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    return signals


def _attend(server: int, lines: int, signals: int, log: Log) -> int:
    """The server's exit code, 128 and the signal that ended it; its process group is ended and its log whole."""
    poll = select.poll()
    for source in (_GATEWAY, lines, signals):
        poll.register(source, select.POLLIN)
    while True:
        for source, _ in poll.poll():
            data = os.read(source, _CHUNK_BYTES)
            if not data:
                poll.unregister(source)
            if source == _GATEWAY and not data:
                os.kill(server, signal.SIGKILL)  # nobody is left to read an answer, or somebody is in a hurry
            elif source == signals and signal.SIGTERM in data:
                os.kill(server, signal.SIGTERM)
            elif source == lines:
                log.write(data)
        ended, status = os.waitpid(server, os.WNOHANG)
        if ended:
            break
    _end_the_group()
    os.set_blocking(lines, False)
    try:
        while data := os.read(lines, _CHUNK_BYTES):
            log.write(data)
    except BlockingIOError:
        pass
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _end_the_group() -> None:
    """Stubs leave when their server does, but one that is busy or stopped does not, and they ignore SIGTERM."""
    for _ in range(200):
        members = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_of_the_group(pid)]
        if not members:
            return
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        select.select((), (), (), 0.01)


def _is_of_the_group(pid: int) -> bool:
    """Another process, and not only its entry that nobody has asked for yet."""
    if pid == os.getpid():
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            state, _parent, group, *_ = stat.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return int(group) == os.getpgrp() and state not in (b"Z", b"X")


def _remove(folder: str) -> None:
    """The links of its repository are all that is in it; what else there is stays for who looks for it."""
    try:
        for link in os.listdir(f"{folder}/models"):
            os.unlink(f"{folder}/models/{link}")
        os.rmdir(f"{folder}/models")
        os.rmdir(folder)
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5:]))
