"""The limits of a tenant's plan, and a key's own, in one process: rate with burst (GCRA), calls at once, size of a body.

A key with limits of its own has an account beside its tenant's: both must admit, and of one nothing is taken that the other refuses.

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
from tenants.conditions import KeyLimits
from tenants.plans import Limits

# How long to wait for one of one's own calls to end is not ours to know: a second is polite and cheap.
_AT_ONCE_RETRY_SECONDS = 1.0


@dataclass(slots=True)
class _Account:
    """What one tenant, or one key with limits of its own, holds at this moment."""

    tat: float = 0.0
    at_once: int = 0


class Reservation(Struct, eq=False):
    """One admitted call. `standing` is what the client is told; releasing twice is a no-op."""

    standing: Standing
    _account: _Account
    _own: _Account | None = None
    _held: bool = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._account.at_once -= 1
            if self._own is not None:
                self._own.at_once -= 1


@dataclass(slots=True)
class Limiter:
    """`clock` gives monotonic seconds. Not shared between loops, so nothing here needs a lock."""

    clock: Callable[[], float]
    _accounts: dict[str, _Account] = field(default_factory=dict)
    """By the tenants' ids."""
    _own: dict[str, _Account] = field(default_factory=dict)
    """By the ids of keys that have limits of their own."""

    def admit(self, principal: Principal, declared_bytes: int | None) -> Reservation:
        """Hold what this call takes. Raises BODY_TOO_LARGE, TOO_MANY_AT_ONCE, RATE_LIMITED, in this order."""
        limits = principal.plan.limits
        if declared_bytes is not None and declared_bytes > limits.body_bytes:
            raise GatewayError(Code.BODY_TOO_LARGE)
        account = self._accounts.get(principal.tenant_id)
        if account is None:
            account = self._accounts.setdefault(principal.tenant_id, _Account())
        if principal.limits is not None:
            own = self._own.setdefault(principal.id, _Account())
            return self._admit_both((_Side(limits, account), _Side(principal.limits, own, "key-")))
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

    def _admit_both(self, sides: "tuple[_Side, _Side]") -> Reservation:
        """Ask the tenant's limits and the key's, and take of both or of none."""
        if any(side.is_full for side in sides):
            raise GatewayError(
                Code.TOO_MANY_AT_ONCE,
                standing=sum((side.standing(None) for side in sides), ()),
                retry_after_seconds=_AT_ONCE_RETRY_SECONDS,
            )
        now = self.clock()
        answers = [side.ask(now) for side in sides]
        waits = [it.retry_after_seconds for it in answers if it is not None and not it.admitted]
        if waits:
            raise GatewayError(
                Code.RATE_LIMITED,
                standing=sum((side.standing(side.look(now)) for side in sides), ()),
                retry_after_seconds=max(waits),
            )
        for side, answer in zip(sides, answers, strict=True):
            side.take(answer)
        standing = sum((side.standing(it) for side, it in zip(sides, answers, strict=True)), ())
        tenants, keys = sides
        return Reservation(standing, tenants.account, keys.account)

    @property
    def at_once(self) -> int:
        """All admitted calls that have not ended."""
        return sum(account.at_once for account in self._accounts.values())

    async def forget_idle(self) -> None:
        """Drop the accounts that say nothing: full buckets with no call under way."""
        now = self.clock()
        for accounts in (self._accounts, self._own):
            idle = [name for name, it in accounts.items() if not it.at_once and it.tat <= now]
            for name in idle:
                del accounts[name]


@dataclass(frozen=True, slots=True)
class _Side:
    """Limits with the account that is judged by them; `prefix` is before the names of what is told of it."""

    limits: Limits | KeyLimits
    account: _Account
    prefix: str = ""

    @property
    def is_full(self) -> bool:
        most = self.limits.concurrent_requests
        return most is not None and self.account.at_once >= most

    def ask(self, now: float) -> quotas.Admission | None:
        """What the rate says to one call more; None without one. Nothing is taken."""
        rate = self.limits.requests_per_second
        return None if rate is None else quotas.admit(rate, self.account.tat, now)

    def look(self, now: float) -> quotas.Admission | None:
        rate = self.limits.requests_per_second
        return None if rate is None else quotas.look(rate, self.account.tat, now)

    def take(self, answer: quotas.Admission | None) -> None:
        if answer is not None:
            self.account.tat = answer.tat
        self.account.at_once += 1

    def standing(self, answer: quotas.Admission | None) -> Standing:
        return _standing(self.limits, answer, self.account, self.prefix)


def _standing(
    limits: Limits | KeyLimits, admission: "quotas.Admission | None", account: _Account, prefix: str = ""
) -> Standing:
    standing: Standing = ()
    rate = limits.requests_per_second
    if rate is not None and admission is not None:
        standing += (
            Quota(
                name=f"{prefix}requests",
                quota=rate.burst,
                remaining=admission.remaining,
                window_seconds=max(1, math.ceil(rate.burst / rate.rate)),
                reset_seconds=math.ceil(admission.reset_seconds),
            ),
        )
    if limits.concurrent_requests is not None:
        remaining = max(0, limits.concurrent_requests - account.at_once)
        standing += (
            Quota(name=f"{prefix}concurrency", quota=limits.concurrent_requests, remaining=remaining),
        )
    return standing
