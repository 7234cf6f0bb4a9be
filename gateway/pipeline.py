"""THE request path. Every protocol's calls go through `Pipeline.serve`, in these steps (1 and 2 are the front end's):

 1 accept        the socket: head size, head time, body rate             frontends/http_protocol, grpc_server
 2 decode        model, version, credential, deadline -> InferenceCall   frontends/oip_rest, oip_grpc
 3 authenticate  credential -> Principal; what seals its records         auth, audit
 4 authorize     may this principal do this with this model?             authz
 5 admit         rate, calls at once, size -> Reservation; behind the body's judgement its budgets -> Spent  admission
 6 intend        the audit intent is queued for the disk                 audit
 7 acquire       its turn at a ready replica; a cold model is started    scaling
 8 forward       to Triton; elsewhere only if it cannot have run         triton
 9 relay         the reply, once the intent is durable, as it comes in   frontends
   repeat        with an Idempotency-Key, behind 6: the claim, or what was answered before; behind 9 the answer is kept    kept
10 settle        always: release, outcome or denial, capture, figures    admission, audit, kept, telemetry

A call whose model only its body names (OpenAI's) is authorized behind step 5: who calls is known and within their limits before the
body is read, on their account, and it is read no further than to the model's name before step 4 has passed.

Settling is a plain function: with no await in it, no cancellation can fall into it, so it needs no shield.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import Struct

from gateway import figures
from gateway.admission.limiter import Limiter
from gateway.admission.spending import Spending
from gateway.audit.ledger import Intent, IntentBody, Ledger
from gateway.auth.authenticator import Authenticator
from gateway.auth.known import Known
from gateway.auth.presented import Credential
from gateway.auth.principal import Principal
from gateway.authz.cedar import Action, ModelView
from gateway.authz.current import Current
from gateway.call import OPENAI, Downstream, InferenceCall, Listener, Naming, Outgoing, Reply, Standing, Take
from gateway.envelope.ports import KeyRefused, KeysUnavailable
from gateway.errors import Code, GatewayError
from gateway.kept import repeating
from gateway.kept.capturing import Captures
from gateway.kept.once import Once
from gateway.loops import Deadlines
from gateway.passage import (
    Passage,
    anonymous_denial,
    as_gateway_error,
    captured,
    cost,
    denial,
    ending,
    evidence,
    in_turn,
    microseconds,
    most_tokens,
    outbound,
    outcome,
    tagged,
    turn,
    with_own_id,
)
from gateway.privacy.mask import Screen
from gateway.scaling.health import is_unloaded
from gateway.scaling.registry import Resident
from gateway.scaling.sequences import Key, Sequences
from gateway.scaling.throttler import Throttler
from gateway.telemetry.meter import Meter
from gateway.telemetry.shares import Shares
from gateway.telemetry.traceparent import Tracer
from gateway.triton.client import NotSent
from gateway.triton.control import ModelConfig

log = logging.getLogger(__name__)

_TRIES = 3
_NOT_LOADED = 404  # Triton's word for a model that it has not, and any model's for whatever it likes
_REFUSED = 400
_OURS = 500  # from here on it is our fault, and an operator wants to know why


class Cut(Exception):
    """The reply broke off after it had begun, by this error. The front end must end it so that it cannot look whole."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__(str(error))
        self.error = error


class Examined(Struct, frozen=True):
    """Who passed steps 3 to 5, and how they stand."""

    principal: Principal
    standing: Standing

    @property
    def tenant_id(self) -> str:
        return self.principal.tenant_id


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The rooms that a call passes. `clock` gives monotonic seconds, `now_us` microseconds since the Unix epoch."""

    auth: Authenticator
    known: Known
    policies: Current
    limiter: Limiter
    spending: Spending
    ledger: Ledger
    throttler: Throttler
    sequences: Sequences
    clock: Callable[[], float]
    now_us: Callable[[], int]
    deadlines: Deadlines = field(default_factory=Deadlines)
    meter: Meter = field(default_factory=Meter)
    shares: Shares = field(default_factory=Shares)
    stream_idle_seconds: float = 60.0
    tracer: Tracer | None = None  # without one nothing is traced
    captures: Captures | None = None  # without them nothing is captured
    once: Once | None = None  # without it a call with an Idempotency-Key is refused

    async def serve(self, call: InferenceCall, downstream: Downstream) -> None:
        """Serve one call. Raises GatewayError before the reply's first byte, Cut after it."""
        passage = Passage(call, self.clock(), downstream)
        try:
            principal, model = await self._admit(passage, None if call.naming else call.verb)  # 3 4 5
            self._trace(passage)
            if call.verb == "infer":
                self.spending.check(principal, model.name)  # 5
            with self.deadlines.within(call.deadline - self.clock()):
                if call.naming is not None:
                    model = await self._name(passage, principal, call.naming)  # 4
                privacy = principal.privacy
                screen = Screen(privacy) if privacy is not None and privacy.mask else None
                limit_bytes = principal.plan.limits.body_bytes
                outgoing = await call.payload.judge(limit_bytes, principal.tenant_id, screen)
                await self._spend(passage, principal, model, outgoing)  # 5
                intent = self._intend(passage, principal, model)  # 6
                passage.sequence = outgoing.sequence
                if call.once and await repeating.answered(
                    self.once, passage, intent, downstream, self.clock()
                ):
                    return
                if privacy is not None and privacy.capture != "off" and self.captures is not None:
                    outgoing = passage.seen(self.captures, privacy.captured_part, outgoing)
                reply = await self._forward(passage, model, outgoing)  # 7 8
                await self._relay(passage, intent, reply, outgoing.listener(downstream))  # 9
            if passage.claim is not None:
                await repeating.kept(self.once, passage, downstream)
        except Exception as fault:
            raise self._judge_fault(passage, fault) from fault
        finally:
            self._settle(passage)  # 10

    async def examine(
        self, call: InferenceCall, action: Action | None, refusal: GatewayError | None = None
    ) -> Examined:
        """Steps 3 to 5 for what we answer ourselves (server metadata, readiness); a denial is recorded, an answer is not.

        `refusal` is raised at a caller who passes: what was asked for is not here, and it is this caller's denial.
        """
        passage = Passage(call, self.clock())
        try:
            principal, _ = await self._admit(passage, action)
            if refusal is not None:
                raise refusal
            if action is not None:
                self._find(call)
        except (GatewayError, KeysUnavailable, KeyRefused, TimeoutError) as fault:
            raise self._judge_fault(passage, fault) from fault
        finally:
            self._settle(passage)
        return Examined(principal, passage.standing)

    async def configure(self, call: InferenceCall) -> tuple[ModelConfig, Standing]:
        """The model's configuration, as far as it is its tenants' business; it is loaded for that. Raises GatewayError."""
        passage = Passage(call, self.clock())
        try:
            await self._admit(passage, "describe")
            self._find(call)
            with self.deadlines.within(call.deadline - self.clock()):
                tenant = passage.principal.tenant_id if passage.principal else ""
                slot = await self.throttler.acquire(call.model, None, tenant)
            self.throttler.release(slot, "none")
        except Exception as fault:
            raise self._judge_fault(passage, fault) from fault
        finally:
            self._settle(passage)
        if slot.config is None:  # none takes calls before it was read
            raise GatewayError(Code.INTERNAL, private="a place without its configuration")
        return slot.config, passage.standing

    async def recognise(
        self, credential: Credential | None, address: str, call: Callable[[], InferenceCall]
    ) -> Principal:
        """Step 3 alone, for who must know the caller first. Raises GatewayError; a denial is recorded, as that of `call`."""
        try:
            return await self.auth.authenticate(credential, address)
        except Exception as fault:
            self._settle(refused := Passage(call(), self.clock(), fault=as_gateway_error(fault)))
            raise refused.fault or fault from fault

    def refused(self, request_id: str, address: str, error: GatewayError) -> None:
        """Record a refusal that was decided before there was a call."""
        self.ledger.deny(anonymous_denial(request_id, address, error), now_us=self.now_us())
        self.meter.failed(error.code.value)

    async def _admit(self, passage: Passage, action: Action | None) -> tuple[Principal, ModelView]:
        call = passage.call
        principal = passage.principal = await self.auth.authenticate(call.credential, call.address)  # 3
        passage.sealer = self.ledger.held_sealer(principal.tenant_id)
        if passage.sealer is None and self.ledger.seals:  # the common call pays for no wait
            with self.deadlines.within(call.deadline - self.clock()):
                passage.sealer = await self.ledger.sealer(principal.tenant_id)
        model = passage.model = self.known.model(call.model) or _NO_MODEL
        if action is not None:
            self._authorize(passage, principal, action, model)  # 4
        asked = principal, call.payload.declared_bytes, "" if action in (None, "describe") else model.name
        passage.hold(self.limiter.admit(*asked) or await self.limiter.ask(*asked))  # 5
        return principal, model

    async def _name(self, passage: Passage, principal: Principal, naming: Naming) -> ModelView:
        """Step 4 of a call whose body names the model: nothing that depends on the model is done or told before it."""
        limit_bytes = principal.plan.limits.body_bytes
        call = passage.call = await naming.name(passage.call, limit_bytes, principal.tenant_id)
        model = passage.model = self.known.model(call.model) or _NO_MODEL
        self._authorize(passage, principal, call.verb, model)
        if principal.plan.limits.per_model:
            passage.hold(await self.limiter.ask_model(principal, model.name))  # 5
        return model

    async def _spend(self, passage: Passage, who: Principal, model: ModelView, body: Outgoing) -> None:
        """Step 5 of what can be told by the body alone: what the call may take of each budget at most."""
        if passage.call.verb == "infer":
            asked = who, model.name, lambda: most_tokens(passage.call, body)
            passage.spend(self.spending.admit(*asked) or await self.spending.ask(*asked))

    def _authorize(self, passage: Passage, principal: Principal, action: Action, model: ModelView) -> None:
        """A model that the tenant has not is not found; what a policy forbids (a limited key, a suspended tenant) is forbidden."""
        found = passage.decision = self.policies.inference.decide(principal.subject, "discover", model)
        if not found.allowed:
            raise GatewayError(Code.FORBIDDEN if found.policies else Code.MODEL_NOT_FOUND)
        passage.decision = self.policies.inference.decide(principal.subject, action, model)
        if not passage.decision.allowed:
            raise GatewayError(Code.FORBIDDEN)
        if passage.call.protocol != OPENAI and model.name in self.known.elsewhere:
            raise GatewayError(Code.MODEL_NOT_FOUND, detail="this model is offered through OpenAI's API only")

    def _find(self, call: InferenceCall) -> None:
        """Whether the model is there in this version; nothing is started for it."""
        if not self.throttler.offers(call.model, call.version):
            raise GatewayError(Code.MODEL_NOT_FOUND)

    def _trace(self, passage: Passage) -> None:
        """Only what is admitted is traced: a span costs more than a refusal may."""
        if self.tracer is not None:
            started_us = self.now_us() - microseconds(passage.started_at, self.clock())
            passage.trace = self.tracer.begin(passage.call, started_us)

    def _intend(self, passage: Passage, principal: Principal, model: ModelView) -> Intent:
        call, decision = passage.call, passage.decision
        passage.intent = intent = self.ledger.intend(
            request=call.request_id,
            tenant=principal.tenant_id,
            key=principal.id,
            model=model.id,
            model_version=call.version,
            now_us=self.now_us(),
            body=IntentBody(
                tenant_name=principal.tenant_name,
                key_name=principal.name,
                address=call.address,
                action=call.verb,
                policies=decision.policies if decision else (),
                quota={quota.name: quota.remaining for quota in passage.standing},
                protocol=call.protocol,
                certificate=principal.certificate,
            ),
            sealer=passage.sealer,
        )
        return intent

    async def _forward(self, passage: Passage, model: ModelView, outgoing: Outgoing) -> Reply:
        """Send the call to a ready replica; to another one only when it cannot have run."""
        for _ in range(_TRIES):
            slot = passage.slot = await self._acquire(passage, model, outgoing)  # 7
            if passage.call.version and passage.call.version not in slot.versions:
                raise GatewayError(Code.MODEL_NOT_FOUND)
            passage.forwarded_at, passage.forwarded_us = self.clock(), self.now_us()
            try:
                passage.upstream = slot.upstream(passage.call)
                body = in_turn(passage, tagged(passage, outgoing), self.throttler, slot)
                passage.reply = reply = await passage.upstream.send(outbound(passage, slot), body)  # 8
            except NotSent as fault:
                self._leave(passage, slot, fault)
                continue
            if reply.status != _NOT_LOADED or not await is_unloaded(slot):
                if not slot.grpc.is_decoupled:  # one reply: who reads it slowly keeps nobody waiting
                    self.throttler.ended(slot, passage.ticket)
                return reply
            self._leave(passage, slot, "the model is not loaded there")
            if outgoing.rest is not None:  # some of the body is gone
                break
        raise GatewayError(
            Code.MODEL_UNAVAILABLE, private="no replica could take the call", retry_after_seconds=1
        )

    async def _acquire(self, passage: Passage, model: ModelView, outgoing: Outgoing) -> Resident:
        """A place on a ready replica, in its tenant's turn; for a call of a sequence the one that has its state."""
        sequence, ticket = passage.sequence, turn(passage)
        if sequence is None or ticket is None:
            is_here = outgoing.rest is None  # else it is its turn when it is
            tenant = passage.principal.tenant_id if passage.principal else ""
            return await self.throttler.acquire(model.name, ticket if is_here else None, tenant)
        key = Key(ticket.tenant, model.name, passage.call.version, sequence.id)
        slot, passage.open_sequence = await self.sequences.acquire(key, sequence, ticket)
        return slot

    def _leave(self, passage: Passage, slot: Resident, why: object) -> None:
        """The call has not run there and goes elsewhere."""
        self._leave_sequence(passage)
        passage.release_reply()
        passage.slot = passage.reply = None
        self.throttler.lost(slot, why)
        self.throttler.release(slot, "none", passage.ticket)

    async def _relay(self, passage: Passage, intent: Intent, reply: Reply, listener: Listener) -> None:
        """No byte of the reply leaves before the intent is durable; one that has begun goes on also if the log is lost then."""
        await intent.durable()
        await listener.start(reply, passage.standing)
        hand_on = passage.taker(listener)

        def take(piece: bytes) -> bool | None:
            passage.reply_bytes += len(piece)
            if reply.status >= _REFUSED:
                passage.failure = passage.failure or piece
                piece = with_own_id(passage, piece)
            return hand_on(piece)

        await (reply.pour(take) if reply.length_bytes >= 0 else self._stream(reply, take))
        passage.replied_at = self.clock()
        passage.told_status = await listener.end()

    async def _stream(self, reply: Reply, take: Take) -> None:
        """A reply that comes bit by bit must keep coming: of a process that died meanwhile Triton says nothing."""
        try:
            with self.deadlines.within(self.stream_idle_seconds) as idle:

                def keep(piece: bytes) -> bool | None:
                    idle.put_off(self.stream_idle_seconds)
                    return take(piece)

                await reply.pour(keep)
        except TimeoutError as fault:
            detail = "the stream stood still for too long"
            raise GatewayError(Code.DEADLINE_EXCEEDED, detail=detail) from fault

    def _judge_fault(self, passage: Passage, fault: Exception) -> Exception:
        """Turn what went wrong into what the front end may say, and note it for settle and for the operator."""
        error = passage.fault = as_gateway_error(fault)
        error.standing = error.standing or passage.standing
        if error.rendering.http >= _OURS:
            log.warning(
                "%s %s %s", passage.call.request_id, error.code.value, error.private or error.sentence
            )
        return Cut(error) if passage.has_begun else error

    def _settle(self, passage: Passage) -> None:
        """Give back what the call held and say how it ended. Never raises."""
        now, now_us = self.clock(), self.now_us()
        if passage.claim is not None:
            repeating.settled(self.once, passage)
        self._leave_sequence(passage)
        if passage.slot is not None:
            passage.release_reply()
            if passage.reply is not None:
                self.throttler.ended(passage.slot, passage.ticket)
            self.throttler.release(passage.slot, evidence(passage), passage.ticket)
        if passage.reservation is not None:
            passage.reservation.release()
        ended = outcome(passage, now) if passage.intent is not None else None
        if passage.intent is not None and ended is not None:
            self.ledger.settle(passage.intent, ended, now_us=now_us)
            figures.share(self.shares, passage, ended, now_us)
        elif passage.fault is not None:
            self.ledger.deny(denial(passage, passage.fault), now_us=now_us, sealer=passage.sealer)
        self.spending.settle(passage.spent, cost(passage, ended))
        if passage.capture is not None:
            passage.capture.settled(captured(passage, now_us))
        figures.count(self.meter, passage, now)

    def _leave_sequence(self, passage: Passage) -> None:
        sequence, found = passage.sequence, passage.open_sequence
        if sequence is not None and found is not None:
            self.sequences.left(found, sequence, answered=ending(passage) == "done")
            passage.open_sequence = None


# Stands in for a model that is not in the directory, so that asking for one goes the same way as asking for a foreign one.
_NO_MODEL = ModelView(id="", name="", everyone=False, tenants=frozenset())
