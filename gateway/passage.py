"""What one call gathers on its way through the pipeline, and what that amounts to when it is settled."""

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from gateway.admission.fair_queueing import Ticket
from gateway.admission.limiter import Reservation
from gateway.admission.purses import Cost
from gateway.admission.spending import NOTHING, Spent
from gateway.audit.ledger import Denial, Intent, Outcome, SinkFailed
from gateway.audit.record import Sealer, Status
from gateway.auth.principal import Principal
from gateway.authz.cedar import Decision, ModelView
from gateway.call import (
    GRPC,
    GRPC_STREAM,
    Downstream,
    InferenceCall,
    Listener,
    Outgoing,
    Reply,
    Sequence,
    Source,
    Standing,
    Take,
    Upstream,
)
from gateway.envelope.ports import KeyRefused, KeysUnavailable
from gateway.errors import Code, GatewayError
from gateway.kept.capture import Head
from gateway.kept.capturing import Capture, Captures
from gateway.kept.once import Claim
from gateway.privacy.looks import NotScreened
from gateway.privacy.mask import NotRestored
from gateway.scaling.registry import Resident
from gateway.scaling.sequences import Open
from gateway.scaling.throttler import Evidence, Throttler
from gateway.telemetry.traceparent import Trace
from gateway.triton.canary import Health, judge
from gateway.triton.client import UpstreamFailed
from gateway.wire import tokens
from gateway.wire.oip_grpc import renamed

log = logging.getLogger(__name__)

_OK = 200
_GENERATES: Final = ("generate", "generate_stream")
_CLIENT_CLOSED = 499
_MOST_TOLD: Final = 200  # characters of a header of the model's server
_SIZE: Final = re.compile(rb"[0-9]{1,9}")
_SHOWN: dict[Health, Evidence] = {Health.FAILING: "failed", Health.DEAD: "dead"}


class Passage(msgspec.Struct, eq=False):
    """What one call has gathered on its way: each step fills in its own, settle reads them all."""

    call: InferenceCall
    started_at: float
    downstream: Downstream | None = None
    principal: Principal | None = None
    sealer: Sealer | None = None
    decision: Decision | None = None
    model: ModelView | None = None
    reservation: Reservation | None = None
    standing: Standing = ()
    spent: Spent = msgspec.field(default_factory=lambda: NOTHING)
    intent: Intent | None = None
    claim: Claim | None = None  # of its Idempotency-Key, until it is said what became of it
    ticket: Ticket | None = None  # its turn at the model
    slot: Resident | None = None
    sequence: Sequence | None = None
    open_sequence: Open | None = None
    upstream: Upstream | None = None
    forwarded_at: float = 0.0
    forwarded_us: int = 0
    reply: Reply | None = None
    replied_at: float = 0.0
    reply_bytes: int = 0
    failure: bytes = b""  # how Triton's error begins
    told_status: int = 0
    fault: GatewayError | None = None
    trace: Trace | None = None
    capture: Capture | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the client has been told a status; nothing else can be told then."""
        return self.downstream is not None and self.downstream.started

    def hold(self, reservation: Reservation) -> None:
        """What the limits admitted, with what they did before."""
        if self.reservation is None:
            self.reservation = reservation
        else:
            self.reservation.join(reservation)
        self.standing = self.reservation.standing

    def spend(self, spent: Spent) -> None:
        """What the budgets admitted."""
        self.spent = spent
        self.standing += spent.standing

    def release_reply(self) -> None:
        if self.upstream is not None and self.reply is not None:
            self.upstream.release(self.reply)

    def seen(self, captures: Captures, part: float, outgoing: Outgoing) -> Outgoing:
        """What is sent, if this call is one of the part that is captured: the same, seen as it goes by."""
        if self.call.verb != "infer" or self.principal is None:
            return outgoing
        self.capture = captures.drawn(self.principal.tenant_id, part)
        return outgoing if self.capture is None else self.capture.asked(outgoing)

    def taker(self, listener: Listener) -> Take:
        """What takes the reply."""
        return listener.take if self.capture is None else self.capture.replied(listener.take)


def outcome(passage: Passage, now: float) -> Outcome:
    """Priced is a call that went to a server: also when the client left, as it may have run; never when we failed it."""
    call, slot = passage.call, passage.slot
    status = ending(passage)
    received = call.payload.received_bytes
    served = slot is not None and status != "failed"
    took_us = microseconds(passage.forwarded_at, passage.replied_at or now)
    return Outcome(
        status=status,
        http_status=http_status(passage),
        reason=passage.fault.code.value if passage.fault else None,
        replica=slot.replica.id if slot else None,
        model_version=call.version or (slot.newest if slot else None),
        interval_us=(passage.forwarded_us, passage.forwarded_us + took_us)
        if slot and passage.forwarded_us
        else None,
        weight=1 if served else 0,
        requests=1 if served and call.verb == "infer" else 0,
        bytes=received + passage.reply_bytes if served else 0,
        tokens=passage.downstream.tokens if served and passage.downstream else 0,
        durations={
            "wait_us": microseconds(passage.started_at, passage.forwarded_at or now),
            "total_us": microseconds(passage.started_at, now),
        },
        request_bytes=received,
        reply_bytes=passage.reply_bytes,
    )


def most_tokens(call: InferenceCall, outgoing: Outgoing) -> int:
    """Of prompt and reply together. Without a count of the protocol's own, four bytes are a token."""
    if outgoing.most_tokens:
        return outgoing.most_tokens
    if call.endpoint in _GENERATES:
        return tokens.most_of_generate(outgoing.head)
    return tokens.most_of_infer(outgoing.head, outgoing.tensor_bytes)


def cost(passage: Passage, ended: Outcome | None) -> Cost:
    """What its budgets are charged: nothing where its outcome has no price, or it came to none."""
    if ended is None or not ended.weight:
        return Cost()
    began_us, ended_us = ended.interval_us or (0, 0)
    return Cost(ended.requests, _used_tokens(passage, ended), ended_us - began_us, ended.tokens)


def _used_tokens(passage: Passage, ended: Outcome) -> int:
    """By the model's own tokenizer, or by our own count. What was to have none has none."""
    spent, downstream = passage.spent, passage.downstream
    if downstream is None or not spent.ceiling.tokens:
        return 0
    found = ended.tokens or downstream.guessed_tokens
    if found:
        return found
    if passage.call.endpoint in _GENERATES:
        pieces = downstream.pieces or 1
        return tokens.of_bytes(ended.request_bytes) + tokens.of_pieces(pieces, passage.reply_bytes)
    return tokens.of_bytes(ended.request_bytes + passage.reply_bytes)


def ending(passage: Passage) -> Status:
    """The outcome's status: `done` is the only one in which the client got a whole reply of the model's."""
    if passage.fault is not None:
        return "partial" if passage.has_begun else "failed"
    if not passage.replied_at or not passage.told_status:
        return "cancelled"
    if passage.downstream is not None and passage.downstream.has_failed:
        return "partial"
    return "done" if passage.told_status == _OK else "refused"


def captured(passage: Passage, now_us: int) -> Head | None:
    """What its capture says of a call; None when no model was asked."""
    call, slot, reply = passage.call, passage.slot, passage.reply
    if not passage.forwarded_us:
        return None
    return Head(
        request=call.request_id,
        model=call.model,
        model_version=call.version or (slot.newest if slot else ""),
        protocol=call.protocol,
        endpoint=call.endpoint,
        asked_us=passage.forwarded_us,
        ended_us=now_us,
        ending=ending(passage),
        http_status=http_status(passage),
        reason=passage.fault.code.value if passage.fault else "",
        **(_reply_said(reply, is_message=call.protocol in (GRPC, GRPC_STREAM)) if reply else {}),
    )


def _reply_said(reply: Reply, *, is_message: bool) -> dict[str, Any]:
    head_length = reply.head_length
    return {
        "reply_status": reply.status,
        "reply_type": "" if is_message else reply.content_type.decode(errors="replace")[:_MOST_TOLD],
        "reply_encoding": reply.content_encoding.decode(errors="replace")[:_MOST_TOLD],
        "reply_head_bytes": int(head_length) if _SIZE.fullmatch(head_length) else 0,
    }


def tagged(passage: Passage, outgoing: Outgoing) -> Outgoing:
    """What is sent of a call in a sequence: with the id that Triton knows it by. A model without sequences is told of none."""
    sequence, found = outgoing.sequence, passage.open_sequence
    if sequence is None or found is None:
        return outgoing
    return replace(outgoing, head=sequence.head(found.ours))


def outbound(passage: Passage, slot: Resident) -> InferenceCall:
    """The call as it goes to the replica: of a traced one, this try is the parent of what Triton does."""
    if passage.trace is None:
        return passage.call
    replica = slot.replica
    return passage.trace.forwarding(passage.call, replica.id, replica.host, replica.port)


def with_own_id(passage: Passage, error: bytes) -> bytes:
    """What Triton says of a sequence, with the id that the client knows it by."""
    found = passage.open_sequence
    if found is None:
        return error
    if passage.call.protocol == GRPC_STREAM:
        return renamed(error, str(found.ours), str(found.key.id))
    own = str(found.key.id).encode()
    if passage.call.protocol != GRPC:  # a text within JSON
        own = msgspec.json.encode(str(found.key.id))[1:-1]
    return error.replace(str(found.ours).encode(), own)


class InTurn:
    """The rest of a request, whose last piece waits until it is the call's turn: a body that comes slowly keeps nobody else waiting."""

    __slots__ = ("_left", "_source", "_turn")

    def __init__(self, source: Source, size: int, turn: Callable[[], Awaitable[None]]) -> None:
        self._source, self._left, self._turn = source, size, turn

    async def pour(self, take: Take) -> None:
        last: list[bytes] = []

        def keep(piece: bytes) -> bool | None:
            self._left -= len(piece)
            if self._left > 0:
                return take(piece)
            last.append(piece)
            return None

        await self._source.pour(keep)
        if self._left > 0:  # nobody wants more of it
            return
        await self._turn()
        for piece in last:
            take(piece)

    def pause(self) -> None:
        self._source.pause()

    def resume(self) -> None:
        self._source.resume()


def in_turn(passage: Passage, outgoing: Outgoing, throttler: Throttler, slot: Resident) -> Outgoing:
    """What is sent: of a body that is still coming, with its end in its turn."""
    ticket, rest = passage.ticket, outgoing.rest
    if rest is None or ticket is None or passage.sequence is not None:
        return outgoing
    size = outgoing.tensor_bytes - len(outgoing.first)
    return replace(outgoing, rest=InTurn(rest, size, lambda: throttler.turn(slot, ticket)))


def turn(passage: Passage) -> Ticket | None:
    """A new ticket for its turn at the model; None of a call that does not have the model run."""
    call, principal = passage.call, passage.principal
    if principal is None or call.verb != "infer":
        return None
    passage.ticket = Ticket(
        principal.tenant_id, principal.plan.weight, 1.0, call.service_class, call.deadline
    )
    return passage.ticket


def evidence(passage: Passage) -> Evidence:
    """What the call has shown of its place. An error of the client's, or metadata, shows nothing."""
    if passage.fault is not None and passage.fault.code is Code.UPSTREAM_FAILED:
        return "dead"
    if passage.fault is not None and passage.fault.code is Code.MODEL_FAILED:
        return "failed"
    if passage.call.verb != "infer" or not passage.forwarded_at:
        return "none"
    if passage.reply is None or not passage.replied_at:
        return "left"
    if passage.downstream is not None and passage.downstream.has_failed:
        return "none"
    found = judge(passage.reply.status, passage.reply.content_type, passage.failure)
    return "well" if found is Health.WELL else _SHOWN.get(found, "none")


def http_status(passage: Passage) -> int:
    """What the client was told."""
    if passage.has_begun and (passage.told_status or passage.reply is not None):
        return passage.told_status or (passage.reply.status if passage.reply else 0)
    return passage.fault.rendering.http if passage.fault else _CLIENT_CLOSED


def denial(passage: Passage, fault: GatewayError) -> Denial:
    principal, model = passage.principal or fault.who, passage.model
    anonymous = anonymous_denial(passage.call.request_id, passage.call.address, fault)
    if principal is None:
        return anonymous
    return replace(
        anonymous,
        tenant=principal.tenant_id,
        key=principal.id,
        model=model.id if model else None,
        policies=passage.decision.policies if passage.decision else (),
    )


def anonymous_denial(request_id: str, address: str, fault: GatewayError) -> Denial:
    return Denial(request=request_id, reason=fault.code.value, status=fault.rendering.http, address=address)


def microseconds(start: float, end: float) -> int:
    return max(0, int((end - start) * 1e6))


def as_gateway_error(fault: Exception) -> GatewayError:
    """What a client may be told of what went wrong."""
    match fault:
        case GatewayError():
            return fault
        case NotScreened():
            return GatewayError(Code.NOT_MASKED, detail=str(fault))
        case NotRestored():
            return GatewayError(Code.NOT_RESTORED, detail=str(fault))
        case SinkFailed():
            return GatewayError(Code.AUDIT_UNAVAILABLE, private=str(fault), retry_after_seconds=1)
        case KeysUnavailable() | KeyRefused():
            return GatewayError(
                Code.SEALING_UNAVAILABLE, private=str(fault), retry_after_seconds=fault.retry_after_seconds
            )
        case UpstreamFailed():
            return GatewayError(Code.UPSTREAM_FAILED, private=str(fault))
        case TimeoutError():
            return GatewayError(Code.DEADLINE_EXCEEDED)
    log.error("a fault of our own", exc_info=fault)
    return GatewayError(Code.INTERNAL, private=repr(fault))
