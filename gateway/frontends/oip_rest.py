"""Open Inference Protocol v2 over REST: a plain ASGI callable for what goes to a model.

Paths are matched raw, as Triton does: a percent-encoded model name is no model name.
"""

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.auth.credentials import credential
from gateway.call import Endpoint, InferenceCall, Payload, Standing
from gateway.errors import Code, GatewayError, forget_frames
from gateway.frontends.answering import declared_class, idempotency_key
from gateway.frontends.http_body import Collected, GenerateBody, Incoming, InferBody, JsonMemory, NoBody
from gateway.frontends.http_downstream import HttpDownstream
from gateway.frontends.routes import OF_MODEL
from gateway.pipeline import Cut, Pipeline
from gateway.telemetry.traceparent import valid_traceparent
from gateway.wire.encodings import accepted, coding_of
from gateway.wire.oip import MODEL_NAME, MOST_BODY_BYTES

Scope = MutableMapping[str, Any]

METHOD: MappingProxyType[bytes, str] = MappingProxyType(
    {asked.encode(): method for asked, method in OF_MODEL.items()}
)
MODEL_PATH = re.compile(
    rf"/v2/models/(?P<model>{MODEL_NAME})(?:/versions/(?P<version>[0-9]{{1,9}}))?(?P<asked>".encode()
    + b"|".join(METHOD)
    + b")"
)
_ENDPOINTS: MappingProxyType[bytes, Endpoint] = MappingProxyType(
    {b"/infer": "infer", b"/generate": "generate", b"/generate_stream": "generate_stream"}
)
_HEAD_LENGTH = re.compile(rb"[0-9]{1,9}")
_WANTED = frozenset(
    {
        b"authorization",
        b"x-api-key",
        b"content-length",
        b"content-encoding",
        b"accept-encoding",
        b"inference-header-content-length",
        b"traceparent",
        b"idempotency-key",
        b"x-gateway-class",
    }
)


@dataclass(frozen=True, slots=True)
class OipRest:
    """The calls that go to a model. `request_seconds` is the deadline of a call; `shows_config`: tenants may read how their models are
    configured.
    """

    pipeline: Pipeline
    memory: JsonMemory
    request_seconds: float
    shows_config: bool = False

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
            if call.endpoint == "metadata":
                await self._describe(call, path["asked"], downstream)
            elif call.once and isinstance(call.payload, Collected):
                downstream.hold(call.payload.account)
                await self.pipeline.serve(call, downstream)
                await downstream.release(self.request_seconds)
            else:
                await self.pipeline.serve(call, downstream)
        except GatewayError as error:
            await downstream.refuse(error)
        except Cut as cut:
            forget_frames(cut)
            # Returning without the rest makes the server close the connection: the client sees that its reply is not whole.
            downstream.cut(cut.error)
        finally:
            if isinstance(call.payload, Collected):
                call.payload.close()

    async def _describe(self, call: InferenceCall, asked: bytes, downstream: "HttpDownstream") -> None:
        if asked == b"/ready":
            examined = await self.pipeline.examine(call, "describe")
            await downstream.answer(200, b"", examined.standing)
        elif asked == b"/stats":
            examined = await self.pipeline.examine(call, "describe")
            statistics = self.pipeline.shares.statistics(examined.tenant_id, call.model, call.version)
            await downstream.answer(200, statistics, examined.standing)
        elif asked == b"/config":
            if not self.shows_config:
                await self.pipeline.examine(call, None, GatewayError(Code.NO_SUCH_PATH))
            config, standing = await self.pipeline.configure(call)
            await downstream.answer(200, msgspec.json.encode(config), standing)
        else:
            await self.pipeline.serve(call, downstream)

    async def examine(self, scope: Scope, request_id: str, refusal: GatewayError | None = None) -> Standing:
        """Authenticate and admit a request that no model is asked for. Raises GatewayError, `refusal` at the latest."""
        try:
            call = self._call(scope, read_headers(scope["headers"]), request_id, NoBody())
        except GatewayError as error:
            self.pipeline.refused(request_id, peer(scope), error)
            raise
        return (await self.pipeline.examine(call, None, refusal)).standing

    def _decode(
        self, scope: Scope, incoming: Incoming, request_id: str, path: re.Match[bytes]
    ) -> InferenceCall:
        """Step 2: what is asked, of which model, by whom. Raises GatewayError: 4xx codes only."""
        found = read_headers(scope["headers"])
        model, version, asked = path.groups(b"")
        endpoint = _ENDPOINTS.get(asked, "metadata")
        if endpoint not in ("infer", "metadata") and scope["http_version"] == "1.0":
            raise GatewayError(Code.BAD_REQUEST, detail="a reply that comes bit by bit needs HTTP/1.1")
        keys = found.get(b"idempotency-key") if endpoint != "metadata" else None
        return self._call(
            scope,
            found,
            request_id,
            _payload(endpoint, found, incoming, self.memory, with_key=keys is not None),
            model=model.decode(),
            version=version.decode(),
            endpoint=endpoint,
            once=idempotency_key(keys) if keys else "",
        )

    def _call(
        self,
        scope: Scope,
        found: dict[bytes, list[bytes]],
        request_id: str,
        payload: Payload,
        *,
        model: str = "",
        version: str = "",
        endpoint: Endpoint = "metadata",
        once: str = "",
    ) -> InferenceCall:
        return InferenceCall(
            request_id=request_id,
            model=model,
            version=version,
            credential=credential(found.get(b"authorization", ()), found.get(b"x-api-key", ()))
            or scope.get("client_certificate"),
            address=peer(scope),
            protocol="oip-rest",
            payload=payload,
            deadline=self.pipeline.clock() + self.request_seconds,
            traceparent=valid_traceparent(found[b"traceparent"]) if b"traceparent" in found else "",
            endpoint=endpoint,
            # Triton compresses what infer replies, and nothing else. What is kept is kept as it is inside.
            encoding=accepted(found[b"accept-encoding"])
            if endpoint == "infer" and b"accept-encoding" in found and not once
            else "",
            once=once,
            service_class=declared_class(found.get(b"x-gateway-class", ())),
        )


def read_headers(headers: list[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
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


class Promised(msgspec.Struct, frozen=True, gc=False):
    """What the headers say of a body: its size, None when chunked, and its coding, b"" without one."""

    declared: int | None
    coding: bytes


def promised(found: dict[bytes, list[bytes]]) -> Promised:
    """Raises BODY_TOO_LARGE, ENCODING_NOT_SUPPORTED."""
    coding = coding_of(found[b"content-encoding"]) if b"content-encoding" in found else b""
    lengths = found.get(b"content-length")  # one and a number, or the parser would have refused it
    declared = int(lengths[0]) if lengths else None
    if declared is not None and declared > MOST_BODY_BYTES:
        raise GatewayError(Code.BODY_TOO_LARGE, detail="no body may be larger than 2 GiB")
    return Promised(declared, coding)


def _payload(
    endpoint: Endpoint,
    found: dict[bytes, list[bytes]],
    incoming: Incoming,
    memory: JsonMemory,
    *,
    with_key: bool,
) -> NoBody | GenerateBody | InferBody:
    """The payload that the headers promise. Raises BAD_REQUEST, BODY_TOO_LARGE, ENCODING_NOT_SUPPORTED."""
    if endpoint == "metadata":
        return NoBody()
    body = promised(found)
    if endpoint != "infer":
        return GenerateBody(incoming, body.declared, body.coding, memory, with_key=with_key)
    head_lengths = found.get(b"inference-header-content-length")
    if head_lengths and (len(head_lengths) > 1 or not _HEAD_LENGTH.fullmatch(head_lengths[0])):
        raise GatewayError(
            Code.BAD_REQUEST, detail="Inference-Header-Content-Length must be one number of bytes"
        )
    head_length = int(head_lengths[0]) if head_lengths else None
    return InferBody(incoming, body.declared, head_length, memory, body.coding, with_key=with_key)
