"""One RPC of the gRPC door: who calls and until when, and how it is answered; refusals as the one table has them."""

import asyncio
import re
from functools import lru_cache, partial
from typing import Final, NoReturn, TypeAlias
from urllib.parse import unquote

import grpc
from msgspec import Struct

from gateway.admission.fair_queueing import Class
from gateway.auth.credentials import credential
from gateway.auth.presented import Certificate, Credential, of_pem
from gateway.auth.principal import Principal
from gateway.call import GRPC, GRPC_STREAM, Endpoint, InferenceCall, Outgoing, Payload, Standing
from gateway.errors import GatewayError, forget_frames
from gateway.frontends.answering import declared_class
from gateway.frontends.grpc_restoring import over_grpc
from gateway.frontends.restoring import Hold
from gateway.frontends.screening import AT_ONCE_BYTES, beside
from gateway.privacy.mask import Screen
from gateway.telemetry.traceparent import valid_traceparent
from gateway.wire import oip_grpc as wire
from gateway.wire.ratelimit import ratelimit_metadata, retry_after
from gateway.wire.screened import masked_message

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Metadata = list[tuple[str, str]]

CODES: Final = {code.name: code for code in grpc.StatusCode}
_WANTED: Final = frozenset(
    {"authorization", "x-api-key", "traceparent", "triton_grpc_error", "idempotency-key", "x-gateway-class"}
)
_AT_ONCE_BYTES: Final = 256 * 1024  # more is hashed in a thread
_PEER: Final = re.compile(r"ipv[46]:\[?([^\]]+?)\]?:[0-9]+")


class Caller(Struct, frozen=True):
    """What an RPC says before its first message."""

    request_id: str
    credential: Credential | None
    address: str
    deadline: float  # seconds on the monotonic clock
    traceparent: str
    principal: Principal | None = None  # once the caller is known
    wants_status: bool = False  # of a model's error on a stream, instead of a message that tells it
    keys: tuple[bytes, ...] = ()  # its Idempotency-Keys, of which there should be one
    service_class: Class = "interactive"

    @property
    def tenant_id(self) -> str:
        return self.principal.tenant_id if self.principal else ""

    @property
    def body_bytes(self) -> int:
        """What its plan allows."""
        return self.principal.plan.limits.body_bytes if self.principal else 0

    def call(
        self,
        payload: Payload,
        *,
        endpoint: Endpoint = "metadata",
        model: str = "",
        version: str = "",
        protocol: str = GRPC,
        once: str = "",
    ) -> InferenceCall:
        return InferenceCall(
            request_id=self.request_id,
            model=model,
            version=version,
            credential=self.credential,
            address=self.address,
            protocol=protocol,
            payload=payload,
            deadline=self.deadline,
            traceparent=self.traceparent,
            endpoint=endpoint,
            once=once,
            service_class=self.service_class,
        )


class InferMessage:
    """The payload of an infer request that is here already, as a whole. `with_key`: its call has an Idempotency-Key."""

    fingerprint = b""

    def __init__(self, asked: wire.Asked, size: int, hold: Hold, *, is_stream: bool, with_key: bool) -> None:
        self._asked = asked
        self._hold = hold
        self._is_stream = is_stream
        self._with_key = with_key
        self.declared_bytes = self.received_bytes = size

    async def judge(self, limit_bytes: int, tenant_id: str, screen: Screen | None) -> Outgoing:
        asked = self._asked
        if self._with_key:  # of what the client sent, before it is masked and written anew
            large = self.received_bytes > _AT_ONCE_BYTES
            find = wire.fingerprint
            self.fingerprint = await asyncio.to_thread(find, asked) if large else find(asked)
        if screen is not None:
            asked = await beside(tenant_id, self._texts(), screen, partial(masked_message, asked, screen))
        judged = wire.judge_infer(asked, is_stream=self._is_stream)
        tensors = asked.tensors
        return Outgoing(
            head=judged.head,
            first=tensors,
            tensor_bytes=len(tensors),
            sequence=judged.sequence,
            restores=over_grpc(screen, self._hold),
        )

    def _texts(self) -> bytes | None:
        """All that may be text, if it is short."""
        if self.received_bytes > AT_ONCE_BYTES:
            return None
        serialized: bytes = self._asked.request.SerializeToString()
        return serialized + self._asked.tensors


def infer_call(
    asked: wire.Asked, size: int, who: Caller, protocol: str, hold: Hold, *, once: str = ""
) -> InferenceCall:
    """The call that a message of so many bytes asks for, `once` under that key; `hold` is told what else is kept for it. Raises
    BAD_REQUEST.
    """
    return who.call(
        InferMessage(asked, size, hold, is_stream=protocol == GRPC_STREAM, with_key=bool(once)),
        endpoint="infer",
        model=asked.model,
        version=wire.version_of(asked.request.model_version),
        protocol=protocol,
        once=once,
    )


def caller(context: Context, request_id: str, now: float, most_seconds: float) -> Caller:
    """Step 2, as far as it goes without a message. Raises TWO_CREDENTIALS, UNAUTHENTICATED, BAD_REQUEST."""
    found: dict[str, list[bytes]] = {}
    for name, value in context.invocation_metadata() or ():
        if name in _WANTED:
            found.setdefault(name, []).append(value if isinstance(value, bytes) else value.encode())
    keys = tuple(found.get("idempotency-key", ()))
    # A call with a key goes on when its client leaves, and so when that waits no longer.
    left = None if keys else context.time_remaining()
    return Caller(
        request_id=request_id,
        credential=credential(found.get("authorization", ()), found.get("x-api-key", ()))
        or certificate(context),
        address=peer(context),
        deadline=now + (most_seconds if left is None else min(left, most_seconds)),
        traceparent=valid_traceparent(found["traceparent"]) if "traceparent" in found else "",
        wants_status=found.get("triton_grpc_error") == [b"true"],
        keys=keys,
        service_class=declared_class(found.get("x-gateway-class", ())),
    )


def certificate(context: Context) -> Certificate | None:
    """What the client has shown in the handshake, where the listener asks for one: grpc has verified it by then."""
    for pem in context.auth_context().get("x509_pem_cert", ()):
        return of_pem(pem)
    return None


def peer(context: Context) -> str:
    """The address of the connection's other end; no metadata can change it."""
    return _address(context.peer())


@lru_cache
def _address(text: str) -> str:
    found = _PEER.fullmatch(unquote(text))
    return found[1] if found else ""


def told(request_id: str, standing: Standing = ()) -> Metadata:
    """What goes with every answer, behind it."""
    return [("x-request-id", request_id), *ratelimit_metadata(standing)]


async def refuse(context: Context, request_id: str, error: GatewayError) -> NoReturn:
    """End the RPC with a refusal."""
    forget_frames(error)
    metadata = told(request_id, error.standing)
    if error.retry_after_seconds is not None:
        metadata.append(("retry-after", retry_after(error.retry_after_seconds).decode()))
    await context.abort(CODES[error.rendering.grpc], error.sentence, tuple(metadata))
