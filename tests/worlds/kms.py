"""AWS KMS in this process, as far as a gateway sees it: JSON 1.1 over HTTP on loopback, keys with true states, and every way to fail.

It wraps truly, under the encryption context; what another key wrapped is told from what is damaged; a disabled key opens nothing.
"""

import asyncio
import base64
import json
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.scaling.scalers.process import free_port

REGION: Final = "eu-west-1"
_SIGNED: Final = re.compile(
    rf"AWS4-HMAC-SHA256 Credential=[^/\s,]+/\d{{8}}/{REGION}/kms/aws4_request, "
    r"SignedHeaders=(?=[^,]*\bhost\b)(?=[^,]*\bx-amz-date\b)(?=[^,]*\bx-amz-target\b)[a-z0-9;-]+, Signature=[0-9a-f]{64}"
)
_TARGET: Final = "TrentService."
_NONCE_BYTES: Final = 12

KeyState = Literal["Enabled", "Disabled", "PendingDeletion", "Unavailable"]
Fault = Literal["", "slow", "cut", "lost", "nonsense", "empty"] | tuple[int, str]
"""What comes instead of an answer: none until `go`, an end before or after the act, no JSON, `{}`, or a status and a code."""


def arn(number: int) -> str:
    return f"arn:aws:kms:{REGION}:111122223333:key/00000000-0000-0000-0000-{number:012d}"


class _Refused(Exception):
    def __init__(self, code: str, status: int = 400) -> None:
        super().__init__(code)
        self.code, self.status = code, status


@dataclass
class KmsWorld:
    """`states` are those of its keys, by ARN. `calls` counts what arrived, `acts` what was done, with the context that was sent."""

    port: int = 0
    states: dict[str, KeyState] = field(default_factory=lambda: {arn(1): "Enabled", arn(2): "Enabled"})
    fault: Fault = ""
    go: asyncio.Event = field(default_factory=asyncio.Event)
    came: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    """Released by every call that arrives."""
    calls: int = 0
    connections: int = 0
    acts: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    _keys: dict[str, AESGCM] = field(default_factory=dict)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                    headers = {
                        name.lower(): value
                        for name, _, value in (line.partition(": ") for line in head[1:])
                        if name
                    }
                    body = await reader.readexactly(int(headers["content-length"]))
                    answer = await self._answer(headers, body)
                    if answer is None:
                        return
                    writer.write(answer)
                    await writer.drain()
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, headers: dict[str, str], body: bytes) -> bytes | None:
        """None: the connection ends."""
        self.calls += 1
        self.came.release()
        fault = self.fault
        if fault == "slow":
            await self.go.wait()
        if fault == "cut":
            return None
        if fault == "nonsense":
            return _http(200, b"<html>")
        if fault == "empty":
            return _http(200, b"{}")
        try:
            if isinstance(fault, tuple):
                raise _Refused(fault[1], fault[0])  # noqa: TRY301 - answered as what is refused
            found = self._done(headers, json.loads(body))
        except _Refused as refused:
            said = {"__type": refused.code, "message": f"what was sent: {body.decode()}"}
            return _http(refused.status, json.dumps(said).encode())
        return None if fault == "lost" else _http(200, json.dumps(found).encode())

    def _done(self, headers: dict[str, str], asked: dict[str, Any]) -> dict[str, Any]:
        if not _SIGNED.fullmatch(headers.get("authorization", "")):
            raise _Refused("IncompleteSignatureException")
        if headers.get("content-type") != "application/x-amz-json-1.1":
            raise _Refused("SerializationException")
        context = asked.get("EncryptionContext", {})
        match headers["x-amz-target"].removeprefix(_TARGET):
            case "Encrypt":
                key, nonce = self._key(asked["KeyId"]), secrets.token_bytes(_NONCE_BYTES)
                sealed = key.encrypt(nonce, base64.b64decode(asked["Plaintext"]), _bound(context))
                blob = _head(asked["KeyId"]) + nonce + sealed
                found = {"CiphertextBlob": base64.b64encode(blob).decode()}
            case "Decrypt":
                found = {"Plaintext": base64.b64encode(self._opened(asked, context)).decode()}
            case _:
                raise _Refused("UnknownOperationException")
        self.acts.append((asked["KeyId"], context))
        return {**found, "KeyId": asked["KeyId"], "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}

    def _opened(self, asked: dict[str, Any], context: dict[str, str]) -> bytes:
        blob, name = base64.b64decode(asked["CiphertextBlob"]), asked["KeyId"]
        head = _head(name)
        if blob[: len(head)] != head:
            known = any(blob.startswith(_head(it)) for it in self.states)
            raise _Refused("IncorrectKeyException" if known else "InvalidCiphertextException")
        nonce, sealed = blob[len(head) : len(head) + _NONCE_BYTES], blob[len(head) + _NONCE_BYTES :]
        key = self._key(name)
        try:
            return key.decrypt(nonce, sealed, _bound(context))
        except (InvalidTag, ValueError):
            raise _Refused("InvalidCiphertextException") from None

    def _key(self, name: str) -> AESGCM:
        match self.states.get(name):
            case "Enabled":
                return self._keys.setdefault(name, AESGCM(secrets.token_bytes(32)))
            case "Disabled":
                raise _Refused("DisabledException")
            case None:
                raise _Refused("NotFoundException")
            case _:
                raise _Refused("KMSInvalidStateException")


@asynccontextmanager
async def kms_world() -> AsyncIterator[KmsWorld]:
    world = KmsWorld(free_port(secrets.choice))
    server = await asyncio.start_server(world.served, "127.0.0.1", world.port)
    try:
        yield world
    finally:
        world.go.set()
        server.close()
        for writer in list(world._writers):
            writer.close()
        await server.wait_closed()


def _head(name: str) -> bytes:
    return b"\x01" + name.encode().ljust(100)


def _bound(context: dict[str, str]) -> bytes:
    return json.dumps(context, sort_keys=True).encode()


def _http(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body
