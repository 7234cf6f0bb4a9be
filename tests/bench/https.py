"""What HTTPS to a server costs, in microseconds of this process's CPU: a request on a kept connection, and a handshake.

.venv/bin/python -m tests.bench.https
"""

import asyncio
import multiprocessing
import ssl
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time

import uvloop

from gateway.tls.trusted import Trusted
from gateway.triton.client import Client
from gateway.triton.reach import Reach
from tests.worlds.certificates import Authority

REQUESTS, HANDSHAKES, ROUNDS = 5_000, 200, 5
_BODY = bytes(range(256)) * 8
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(_BODY),
    _BODY,
)


class _Answers(asyncio.Protocol):
    """A request comes in one piece, or its end does: what ends as the body ends is answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._came = 0

    def data_received(self, data: bytes) -> None:
        self._came += len(data)
        if data.endswith(_BODY[-16:]):
            self._transport.write(_REPLY)


async def _serve(pipe: Connection, certificate: Path, key: Path) -> None:
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    servers = [await loop.create_server(_Answers, "127.0.0.1", 0, ssl=it) for it in (None, context)]
    pipe.send([it.sockets[0].getsockname()[1] for it in servers])
    await asyncio.to_thread(pipe.recv)


def _process(pipe: Connection, certificate: Path, key: Path) -> None:
    uvloop.run(_serve(pipe, certificate, key))


async def _cpu(times: int, make: Callable[[], Client], *, is_kept: bool) -> float:
    """Microseconds of one request: on a kept connection, or each on one of its own."""
    client = make()
    await client.ask("POST", "/", _BODY)
    began = process_time()
    for _ in range(times):
        if not is_kept:
            client.close()
            client = make()
        await client.ask("POST", "/", _BODY)
    took = (process_time() - began) / times * 1e6
    client.close()
    return took


async def _measure(ports: list[int], authorities: Path) -> None:
    trusted, reach = Trusted.load(authorities), Reach.of(("127.0.0.0/8",))
    clear = lambda: Client("127.0.0.1", ports[0])  # noqa: E731 - one of two that are given alike
    sealed = lambda: Client("127.0.0.1", ports[1], reach=reach.over_tls(), trust=trusted.context)  # noqa: E731
    for what, times, is_kept in (
        ("a request of 2 KiB each way", REQUESTS, True),
        ("with a connection", HANDSHAKES, False),
    ):
        rounds = [
            (await _cpu(times, clear, is_kept=is_kept), await _cpu(times, sealed, is_kept=is_kept))
            for _ in range(ROUNDS)
        ]
        plain, tls = (median(it[at] for it in rounds) for at in (0, 1))
        print(f"{what}: in the clear {plain:.0f} µs, over TLS {tls:.0f} µs: {tls - plain:.0f} µs more")


def main() -> None:
    authority = Authority()
    with TemporaryDirectory() as name:
        folder = Path(name)
        certificate, key = authority.gives().write(folder)
        (authorities := folder / "authorities.pem").write_bytes(authority.pem)
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=_process, args=(theirs, certificate, key)
        )
        process.start()
        try:
            uvloop.run(_measure(ours.recv(), authorities))
        finally:
            ours.send(None)
            process.join()


if __name__ == "__main__":
    main()
