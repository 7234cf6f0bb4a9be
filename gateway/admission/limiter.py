"""The limits that a call is judged by: its tenant's, its key's, its model's. Each has a rate with burst, calls at once, or both.

All of them must admit, and of none is anything taken that another refuses. A warm call is judged here alone: no call of the store and
no await. Where `admit` says None, `ask` goes to the table: for a share of a limit that is new here, or for the one write that an
admission by a slow or tight limit takes (`sharing`).

Fails closed: there is no path on which a call is admitted without its reservation. While the table gives no answer, shares that are held
go on until their deadlines, and all else is refused with LIMITS_UNAVAILABLE.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec import Struct

from gateway.admission.bucket import MICRO, Verdict
from gateway.admission.permits import AtOnce, Hand
from gateway.admission.permitting import Permitting
from gateway.admission.shares import Damaged, Limit, limit_of, overrules
from gateway.admission.sharing import Sharing
from gateway.auth.principal import Principal
from gateway.call import Quota, Standing
from gateway.errors import Code, GatewayError
from tenants.conditions import KeyLimits
from tenants.errors import TableUnavailable
from tenants.plans import Limits, Part, Rate

log = logging.getLogger(__name__)

# How long to wait for one of one's own calls to end is not ours to know: a second is polite and cheap.
_AT_ONCE_RETRY_SECONDS: Final = 1.0
_ASK_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 2.0
_TRIES: Final = 4
_REFILL_SECONDS: Final = 0.25
"""Who finds a share that has just come, and so without tokens where it was a dead member's, waits for the first one for so long."""
_MOST_SEATS: Final = 50_000


class Account(Struct, eq=False):
    """One limit of a tenant, a key or a model as this process keeps it. `name` is its row's; `prefix` goes before the names of what clients
    are told.
    """

    name: str
    prefix: str
    since: int = -1
    rate: Rate | None = None
    limit: Limit | None = None
    """The same, as shares count it."""
    cap: AtOnce | None = None
    """How many calls at once."""
    hand: Hand = msgspec.field(default_factory=Hand)
    """Its calls under way, also where there is no `cap`, and what this process may let in."""
    window_seconds: int = 0
    is_idle: bool = False
    """Nobody has looked for it since a pass of `forget_idle`; the next one drops it."""

    def told(self, limits: "Limits | KeyLimits | Part", since: int) -> None:
        """What its plan or its key says. Of two the one that was read at a later change of the directory counts, of two at once, which
        cannot be for long, the smaller. Nothing is reset.
        """
        if since < self.since:
            return
        is_later, rate, most = since > self.since, limits.requests_per_second, limits.concurrent_requests
        limit = None if rate is None else limit_of(rate, since)
        if is_later or (limit is not None and (self.limit is None or overrules(limit, self.limit))):
            self.rate, self.limit = rate, limit
            self.window_seconds = 0 if rate is None else max(1, math.ceil(rate.burst / rate.rate))
        if is_later or (most is not None and (self.cap is None or most < self.cap.most)):
            self.cap = None if most is None else AtOnce(most, since)
        self.since = since

    def standing(self, verdict: Verdict | None) -> Iterator[Quota]:
        """`remaining` is what this process would admit yet: others may hold the rest."""
        rate = self.rate
        if rate is not None and verdict is not None:
            yield Quota(
                f"{self.prefix}requests",
                rate.burst,
                verdict.remaining,
                self.window_seconds,
                -(-verdict.reset_us // MICRO),
            )
        if self.cap is not None:
            yield Quota(f"{self.prefix}concurrency", self.cap.most, self.hand.left)


class Reservation(Struct, eq=False):
    """One admitted call. `standing` is what the client is told; releasing twice is a no-op."""

    standing: Standing
    accounts: tuple[Account, ...]
    is_held: bool = True

    def release(self) -> None:
        if self.is_held:
            self.is_held = False
            for it in self.accounts:
                it.hand.used -= 1

    def join(self, other: "Reservation") -> None:
        """What the other holds is held here from now on."""
        self.standing += other.standing
        self.accounts += other.accounts
        other.is_held = False


class _Seat(Struct, frozen=True, eq=False):
    """By which accounts a principal's calls of one model are judged, the tenant's first."""

    principal: Principal
    accounts: tuple[Account, ...]


@dataclass(slots=True)
class Limiter:
    """Not shared between loops, so nothing here needs a lock."""

    sharing: Sharing
    permitting: Permitting
    noted: Callable[[str], None] = lambda _: None
    """Is told the names of the limits that are looked at (`sweeping`)."""
    _accounts: dict[str, Account] = field(default_factory=dict)
    """By their names."""
    _seats: dict[tuple[int, str], _Seat] = field(default_factory=dict)
    """By the identity of the principal, which it keeps, and the model: whoever's terms change becomes another object."""

    def admit(self, principal: Principal, declared_bytes: int | None, model: str = "") -> Reservation | None:
        """Hold what this call takes; None: it takes a call of the table, `ask`. `model` counts for the limits that its plan has for that
        model. Raises BODY_TOO_LARGE, TOO_MANY_AT_ONCE, RATE_LIMITED, in this order; nothing is held then.
        """
        if declared_bytes is not None and declared_bytes > principal.plan.limits.body_bytes:
            raise GatewayError(Code.BODY_TOO_LARGE)
        return self._admit(self._seat(principal, model))

    async def ask(self, principal: Principal, declared_bytes: int | None, model: str = "") -> Reservation:
        """As `admit`, where it has said None. Raises LIMITS_UNAVAILABLE too."""
        if declared_bytes is not None and declared_bytes > principal.plan.limits.body_bytes:
            raise GatewayError(Code.BODY_TOO_LARGE)
        return await self._ask(lambda: self._seat(principal, model))

    async def ask_model(self, principal: Principal, model: str) -> Reservation:
        """By the limits for that model alone, of a call that is admitted already and has named it now. What it has taken of others stays
        taken if this refuses: its body was read on their account, and later a refund is none (`Bucket.refund`). Raises as `ask`.
        """
        accounts = self._models_alone(principal, model)
        return self._admit(accounts) or await self._ask(lambda: self._models_alone(principal, model))

    @property
    def at_once(self) -> int:
        """All admitted calls that have not ended."""
        return sum(it.hand.used for it in self._accounts.values() if not it.prefix)

    async def forget_idle(self) -> None:
        """Drop the accounts that have no call under way and hold no permits; what is used of their rates is in their shares."""
        self._seats.clear()
        for name, it in list(self._accounts.items()):
            if it.is_idle and not it.hand.used and not self.permitting.knows(name):
                del self._accounts[name]
            it.is_idle = True

    async def close(self) -> None:
        """As this process ends others have what it held at once; or, without an answer, once they know that it is dead."""
        for held in (self.sharing, self.permitting):
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await held.close()
            except (TableUnavailable, Damaged, TimeoutError) as fault:
                log.warning("what was held of limits was not given back: %r", fault)

    # By whose limits

    def _seat(self, principal: Principal, model: str) -> tuple[Account, ...]:
        seat = self._seats.get((id(principal), model))
        if seat is None:
            if len(self._seats) >= _MOST_SEATS:
                self._seats.clear()
            accounts = tuple(self._told(principal, model))
            seat = self._seats[id(principal), model] = _Seat(principal, accounts)
        return seat.accounts

    def _told(self, principal: Principal, model: str) -> Iterator[Account]:
        limits, key, tenant = principal.plan.limits, principal.id, principal.tenant_id
        yield self._account(f"tenant/{tenant}", "", limits, principal.since)
        if limits.per_key is not None:
            yield self._account(f"plan-key/{key}", "plan-key-", limits.per_key, principal.since)
        if principal.limits is not None:
            yield self._account(f"key/{key}", "key-", principal.limits, principal.since)
        if limits.per_model and model in limits.per_model:
            part = limits.per_model[model]
            yield self._account(f"model/{tenant}/{model}", "model-", part, principal.since)

    def _account(self, name: str, prefix: str, limits: "Limits | KeyLimits | Part", since: int) -> Account:
        found = self._accounts.get(name)
        if found is None:
            found = self._accounts[name] = Account(name, prefix)
            self.noted(name)
        found.told(limits, since)
        found.is_idle = False
        return found

    def _models_alone(self, principal: Principal, model: str) -> tuple[Account, ...]:
        return tuple(it for it in self._seat(principal, model) if it.prefix == "model-")

    # Here alone

    def _admit(self, accounts: tuple[Account, ...]) -> Reservation | None:
        """Places first, as to give one back is always exact."""
        if not self._permitted(accounts):
            return None
        verdicts: list[Verdict | None] | None = None
        try:
            verdicts = self._spent(accounts)
        finally:
            if verdicts is None:
                _leave(accounts)
        return None if verdicts is None else self._reserved(accounts, verdicts)

    def _permitted(self, accounts: tuple[Account, ...]) -> bool:
        """Of each limit of calls at once a permit is used, or of none. False: not all of it can be said here."""
        for number, it in enumerate(accounts):
            if it.cap is None:
                it.hand.used += 1
                continue
            is_in = self.permitting.admit(it.name, it.cap, it.hand)
            if not is_in:
                _leave(accounts[:number])
                if is_in is None:
                    return False
                raise self._full(accounts)
        return True

    def _spent(self, accounts: Sequence[Account]) -> list[Verdict | None] | None:
        """Of each rate one is spent, or of none. None: not all of it can be said here. The narrowest limit is asked first: what it refuses
        is no demand on the wider ones.
        """
        verdicts: list[Verdict | None] = []
        for account in reversed(accounts):
            if account.limit is None:
                verdicts.append(None)
                continue
            verdict = self.sharing.admit(account.name, account.limit)
            if verdict is None or verdict.retry_after_us:
                for it in accounts[len(accounts) - len(verdicts) :]:
                    if it.limit is not None:
                        self.sharing.refund(it.name)
                if verdict is not None:
                    raise self._limited(accounts, verdict)
                return None
            verdicts.append(verdict)
        verdicts.reverse()
        return verdicts

    def _reserved(self, accounts: tuple[Account, ...], verdicts: Iterable[Verdict | None]) -> Reservation:
        standing: Standing = ()
        for account, verdict in zip(accounts, verdicts, strict=True):
            standing += tuple(account.standing(verdict))
        return Reservation(standing, accounts)

    # With the table

    async def _ask(self, seat: Callable[[], tuple[Account, ...]]) -> Reservation:
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                for _ in range(_TRIES):
                    reservation = await self._warmed(seat)
                    if reservation is not None:
                        return reservation
        except (TableUnavailable, Damaged, TimeoutError) as fault:
            private = str(fault) or f"no answer in {_ASK_SECONDS:g} s"
            raise GatewayError(Code.LIMITS_UNAVAILABLE, private=private, retry_after_seconds=1) from fault
        private = "the shares change faster than they can be taken"
        raise GatewayError(Code.LIMITS_UNAVAILABLE, private=private, retry_after_seconds=1)

    async def _warmed(self, seat: Callable[[], tuple[Account, ...]]) -> Reservation | None:
        drawn = []
        for it in seat():
            if it.cap is not None:
                await self.permitting.ask(it.name, it.cap, it.hand)
            if it.limit is not None and not await self.sharing.warmed(it.name, it.limit):
                drawn.append(it.name)
        accounts = seat()  # meanwhile they may have been forgotten
        if not drawn:
            try:
                return self._admit(accounts)
            except GatewayError as refusal:
                wait = refusal.retry_after_seconds or 1.0
                if refusal.code is not Code.RATE_LIMITED or wait > _REFILL_SECONDS:
                    raise
            await asyncio.sleep(wait)
            return self._admit(seat())
        if not self._permitted(accounts):
            return None
        held = Reservation((), accounts)
        try:
            verdicts = await self._drawn(accounts, drawn)
            held.is_held = verdicts is None
        except GatewayError as refusal:
            held.release()
            refusal.standing = self._standing(accounts)
            raise
        finally:
            held.release()
        if verdicts is None:
            return None
        return self._reserved(accounts, (verdicts.get(it.name) for it in accounts))

    async def _drawn(
        self, accounts: tuple[Account, ...], drawn: Collection[str]
    ) -> dict[str, Verdict | None] | None:
        """Of each rate one is spent, or of none. What is held here is looked at before the table is asked, and is spent behind it: what
        was drawn is given back only if a share ran dry meanwhile.
        """
        shared = [it for it in accounts if it.name not in drawn]
        for it in shared:
            look = self.sharing.look(it.name) if it.limit is not None else None
            if look is not None and not look.admitted:
                raise self._limited(accounts, look)
        verdicts: dict[str, Verdict | None] = {}
        try:
            for it in reversed(accounts):
                if it.limit is not None and it.name in drawn:
                    verdict = await self.sharing.ask(it.name, it.limit)
                    if not verdict.admitted:
                        raise self._limited(accounts, verdict)
                    verdicts[it.name] = verdict
            spent = self._spent(shared)
        except (GatewayError, TableUnavailable, Damaged):
            await self._give_back(verdicts)
            raise
        if spent is None:
            await self._give_back(verdicts)
            return None
        return verdicts | {it.name: verdict for it, verdict in zip(shared, spent, strict=True)}

    async def _give_back(self, names: Iterable[str]) -> None:
        for name in names:
            await self.sharing.give_back(name)

    # Refusals

    def _full(self, accounts: Iterable[Account]) -> GatewayError:
        return GatewayError(
            Code.TOO_MANY_AT_ONCE,
            standing=self._standing(accounts),
            retry_after_seconds=_AT_ONCE_RETRY_SECONDS,
        )

    def _limited(self, accounts: Iterable[Account], verdict: Verdict) -> GatewayError:
        """To wait for as long as the slowest says, if nobody else comes first."""
        looks = [self.sharing.look(it.name) for it in accounts if it.limit is not None]
        wait_us = max([verdict.retry_after_us, *(it.retry_after_us for it in looks if it is not None)])
        return GatewayError(
            Code.RATE_LIMITED, standing=self._standing(accounts), retry_after_seconds=wait_us / MICRO
        )

    def _standing(self, accounts: Iterable[Account]) -> Standing:
        return tuple(
            quota
            for it in accounts
            for quota in it.standing(None if it.limit is None else self.sharing.look(it.name))
        )


def _leave(accounts: Iterable[Account]) -> None:
    for it in accounts:
        it.hand.used -= 1
