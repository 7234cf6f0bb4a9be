"""The parent of one tritonserver: it keeps the server's log, and ends the server when told to and when no gateway lives any more.

    python -I -S nanny.py SHM_PREFIX FOLDER LOCK ALIVE LOG COMMAND...

It starts the server once a byte came from standard input; when that ends before, the gateway died before it had written what another one
needs to go on with the server, and there is none. From then on the nanny is nobody's: it waits for all of the flock ALIVE, of which each
gateway has a part while it lives. When it gets that, or SIGUSR1, the server is killed; SIGTERM is passed on to it. Where the wait for
the lock fails the server is killed too: nobody is to outlive the gateways.

The nanny leads the process group of the server and its stubs: when the server is gone it ends the rest, and removes their shared memory and
the replica's FOLDER, which the descriptor LOCK keeps locked for as long as the nanny lives. Few modules, so that it starts in
milliseconds; a thread waits for the lock, as nothing else can do that and something besides.
"""

import _thread
import fcntl
import os
import select
import signal
import sys

LOG_BYTES = 16 * 1024**2
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where Linux keeps shared memory, not a temporary file
_RECORD = "replica"
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


def main(arguments: list[str]) -> int:
    shm_prefix, folder, lock, alive, log, *command = arguments
    os.set_inheritable(int(lock), False)  # noqa: FBT003 - it has no name
    if not os.read(_GATEWAY, 1):
        _remove(folder)
        return 0
    signals = _signals(signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD)
    _thread.start_new_thread(_wait, (os.open(alive, os.O_RDWR | os.O_CREAT, 0o600), folder))
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


def _wait(alive: int, folder: str) -> None:
    """In a thread of its own. Once no gateway lives, or that cannot be known, the server is struck from the list, so that no gateway that
    comes now goes on with it; then the next nanny may have the lock."""
    try:
        fcntl.flock(alive, fcntl.LOCK_EX)
        _unlink(f"{folder}/{_RECORD}")
    finally:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.close(alive)


def _attend(server: int, lines: int, signals: int, log: Log) -> int:
    """The server's exit code, 128 and the signal that ended it; its process group is ended and its log whole."""
    poll = select.poll()
    for source in (lines, signals):
        poll.register(source, select.POLLIN)
    while True:
        for source, _ in poll.poll():
            data = os.read(source, _CHUNK_BYTES)
            if not data:
                poll.unregister(source)
            if source == lines:
                log.write(data)
            elif signal.SIGUSR1 in data:
                os.kill(server, signal.SIGKILL)
            elif signal.SIGTERM in data:
                os.kill(server, signal.SIGTERM)
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
    """The links of its repository and its record are all that is in it; what else there is stays for who looks for it."""
    try:
        for link in os.listdir(f"{folder}/models"):
            os.unlink(f"{folder}/models/{link}")
        os.rmdir(f"{folder}/models")
        for part in (_RECORD, f"{_RECORD}.new"):
            _unlink(f"{folder}/{part}")
        os.rmdir(folder)
    except OSError:
        pass


def _unlink(path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
