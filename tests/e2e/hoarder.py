"""A client of gRPC that begins a message on each of many streams and ends none, over frames of its own: gRPC's clients send whole ones."""

import socket
import struct
from collections import Counter
from collections.abc import Callable

from gateway.triton.grpc_messages import prefix
from gateway.triton.http2 import (
    ACK,
    END_HEADERS,
    FIRST_WINDOW_BYTES,
    FRAME_HEAD_BYTES,
    GREETING,
    INITIAL_WINDOW_SIZE,
    MOST_FRAME_BYTES,
    Kind,
    frame,
    literal,
)

_PIECE = bytes(MOST_FRAME_BYTES)
_SECONDS = 0.05


class Hoarder:
    """`sent` bytes of messages went out; `ended` are the streams that the server has ended."""

    def __init__(self, address: str, key: str, path: str, *, streams: int, message_bytes: int) -> None:
        host, _, port = address.partition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._numbers = range(1, 2 * streams, 2)
        self._left = dict.fromkeys(self._numbers, message_bytes - 1)
        self._windows = Counter({0: FIRST_WINDOW_BYTES} | dict.fromkeys(self._numbers, FIRST_WINDOW_BYTES))
        self._received = b""
        self.sent = 0
        self.ended: set[int] = set()
        block = b"\x83\x86" + b"".join(
            literal(name, value.encode())
            for name, value in (
                (b":path", path),
                (b":authority", address),
                (b"te", "trailers"),
                (b"content-type", "application/grpc"),
                (b"authorization", f"Bearer {key}"),
            )
        )
        self._socket.sendall(GREETING)
        for number in self._numbers:
            opening = frame(Kind.HEADERS, END_HEADERS, number, block)
            self._socket.sendall(opening + frame(Kind.DATA, 0, number, prefix(message_bytes)))
            self._spend(number, len(prefix(0)))
        self._socket.settimeout(_SECONDS)

    def hoard(self, goes_on: Callable[[], bool]) -> None:
        """Send what the server has windows for, and none of the messages to its end."""
        with self._socket:
            while goes_on():
                for number in self._numbers:
                    self._send(number)
                self._receive()

    def _send(self, number: int) -> None:
        size = min(self._left[number], self._windows[0], self._windows[number], len(_PIECE))
        if size > 0 and number not in self.ended:
            self._socket.sendall(frame(Kind.DATA, 0, number, _PIECE[:size]))
            self._spend(number, size)
            self._left[number] -= size
            self.sent += size

    def _spend(self, number: int, size: int) -> None:
        self._windows.subtract({0: size, number: size})

    def _receive(self) -> None:
        try:
            data = self._socket.recv(2**20)
        except TimeoutError:
            return
        if not data:
            raise ConnectionError("the server closed the connection")
        self._received += data
        while len(self._received) >= FRAME_HEAD_BYTES:
            length = int.from_bytes(self._received[:3])
            if len(self._received) < FRAME_HEAD_BYTES + length:
                return
            kind, flags, number = struct.unpack(">BBI", self._received[3:9])
            payload, self._received = self._received[9 : 9 + length], self._received[9 + length :]
            self._take(kind, flags, number, payload)

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == Kind.WINDOW_UPDATE:
            self._windows[number] += int.from_bytes(payload)
        elif kind == Kind.SETTINGS and not flags & ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == INITIAL_WINDOW_SIZE:
                    self._windows.update(dict.fromkeys(self._numbers, value - FIRST_WINDOW_BYTES))
            self._socket.sendall(frame(Kind.SETTINGS, ACK, 0))
        elif kind == Kind.PING and not flags & ACK:
            self._socket.sendall(frame(Kind.PING, ACK, 0, payload))
        elif kind in (Kind.RST_STREAM, Kind.HEADERS):
            self.ended.add(number)
