"""Open Inference Protocol v2 over REST: a plain ASGI callable for what goes to a model.

Paths are matched raw, as Triton does: a percent-encoded model name is no model name.
"""

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.auth.credentials import credential
from gateway.call import InferenceCall, Payload, Reply, Source, Standing, Verb
from gateway.errors import Code, GatewayError
from gateway.frontends.http_body import Incoming, InferBody, JsonMemory, NoBody
from gateway.pipeline import Cut, Pipeline
from gateway.telemetry.traceparent import valid_traceparent
from gateway.wire.oip import MODEL_NAME, MOST_BODY_BYTES, error_body, public_error
from gateway.wire.ratelimit import Headers, ratelimit_headers, retry_after

Scope = MutableMapping[str, Any]

MODEL_PATH = re.compile(
    rf"/v2/models/(?P<model>{MODEL_NAME})(?:/versions/(?P<version>[0-9]{{1,9}}))?(?P<verb>/infer|/ready|)".encode()
)
METHOD = {b"/infer": "POST", b"/ready": "GET", b"": "GET"}  # of each verb
_HEAD_LENGTH = re.compile(rb"[0-9]{1,9}")
_WANTED = frozenset(
    {
        b"authorization",
        b"x-api-key",
        b"content-length",
        b"content-encoding",
        b"inference-header-content-length",
        b"traceparent",
    }
)
_ERROR_BYTES = 64 * 1024
_BAD = 400


@dataclass(frozen=True, slots=True)
class OipRest:
    """The calls that go to a model. `request_seconds` is the deadline of a call."""

    pipeline: Pipeline
    memory: JsonMemory
    request_seconds: float

    async def __call__(
        self, scope: Scope, incoming: Incoming, downstream: "HttpDownstream", path: re.Match[bytes]
    ) -> None:
        """One request whose path is a MODEL_PATH and whose method is the verb's."""
        try:
            call = self._decode(scope, incoming, downstream.request_id, path)
        except GatewayError as error:
            self.pipeline.refused(downstream.request_id, peer(scope), error)
            await downstream.refuse(error)
            return
        try:
            if path["verb"] == b"/ready":
                await downstream.answer(200, b"", await self.pipeline.examine(call, "describe"))
            else:
                await self.pipeline.serve(call, downstream)
        except GatewayError as error:
            await downstream.refuse(error)
        except Cut:
            # Returning without the rest makes the server close the connection: the client sees that its reply is not whole.
            return
        finally:
            if isinstance(call.payload, InferBody):
                call.payload.close()

    async def examine(self, scope: Scope, request_id: str, refusal: GatewayError | None = None) -> Standing:
        """Authenticate and admit a request that no model is asked for. Raises GatewayError, `refusal` at the latest."""
        try:
            call = self._call(scope, _read_headers(scope["headers"]), request_id, NoBody())
        except GatewayError as error:
            self.pipeline.refused(request_id, peer(scope), error)
            raise
        return await self.pipeline.examine(call, None, refusal)

    def _decode(
        self, scope: Scope, incoming: Incoming, request_id: str, path: re.Match[bytes]
    ) -> InferenceCall:
        """Step 2: what is asked, of which model, by whom. Raises GatewayError: 4xx codes only."""
        found = _read_headers(scope["headers"])
        model, version, verb = path.groups(b"")
        is_infer = verb == b"/infer"
        return self._call(
            scope,
            found,
            request_id,
            _infer_body(found, incoming, self.memory) if is_infer else NoBody(),
            verb="infer" if is_infer else "describe",
            model=model.decode(),
            version=version.decode(),
        )

    def _call(
        self,
        scope: Scope,
        found: dict[bytes, list[bytes]],
        request_id: str,
        payload: Payload,
        *,
        verb: Verb = "describe",
        model: str = "",
        version: str = "",
    ) -> InferenceCall:
        return InferenceCall(
            request_id=request_id,
            verb=verb,
            model=model,
            version=version,
            credential=credential(found.get(b"authorization", ()), found.get(b"x-api-key", ())),
            address=peer(scope),
            protocol="oip-rest",
            payload=payload,
            deadline=self.pipeline.clock() + self.request_seconds,
            traceparent=valid_traceparent(found[b"traceparent"]) if b"traceparent" in found else "",
        )


class Answering(Protocol):
    """The answer to a request as the connection takes it: at once. An Exchange is one."""

    async def writable(self) -> None:
        """Wait until the client reads what was written to it."""

    def follow(self, source: Source) -> None:
        """The answer comes from there: it is paused while the client reads too slowly."""

    def begin(self, status: int, headers: Headers) -> None:
        """The status and headers; they leave with the first piece."""

    def write(self, body: bytes, *, more_body: bool) -> None: ...

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """As ASGI's."""


class HttpDownstream:
    """The client's side of one call. An error of Triton's is held back and cleaned; everything else passes as it comes."""

    def __init__(self, answering: Answering, request_id: str) -> None:
        self.request_id = request_id
        self._answering = answering
        self._headers: Headers = [(b"x-request-id", request_id.encode())]
        self._head: Headers | None = (
            None  # held back until there is a body: a reply that breaks off before is an error of ours
        )
        self._left_bytes = 0
        self._status = 0
        self._content_type = b""
        self._standing: Standing = ()
        self._error: bytearray | None = None
        self.started = False  # the client has been told a status

    async def start(self, reply: Reply, standing: Standing) -> None:
        await self._answering.writable()
        self._answering.follow(reply)
        self._status = reply.status
        if reply.status >= _BAD:
            self._error, self._standing, self._content_type = bytearray(), standing, reply.content_type
            return
        headers = [
            *self._headers,
            *ratelimit_headers(standing),
            (b"content-type", reply.content_type),
            (b"content-length", b"%d" % reply.length_bytes),
        ]
        if reply.head_length:
            headers.append((b"inference-header-content-length", reply.head_length))
        self._left_bytes = reply.length_bytes
        self._head = headers
        if not self._left_bytes:
            self.take(b"")

    def take(self, piece: bytes) -> None:
        if self._error is not None:
            self._error += piece[: _ERROR_BYTES - len(self._error)]
            return
        if self._head is not None:
            headers, self._head = self._head, None
            self._begin(self._status, headers)
        self._left_bytes -= len(piece)
        self._answering.write(piece, more_body=self._left_bytes > 0)

    async def end(self) -> int:
        if self._error is None:
            return self._status
        status, sentence = public_error(self._status, self._content_type, bytes(self._error))
        await self.answer(status, error_body(sentence), self._standing)
        return status

    async def answer(
        self, status: int, body: bytes, standing: Standing = (), extra: Headers | None = None
    ) -> None:
        """A whole answer of our own."""
        headers = self._headers + ratelimit_headers(standing) + (extra or [])
        headers.append((b"content-type", b"application/json"))
        headers.append((b"content-length", str(len(body)).encode()))
        await self._answering.writable()
        self._begin(status, headers)
        self._answering.write(body, more_body=False)

    async def relay(self, message: MutableMapping[str, Any]) -> None:
        """An answer of Starlette's, as it comes."""
        if message["type"] == "http.response.start":
            message["headers"] = self._headers + message["headers"]
        await self._answering.send(message)
        self.started = True

    async def refuse(self, error: GatewayError) -> None:
        """A refusal, as the one table says it."""
        await self.answer(
            error.rendering.http, error_body(error.sentence), error.standing, error_headers(error)
        )

    def _begin(self, status: int, headers: Headers) -> None:
        self._answering.begin(status, headers)
        self.started = True


def error_headers(error: GatewayError) -> Headers:
    """What goes with a refusal beside its body."""
    headers: Headers = []
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", retry_after(error.retry_after_seconds)))
    if error.code is Code.UNAUTHENTICATED:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def _read_headers(headers: list[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    """The headers that mean something to us, every value of each."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in _WANTED:
            found.setdefault(name, []).append(value)
    return found


def peer(scope: Scope) -> str:
    """The address of the connection's other end; no header can change it."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _infer_body(found: dict[bytes, list[bytes]], incoming: Incoming, memory: JsonMemory) -> InferBody:
    """The payload that the headers promise. Raises BAD_REQUEST, BODY_TOO_LARGE, ENCODING_NOT_SUPPORTED."""
    for value in found.get(b"content-encoding", ()):
        if value.strip().lower() not in (b"", b"identity"):
            raise GatewayError(Code.ENCODING_NOT_SUPPORTED)
    head_lengths = found.get(b"inference-header-content-length")
    if head_lengths and (len(head_lengths) > 1 or not _HEAD_LENGTH.fullmatch(head_lengths[0])):
        raise GatewayError(
            Code.BAD_REQUEST, detail="Inference-Header-Content-Length must be one number of bytes"
        )
    lengths = found.get(b"content-length")  # one and a number, or the parser would have refused it
    declared = int(lengths[0]) if lengths else None
    if declared is not None and declared > MOST_BODY_BYTES:
        raise GatewayError(Code.BODY_TOO_LARGE, detail="no body may be larger than 2 GiB")
    return InferBody(
        incoming,
        declared=declared,
        head_length=int(head_lengths[0]) if head_lengths else None,
        memory=memory,
    )
