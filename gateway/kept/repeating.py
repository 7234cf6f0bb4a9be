"""The steps of a call with an Idempotency-Key: it is claimed before it is sent, and what became of it is said when it is over."""

from hashlib import sha256
from typing import Final

from gateway.audit.ledger import Intent
from gateway.call import Downstream, InferenceCall
from gateway.envelope.derived import named
from gateway.errors import Code, GatewayError
from gateway.kept.answer import MOST_BYTES
from gateway.kept.once import Claim, Once, Why
from gateway.passage import Passage

_DIGEST_BYTES: Final = 32


async def answered(
    once: Once | None, passage: Passage, intent: Intent, downstream: Downstream, now: float
) -> bool:
    """The call ran before and its client has been told what it was told then; False: it is claimed, and may be sent. Raises GatewayError:
    it is not sent. `now`: seconds on the calls' clock.
    """
    call, principal = passage.call, passage.principal
    if once is None or principal is None:  # nothing is sent that could run twice
        raise GatewayError(Code.IDEMPOTENCY_UNAVAILABLE, private="no claims are kept here")
    found = await once.claim(
        principal.tenant_id, call.once, fingerprint(call), call.request_id, max(0.0, call.deadline - now)
    )
    if isinstance(found, Claim):
        passage.claim = found
        return False
    await intent.durable()
    passage.replied_at = now
    passage.told_status = await downstream.replay(found, passage.standing)
    return True


async def kept(once: Once | None, passage: Passage, downstream: Downstream) -> None:
    """What the client is about to be told is kept, if it is held. Whoever is cut off meanwhile leaves an open claim: its answer may be
    there.
    """
    claim, told = passage.claim, downstream.told
    if once is not None and claim is not None and told is not None:
        passage.claim = None
        await once.keep(claim, told)


def settled(once: Once | None, passage: Passage) -> None:
    """Beside the requests, of a claim whose answer is not kept: whether its call may have run. It did not where no place had it at the end:
    none was found, or each that was could not be sent it.
    """
    claim = passage.claim
    if once is None or claim is None:
        return
    passage.claim = None
    if passage.slot is None or not passage.forwarded_at:
        once.spawn(f"releasing the claim of {passage.call.request_id}", once.release(claim))
    else:
        once.spawn(f"losing the answer of {passage.call.request_id}", once.lose(claim, _why(passage)))


def fingerprint(call: InferenceCall) -> bytes:
    """What tells this call from any other. ValueError without that of its body."""
    if len(call.payload.fingerprint) != _DIGEST_BYTES:
        raise ValueError("a body without a fingerprint")
    asked = named(call.protocol, call.endpoint, call.model, call.version)
    return sha256(asked + call.payload.fingerprint).digest()


def _why(passage: Passage) -> Why:
    if passage.fault is not None or not passage.told_status:
        return "unknown"
    return "large" if passage.reply_bytes > MOST_BYTES else "streamed"
