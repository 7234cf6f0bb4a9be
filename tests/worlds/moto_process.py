"""moto's AWS in a process of its own: on one thread, as its acts are not atomic under more. It takes seconds to start."""

import http.client
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from gateway.frontends.sockets import bound_socket
from gateway.scaling.scalers.process import free_port

REGION: Final = "eu-west-1"
_PROGRAM: Final = (
    "import socket, sys, waitress, moto.server as m; waitress.serve(m.DomainDispatcherApplication(m.create_backend_app), "
    "sockets=[socket.socket(fileno=int(sys.argv[1]))], threads=1, connection_limit=2000, backlog=2048, _quiet=True)"
)
_START_SECONDS: Final = 120.0


@contextmanager
def moto() -> Iterator[int]:
    """Its port, from when on it answers."""
    with bound_socket("127.0.0.1", free_port(secrets.choice)) as bound:
        port, number = (
            bound.getsockname()[1],
            bound.fileno(),
        )  # its own from now on, though it listens only later
        program = [sys.executable, "-c", _PROGRAM, str(number)]
        process = subprocess.Popen(program, stderr=subprocess.DEVNULL, pass_fds=(number,))
    with process:
        try:
            until = time.monotonic() + _START_SECONDS
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("moto does not start")
                time.sleep(0.1)
            yield port
        finally:
            process.kill()


def asked(port: int, operation: str, **given: Any) -> dict[str, Any]:
    """What KMS there answers to one operation."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {
        "content-type": "application/x-amz-json-1.1",
        "x-amz-target": f"TrentService.{operation}",
        "authorization": f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/kms/aws4_request, SignedHeaders=host, Signature=0",
    }
    try:
        connection.request("POST", "/", json.dumps(given), headers)
        answer = connection.getresponse()
        found: dict[str, Any] = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise RuntimeError(f"{operation}: {found}")
    return found


def _answers(port: int) -> bool:
    try:
        asked(port, "ListKeys")
    except OSError:
        return False
    return True
