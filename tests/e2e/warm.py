"""`gateway` commands in processes that start warm. A server that has imported the command line forks a process for each: it has arguments,
environment, folder, standard streams and exit code of its own, and is spared only the import, which is nearly all that a command costs.

What is tested of the program itself, its start, its signals, what it is called and what it loads, runs PROGRAM of `world`.
"""

import atexit
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

_FILE = os.path.abspath(__file__)
_PIECE = 65_536
_FOLDER = "/tmp"  # a socket's path has 107 bytes at most, and what TMPDIR says may have more
_server: list[str] = []


def server() -> str:
    """Where the server of this test process listens; it ends with that."""
    if not _server:
        import subprocess
        import tempfile

        path = os.path.join(tempfile.mkdtemp(prefix="warm", dir=_FOLDER), "socket")
        root = os.path.dirname(os.path.dirname(os.path.dirname(_FILE)))
        line = [sys.executable, "-m", "tests.e2e.warm", "serve", path]
        process = subprocess.Popen(line, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"listens\n"
        process.stdout.close()
        atexit.register(process.communicate)  # it ends as its input does
        _server.append(path)
    return _server[0]


def program(folder: str | os.PathLike[str]) -> None:
    """Puts a `gateway` into the folder, for a shell to find."""
    path = os.path.join(folder, "gateway")
    with open(path, "w") as script:
        script.write(f'#!/bin/sh\nexec "{sys.executable}" -IS "{_FILE}" call "{server()}" "$@"\n')
    os.chmod(path, 0o700)


def call(
    path: str,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    folder: str,
    *,
    streams: Sequence[int] = (0, 1, 2),
    within_seconds: float | None = None,
) -> int:
    """Runs `gateway ARGUMENTS` to its end; what `Popen.returncode` would be. Raises TimeoutError."""
    pairs = [f"{name}={value}" for name, value in environ.items()]
    words = (folder, str(len(arguments)), *arguments, *pairs)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(within_seconds)
        connection.connect(path)
        socket.send_fds(connection, [b"\0"], streams)
        connection.sendall(os.fsencode("\0".join(words)))
        connection.shutdown(socket.SHUT_WR)
        return int(_all(connection))


def _all(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(_PIECE):
        pieces.append(piece)
    return b"".join(pieces)


def _serve(path: str) -> None:
    """Until its input ends."""
    import gateway.cli  # noqa: F401 - what every command finds imported

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
    os.unlink(path)
    os.rmdir(os.path.dirname(path))


def _answer(connection: socket.socket) -> None:
    """In a process of its own: a command in one more, and how that ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    folder, count, *words = os.fsdecode(_all(connection)).split("\0")
    number = os.fork()
    if not number:
        connection.close()
        _become(folder, words[: int(count)], words[int(count) :], streams)
    for stream in streams:
        os.close(stream)
    connection.sendall(b"%d" % os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))
    os._exit(0)


def _become(folder: str, arguments: list[str], pairs: list[str], streams: list[int]) -> None:
    """The command, as the program's first line would start it."""
    from gateway.cli import main

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(pair.split("=", 1) for pair in pairs)
    sys.argv = ["gateway", *arguments]
    try:
        main()
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        sys.stdout.flush()
        os._exit(end.code)


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    if what == "serve":
        _serve(where)
    else:
        ended = call(where, rest, os.environ, os.getcwd())
        sys.exit(ended if ended >= 0 else 128 - ended)
