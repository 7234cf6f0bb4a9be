"""What sealing the records of a request (intent and outcome) adds, in microseconds of this process; the bar is 50.

.venv/bin/python -m tests.bench.sealing
"""

from time import perf_counter

from gateway.audit.record import IntentBody, Outcome, Owed, Sealer, intent_record, outcome_record
from gateway.audit.sealing import Sealers
from tests.worlds.keyring import KeyringWorld

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


def microseconds(sealer: Sealer | None) -> float:
    """Of the two records of a request."""
    began = perf_counter()
    for _ in range(TIMES):
        intent_record("1" * 32, _OWED, _BODY, at_us=1, sealer=sealer)
        outcome_record("2" * 32, _OWED, _OUTCOME, at_us=2, sealer=sealer)
    return (perf_counter() - began) / TIMES * 1e6


if __name__ == "__main__":
    found = Sealers(KeyringWorld(warm={"t_a"}), lambda: "5e" * 16).held("t_a")
    clear, sealed = microseconds(None), microseconds(found)
    print(f"in the clear {clear:.1f} µs, sealed {sealed:.1f} µs: {sealed - clear:.1f} µs more a request")
