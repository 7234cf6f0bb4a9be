"""What one settled call adds to the figures: those of the process, and its tenant's own of the model."""

from gateway.audit.ledger import Outcome
from gateway.passage import Passage, http_status
from gateway.telemetry.meter import Meter
from gateway.telemetry.shares import Shares

_OK = 200


def count(meter: Meter, passage: Passage, now: float) -> None:
    """Add the call to the figures of the process; end its trace, if it has one."""
    fault, principal = passage.fault, passage.principal
    model = passage.model.name if passage.model else ""
    is_ours = passage.downstream is None and fault is None  # answered by ourselves
    status = _OK if is_ours else http_status(passage)
    meter.settled(
        passage.call.verb,
        model,
        status,
        seconds=now - passage.started_at,
        upstream_seconds=(passage.replied_at or now) - passage.forwarded_at if passage.reply else None,
        received_bytes=passage.call.payload.received_bytes,
        sent_bytes=passage.reply_bytes,
    )
    if fault is not None:
        meter.failed(fault.code.value)
    if passage.trace is not None:
        tenant = principal.tenant_id if principal else ""
        passage.trace.ended(model, tenant, status, fault.code.value if fault else "")


def share(shares: Shares, passage: Passage, ended: Outcome, now_us: int) -> None:
    """Add the call to its tenant's own figures of the model, if it went to a server."""
    principal, slot = passage.principal, passage.slot
    if principal is None or slot is None or not passage.forwarded_at or passage.call.verb != "infer":
        return
    shares.settled(
        principal.tenant_id,
        slot.model,
        passage.call.version or slot.newest,
        succeeded=ended.status == "done",
        now_us=now_us,
        waited_us=ended.durations["wait_us"],
        total_us=ended.durations["total_us"],
    )
