"""An HTTP server in this process that publishes an issuer's keys, or that is a trap: whoever connects to it is counted."""

import json
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from gateway.scaling.scalers.process import free_port

DISCOVERY: Final = "/.well-known/openid-configuration"
JWKS: Final = "/jwks"


class KeyServer(ThreadingHTTPServer):
    """`keys` gives the key set, and may be given later. What is asked for is counted by its path; anything but the two documents is 404."""

    def __init__(self, keys: Callable[[], bytes]) -> None:
        self.keys = keys
        self.asked: Counter[str] = Counter()
        self.connections = 0
        super().__init__(("127.0.0.1", free_port(secrets.choice)), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """In the one thread that accepts."""
        self.connections += 1
        super().process_request(request, client_address)

    def document(self, path: str) -> bytes | None:
        self.asked[path] += 1
        if path == DISCOVERY:
            return json.dumps({"issuer": self.url, "jwks_uri": self.url + JWKS}).encode()
        return self.keys() if path == JWKS else None


class _Handler(BaseHTTPRequestHandler):
    server: KeyServer

    def do_GET(self) -> None:
        found = self.server.document(self.path)
        self.send_response(200 if found is not None else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(found or b"")))
        self.end_headers()
        self.wfile.write(found or b"")

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """It is counted."""


def no_keys() -> bytes:
    return b'{"keys": []}'


@contextmanager
def publishing(keys: Callable[[], bytes] = no_keys) -> Iterator[KeyServer]:
    """A server that answers, until the block ends."""
    with KeyServer(keys) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
