"""The parent of one tritonserver: it ends the server when told to, and when its gateway is gone, however that went.

    python -I -S nanny.py SHM_PREFIX COMMAND...

Its standard input is a pipe whose other end only the gateway holds: the kernel closes it when the gateway dies, and no new gateway can
be mistaken for the old one. The nanny leads the process group of the server and its stubs; when the server is gone it ends the rest and
removes their shared memory. Only the standard library, so that it starts in milliseconds.
"""

import contextlib
import glob
import os
import signal
import subprocess
import sys
import threading

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where Linux keeps shared memory, not a temporary file


def main(shm_prefix: str, command: list[str]) -> None:
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    threading.Thread(target=_end_with_the_gateway, args=(server,), daemon=True).start()
    code = server.wait()
    _end_the_group()
    for region in glob.glob(f"{_SHARED_MEMORY}/{shm_prefix}*"):
        os.unlink(region)
    sys.exit(code if code >= 0 else 128 - code)


def _end_with_the_gateway(server: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 1):
        pass
    server.kill()  # nobody is left to read an answer


def _end_the_group() -> None:
    """Stubs leave when their server does, but one that is busy or stopped does not, and they ignore SIGTERM."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(int(entry)) == os.getpgrp():
                    os.kill(int(entry), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
