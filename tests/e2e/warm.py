"""`gateway` in processes that start warm. A server that has imported all of it forks a process for each command: it has arguments,
environment, folder, standard streams, name and exit code of its own, and is spared only the import, which is nearly all that a command
costs, and most of what the start of a gateway does.

What is tested of the program itself, its start and what it loads, runs PROGRAM of `world`.
"""

import atexit
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:  # the program of a shell imports as little as it can
    from typing import BinaryIO

_FILE = os.path.abspath(__file__)
_PIECE = 65_536
_FOLDER = "/tmp"  # a socket's path has 107 bytes at most, and what TMPDIR says may have more
_NAME_BYTES = 4096  # room for the longest command line
_server: list[str] = []
_set_by_imports: list[str] = []


def server() -> str:
    """Where the server of this test process listens; it ends with that."""
    if not _server:
        import subprocess
        import tempfile

        path = os.path.join(tempfile.mkdtemp(prefix="warm", dir=_FOLDER), "socket")
        root = os.path.dirname(os.path.dirname(os.path.dirname(_FILE)))
        line = [sys.executable, "-m", "tests.e2e.warm", "serve", path, " " * _NAME_BYTES]
        process = subprocess.Popen(line, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"listens\n"
        process.stdout.close()
        atexit.register(process.communicate)  # it ends as its input does
        _server.append(path)
    return _server[0]


def program() -> str:
    """A `gateway` for shells and for whoever gives it more than `command` of `world` does; its folder has nothing else to call."""
    path = os.path.join(os.path.dirname(server()), "gateway")
    if not os.path.exists(path):
        with open(path, "w") as script:
            script.write(f'#!/bin/sh\nexec "{sys.executable}" -IS "{_FILE}" call "{server()}" "$0" "$@"\n')
        os.chmod(path, 0o700)
    return path


def asked(
    path: str,
    words: Sequence[str],
    environ: Mapping[str, str],
    folder: str,
    streams: Sequence[int] = (0, 1, 2),
) -> socket.socket:
    """The program runs, called by these words: a connection that says the number of its process, and at the end its `returncode`."""
    pairs = [f"{name}={value}" for name, value in environ.items()]
    message = (folder, str(len(words)), *words, *pairs)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    socket.send_fds(connection, [b"\0"], streams)
    connection.sendall(os.fsencode("\0".join(message)))
    connection.shutdown(socket.SHUT_WR)
    return connection


def ended(connection: socket.socket, within_seconds: float | None = None) -> int:
    """How it ended. Raises TimeoutError."""
    with connection:
        connection.settimeout(within_seconds)
        return int(_all(connection).split()[-1])


class Process:
    """A running one, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, connection: socket.socket, stdout: "BinaryIO") -> None:
        self.stdout = stdout
        self.returncode: int | None = None
        self._connection = connection
        self._said = b""
        while b"\n" not in self._said:
            self._said += connection.recv(_PIECE)
        self.pid = int(self._said.split()[0])

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        self.wait()
        self._connection.close()

    def wait(self, within_seconds: float | None = None) -> int:
        """Raises TimeoutError."""
        self._connection.settimeout(within_seconds)
        while self.returncode is None:
            if piece := self._connection.recv(_PIECE):
                self._said += piece
            else:
                self.returncode = int(self._said.split()[1])
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except BlockingIOError:
            return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _all(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(_PIECE):
        pieces.append(piece)
    return b"".join(pieces)


def _serve(path: str) -> None:
    """Until its input ends."""
    before = dict(os.environ)
    import shutil

    import gateway.app
    import gateway.cli
    import gateway.commands.demo  # noqa: F401 - what every command finds imported

    _set_by_imports.extend(f"{name}={value}" for name, value in os.environ.items() if name not in before)
    assert len(os.listdir("/proc/self/task")) == 1  # a fork has no other thread

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("listens", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                if not os.fork():
                    listener.close()
                    _answer(connection)
    shutil.rmtree(os.path.dirname(path))


def _answer(connection: socket.socket) -> None:
    """In a process of its own: a command in one more, and how that ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    folder, count, *rest = os.fsdecode(_all(connection)).split("\0")
    number = os.fork()
    if not number:
        connection.close()
        _become(folder, rest[: int(count)], rest[int(count) :], streams)
    for stream in streams:
        os.close(stream)
    connection.sendall(b"%d\n" % number)
    connection.sendall(b"%d" % os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))
    os._exit(0)


def _become(folder: str, words: list[str], pairs: list[str], streams: list[int]) -> None:
    """The command, as the program's first line would start it."""
    from gateway.cli import main

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
    os.chdir(folder)
    os.environ.clear()
    for pair in (*_set_by_imports, *pairs):
        name, _, value = pair.partition("=")
        os.environ[name] = value
    sys.argv = words
    if os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(line_buffering=True)
    _be_called([sys.executable, *sys.argv])
    try:
        main()
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        sys.stdout.flush()
        os._exit(end.code)


def _be_called(words: list[str]) -> None:
    """Whoever looks at /proc/PID/cmdline finds these words, as of any process."""
    import ctypes

    with open("/proc/self/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end: proc_pid_stat(5)
    name = os.fsencode("\0".join(words))
    assert len(name) < end - start
    ctypes.memmove(start, name.ljust(end - start, b"\0"), end - start)


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    if what == "serve":
        _serve(where)
    else:
        code = ended(asked(where, rest, os.environ, os.getcwd()))
        sys.exit(code if code >= 0 else 128 - code)
