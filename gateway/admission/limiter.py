"""The limits of a tenant's plan, in one process: rate with burst (GCRA), calls at once, size of a body.

Fails closed: there is no path on which a call is admitted without its reservation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import Struct

from gateway.auth.principal import Principal
from gateway.call import Quota, Standing
from gateway.errors import Code, GatewayError
from tenants import quotas
from tenants.plans import Limits

# How long to wait for one of one's own calls to end is not ours to know: a second is polite and cheap.
_AT_ONCE_RETRY_SECONDS = 1.0


@dataclass(slots=True)
class _Account:
    """What one tenant holds at this moment."""

    tat: float = 0.0
    at_once: int = 0


class Reservation(Struct, eq=False):
    """One admitted call. `standing` is what the client is told; releasing twice is a no-op."""

    standing: Standing
    _account: _Account
    _held: bool = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._account.at_once -= 1


@dataclass(slots=True)
class Limiter:
    """`clock` gives monotonic seconds. Not shared between loops, so nothing here needs a lock."""

    clock: Callable[[], float]
    _accounts: dict[str, _Account] = field(default_factory=dict)

    def admit(self, principal: Principal, declared_bytes: int | None) -> Reservation:
        """Hold what this call takes. Raises BODY_TOO_LARGE, TOO_MANY_AT_ONCE, RATE_LIMITED, in this order."""
        limits = principal.plan.limits
        if declared_bytes is not None and declared_bytes > limits.body_bytes:
            raise GatewayError(Code.BODY_TOO_LARGE)
        account = self._accounts.get(principal.tenant_id)
        if account is None:
            account = self._accounts.setdefault(principal.tenant_id, _Account())
        at_once = limits.concurrent_requests
        if at_once is not None and account.at_once >= at_once:
            raise GatewayError(
                Code.TOO_MANY_AT_ONCE,
                standing=_standing(limits, None, account),
                retry_after_seconds=_AT_ONCE_RETRY_SECONDS,
            )
        admission = None
        if limits.requests_per_second is not None:
            admission = quotas.admit(limits.requests_per_second, account.tat, self.clock())
            if not admission.admitted:
                raise GatewayError(
                    Code.RATE_LIMITED,
                    standing=_standing(limits, admission, account),
                    retry_after_seconds=admission.retry_after_seconds,
                )
            account.tat = admission.tat
        account.at_once += 1
        return Reservation(_standing(limits, admission, account), account)

    @property
    def at_once(self) -> int:
        """All admitted calls that have not ended."""
        return sum(account.at_once for account in self._accounts.values())

    async def forget_idle(self) -> None:
        """Drop the accounts that say nothing: full buckets with no call under way."""
        now = self.clock()
        idle = [
            tenant for tenant, account in self._accounts.items() if not account.at_once and account.tat <= now
        ]
        for tenant in idle:
            del self._accounts[tenant]


def _standing(limits: Limits, admission: "quotas.Admission | None", account: _Account) -> Standing:
    standing: Standing = ()
    rate = limits.requests_per_second
    if rate is not None and admission is not None:
        standing += (
            Quota(
                name="requests",
                quota=rate.burst,
                remaining=admission.remaining,
                window_seconds=max(1, math.ceil(rate.burst / rate.rate)),
                reset_seconds=math.ceil(admission.reset_seconds),
            ),
        )
    if limits.concurrent_requests is not None:
        remaining = max(0, limits.concurrent_requests - account.at_once)
        standing += (Quota(name="concurrency", quota=limits.concurrent_requests, remaining=remaining),)
    return standing
