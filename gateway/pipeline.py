"""THE request path. Every protocol's calls go through `Pipeline.serve`, in these steps (1 and 2 are the front end's):

 1 accept        the socket: head size, head time, body rate             frontends/http_protocol
 2 decode        model, version, credential, deadline -> InferenceCall   frontends/oip_rest
 3 authenticate  credential -> Principal                                 auth
 4 authorize     may this principal do this with this model?             authz
 5 admit         rate, calls at once, size -> Reservation                admission
 6 intend        the audit intent starts its way to the disk             audit
 7 acquire       a slot on a ready replica; a cold model is started      scaling
 8 forward       to Triton; elsewhere only if it cannot have run         triton
 9 relay         the reply, once the intent is durable, chunk by chunk   frontends
10 settle        always: release, outcome or denial                      admission, audit

Settling is a plain function: with no await in it, no cancellation can fall into it, so it needs no shield.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from gateway.admission.limiter import Limiter, Reservation
from gateway.audit.ledger import Denial, Intent, IntentBody, Ledger, Outcome, SinkFailed
from gateway.audit.record import Status
from gateway.auth.api_key import ApiKeys
from gateway.auth.known import Known
from gateway.auth.principal import Principal
from gateway.authz.cedar import Action, Authorizer, Decision, ModelView
from gateway.call import Downstream, InferenceCall, Outgoing, Standing
from gateway.errors import Code, GatewayError
from gateway.scaling.throttler import Slot, Throttler
from gateway.triton.client import NotSent, UpstreamFailed, UpstreamReply

log = logging.getLogger(__name__)

_TRIES = 3
_OK = 200
_CLIENT_CLOSED = 499
_OURS = 500  # from here on it is our fault, and an operator wants to know why


class Cut(Exception):
    """The reply broke off after it had begun. The front end must end it so that it cannot look whole."""


@dataclass(slots=True)
class Passage:
    """What one call has gathered on its way: each step fills in its own, settle reads them all."""

    call: InferenceCall
    started_at: float
    downstream: Downstream | None = None
    principal: Principal | None = None
    decision: Decision | None = None
    model: ModelView | None = None
    reservation: Reservation | None = None
    standing: Standing = ()
    intent: Intent | None = None
    slot: Slot | None = None
    forwarded_at: float = 0.0
    forwarded_us: int = 0
    reply: UpstreamReply | None = None
    replied_at: float = 0.0
    reply_bytes: int = 0
    told_status: int = 0
    fault: GatewayError | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the client has been told a status; nothing else can be told then."""
        return self.downstream is not None and self.downstream.started


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The rooms that a call passes. `clock` gives monotonic seconds, `now_us` microseconds since the Unix epoch."""

    auth: ApiKeys
    known: Known
    authorizer: Authorizer
    limiter: Limiter
    ledger: Ledger
    throttler: Throttler
    clock: Callable[[], float]
    now_us: Callable[[], int]

    async def serve(self, call: InferenceCall, downstream: Downstream) -> None:
        """Serve one call. Raises GatewayError before the reply's first byte, Cut after it."""
        passage = Passage(call, self.clock(), downstream)
        try:
            principal, model = await self._admit(passage, call.verb)  # 3 4 5
            async with asyncio.timeout(call.deadline - self.clock()):
                outgoing = await call.payload.judge(principal.plan.limits.body_bytes, principal.tenant_id)
                intent = self._intend(passage, principal, model)  # 6
                reply = await self._forward(passage, model, outgoing)  # 7 8
                await self._relay(passage, intent, reply, downstream)  # 9
        except Exception as fault:
            raise self._judge_fault(passage, fault) from fault
        finally:
            self._settle(passage)  # 10

    async def examine(
        self, call: InferenceCall, action: Action | None, refusal: GatewayError | None = None
    ) -> Standing:
        """Steps 3 to 5 for what we answer ourselves (server metadata, readiness); a denial is recorded, an answer is not.

        `refusal` is raised at a caller who passes: what was asked for is not here, and it is this caller's denial.
        """
        passage = Passage(call, self.clock())
        try:
            await self._admit(passage, action)
            if refusal is not None:
                raise refusal
            if action is not None:
                self._find(call)
        except GatewayError as fault:
            raise self._judge_fault(passage, fault) from fault
        finally:
            self._settle(passage)
        return passage.standing

    def refused(self, request_id: str, address: str, error: GatewayError) -> None:
        """Record a refusal that was decided before there was a call."""
        self.ledger.deny(_anonymous_denial(request_id, address, error), now_us=self.now_us())

    async def _admit(self, passage: Passage, action: Action | None) -> tuple[Principal, ModelView]:
        call = passage.call
        principal = passage.principal = await self.auth.authenticate(call.credential)  # 3
        model = passage.model = self.known.model(call.model) or _NO_MODEL
        if action is not None:
            self._authorize(passage, principal, action, model)  # 4
        reservation = passage.reservation = self.limiter.admit(principal, call.payload.declared_bytes)  # 5
        passage.standing = reservation.standing
        return principal, model

    def _authorize(self, passage: Passage, principal: Principal, action: Action, model: ModelView) -> None:
        """A model that the tenant has not is not found; what a policy forbids (a limited key, a suspended tenant) is forbidden."""
        found = passage.decision = self.authorizer.decide(principal.subject, "discover", model)
        if not found.allowed:
            raise GatewayError(Code.FORBIDDEN if found.policies else Code.MODEL_NOT_FOUND)
        passage.decision = self.authorizer.decide(principal.subject, action, model)
        if not passage.decision.allowed:
            raise GatewayError(Code.FORBIDDEN)

    def _find(self, call: InferenceCall) -> None:
        """Whether the model is there in this version; nothing is started for it."""
        if not self.throttler.offers(call.model, call.version):
            raise GatewayError(Code.MODEL_NOT_FOUND)

    def _intend(self, passage: Passage, principal: Principal, model: ModelView) -> Intent:
        call, decision = passage.call, passage.decision
        passage.intent = intent = self.ledger.intend(
            request=call.request_id,
            tenant=principal.tenant_id,
            key=principal.key_id,
            model=model.id,
            model_version=call.version,
            now_us=self.now_us(),
            body=IntentBody(
                tenant_name=principal.tenant_name,
                key_name=principal.key_name,
                address=call.address,
                action=call.verb,
                policies=decision.policies if decision else (),
                quota={quota.name: quota.remaining for quota in passage.standing},
                protocol=call.protocol,
            ),
        )
        return intent

    async def _forward(self, passage: Passage, model: ModelView, outgoing: Outgoing) -> UpstreamReply:
        """Send the call to a ready replica; to another one only when no byte of it was written."""
        for _ in range(_TRIES):
            slot = passage.slot = await self.throttler.acquire(model.name)  # 7
            passage.forwarded_at, passage.forwarded_us = self.clock(), self.now_us()
            try:
                passage.reply = await slot.client.send(passage.call, outgoing)  # 8
            except NotSent as fault:
                self.throttler.lost(slot, fault)
                passage.slot = None
                continue
            return passage.reply
        raise GatewayError(
            Code.MODEL_UNAVAILABLE, private="no replica could be reached", retry_after_seconds=1
        )

    async def _relay(
        self, passage: Passage, intent: Intent, reply: UpstreamReply, downstream: Downstream
    ) -> None:
        """No byte of the reply leaves before the intent is durable; one that has begun goes on also if the log is lost then."""
        await intent.durable()
        await downstream.start(reply, passage.standing)
        async for chunk in reply.chunks():
            passage.reply_bytes += len(chunk)
            await downstream.send(chunk)
        passage.replied_at = self.clock()
        passage.told_status = await downstream.end()

    def _judge_fault(self, passage: Passage, fault: Exception) -> Exception:
        """Turn what went wrong into what the front end may say, and note it for settle and for the operator."""
        error = passage.fault = _as_gateway_error(fault)
        error.standing = error.standing or passage.standing
        if error.rendering.http >= _OURS:
            log.warning(
                "%s %s %s", passage.call.request_id, error.code.value, error.private or error.sentence
            )
        return Cut(str(error)) if passage.has_begun else error

    def _settle(self, passage: Passage) -> None:
        """Give back what the call held and say how it ended. Never raises."""
        if passage.reply is not None and passage.slot is not None:
            passage.slot.client.release(passage.reply)
        if passage.reservation is not None:
            passage.reservation.release()
        if passage.intent is not None:
            self.ledger.settle(passage.intent, self._outcome(passage), now_us=self.now_us())
        elif passage.fault is not None:
            self.ledger.deny(_denial(passage, passage.fault), now_us=self.now_us())

    def _outcome(self, passage: Passage) -> Outcome:
        """Priced is a call that went to a server: also when the client left, as it may have run; never when we failed it."""
        call, slot, now = passage.call, passage.slot, self.clock()
        status = _ending(passage)
        received = call.payload.received_bytes
        served = slot is not None and status != "failed"
        took_us = _microseconds(passage.forwarded_at, passage.replied_at or now)
        return Outcome(
            status=status,
            http_status=_http_status(passage),
            reason=passage.fault.code.value if passage.fault else None,
            replica=slot.replica.id if slot else None,
            model_version=call.version or (slot.version_of(call.model) if slot else None),
            interval_us=(passage.forwarded_us, passage.forwarded_us + took_us) if slot else None,
            weight=1 if served else 0,
            requests=1 if served and call.verb == "infer" else 0,
            bytes=received + passage.reply_bytes if served else 0,
            durations={
                "wait_us": _microseconds(passage.started_at, passage.forwarded_at if slot else now),
                "total_us": _microseconds(passage.started_at, now),
            },
            request_bytes=received,
            reply_bytes=passage.reply_bytes,
        )


def _as_gateway_error(fault: Exception) -> GatewayError:
    match fault:
        case GatewayError():
            return fault
        case SinkFailed():
            return GatewayError(Code.AUDIT_UNAVAILABLE, private=str(fault), retry_after_seconds=1)
        case UpstreamFailed():
            return GatewayError(Code.UPSTREAM_FAILED, private=str(fault))
        case TimeoutError():
            return GatewayError(Code.DEADLINE_EXCEEDED)
    log.error("a fault of our own", exc_info=fault)
    return GatewayError(Code.INTERNAL, private=repr(fault))


def _ending(passage: Passage) -> Status:
    """The outcome's status: `done` is the only one in which the client got a whole reply of the model's."""
    if passage.fault is not None:
        return "partial" if passage.has_begun else "failed"
    if not passage.replied_at:
        return "cancelled"
    return "done" if passage.told_status == _OK else "refused"


def _http_status(passage: Passage) -> int:
    """What the client was told."""
    if passage.has_begun and passage.reply is not None:
        return passage.told_status or passage.reply.status
    return passage.fault.rendering.http if passage.fault else _CLIENT_CLOSED


def _denial(passage: Passage, fault: GatewayError) -> Denial:
    principal, model = passage.principal, passage.model
    denial = _anonymous_denial(passage.call.request_id, passage.call.address, fault)
    if principal is None:
        return denial
    return replace(
        denial,
        tenant=principal.tenant_id,
        key=principal.key_id,
        model=model.id if model else None,
        policies=passage.decision.policies if passage.decision else (),
    )


def _anonymous_denial(request_id: str, address: str, fault: GatewayError) -> Denial:
    return Denial(request=request_id, reason=fault.code.value, status=fault.rendering.http, address=address)


def _microseconds(start: float, end: float) -> int:
    return max(0, round((end - start) * 1e6))


# Stands in for a model that is not in the directory, so that asking for one goes the same way as asking for a foreign one.
_NO_MODEL = ModelView(id="", name="", everyone=False, tenants=frozenset())
