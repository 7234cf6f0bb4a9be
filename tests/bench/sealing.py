"""What sealing the records of a request (intent and outcome) adds, with finding what seals them, in microseconds of CPU; the bar is 50.

.venv/bin/python -m tests.bench.sealing
"""

import asyncio
from time import process_time

from gateway.audit.record import IntentBody, Outcome, Owed, intent_record, outcome_record
from gateway.audit.sealing import Sealers
from gateway.envelope.keyring import Keyring
from gateway.envelope.series import PURPOSE
from gateway.loops import jobs
from tests.gateway.envelope import world

TIMES = 100_000
_OWED = Owed(request="0" * 32, tenant="t_a", key="k_a", model="m_a", model_version="1")
_BODY = IntentBody(
    tenant_name="acme",
    key_name="ci",
    address="192.0.2.7",
    action="infer",
    policies=("tenant-has-model",),
    quota={"requests": 49, "concurrent": 5},
    protocol="oip-rest",
)
_OUTCOME = Outcome(
    status="done", http_status=200, replica="r1", requests=1, bytes=7, durations={"wait_us": 9}
)


def microseconds(sealers: Sealers | None, tenant: str) -> float:
    """Of the two records of a request; what seals them is asked for as the pipeline does: at first, for the intent, for the outcome."""
    began = process_time()
    for _ in range(TIMES):
        first = sealers.held(tenant) if sealers else None
        sealer = sealers.now(tenant, first) if sealers else None
        intent_record("1" * 32, _OWED, _BODY, at_us=1, sealer=sealer)
        sealer = sealers.now(tenant, first) if sealers else None
        outcome_record("2" * 32, _OWED, _OUTCOME, at_us=2, sealer=sealer)
    return (process_time() - began) / TIMES * 1e6


async def warm() -> tuple[Keyring, str]:
    """A keyring that has a tenant's key, and the tenant's id."""
    async with jobs() as spawn:
        found = await world.made(spawn)
        keyring, tenant = found.keyring(is_told=True), await world.tenant_id(found)
        await keyring.key(tenant, PURPOSE)
        return keyring, tenant


if __name__ == "__main__":
    keyring, tenant = asyncio.run(warm())
    clear, sealed = (
        min(microseconds(sealers, tenant) for _ in range(5))
        for sealers in (None, Sealers(keyring, lambda: "5e" * 16))
    )
    print(f"in the clear {clear:.1f} µs, sealed {sealed:.1f} µs: {sealed - clear:.1f} µs more a request")
