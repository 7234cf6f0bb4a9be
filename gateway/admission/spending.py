"""What a call takes of the budgets: reserved at what it may cost at most, once its body is known, and settled to what it did cost.

All budgets must have room, and of none anything stays reserved that another refuses. A warm call is judged here alone; where `admit` says
None, `ask` goes to the table. Fails closed: a call that no budget can answer for is refused with LIMITS_UNAVAILABLE.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from gateway.admission.budget import MICRO, Damaged
from gateway.admission.budgets import Budgets, Refused
from gateway.admission.chunk import Chunk
from gateway.admission.costs import Costs
from gateway.admission.purses import FREE, Cost, Kind, Price, Purse, Purses, purses_of
from gateway.auth.principal import Principal
from gateway.call import Quota, Standing
from gateway.errors import Code, GatewayError
from tenants.errors import TableUnavailable

log = logging.getLogger(__name__)

_MOST_SEATS: Final = 10_000
_MOST_MODELS: Final = 1_000
_ASK_SECONDS: Final = 5.0
_FIRST_SECONDS: Final = 1.0
"""What a call of a model is taken to compute, while nothing is known of it."""
_TWICE: Final = 2
"""So many times what a model's calls compute in the mean is reserved for one."""
_UP: Final = MICRO - 1  # rounds up

_SPENT: Final[dict[Kind, str]] = {
    "requests": "the plan's requests of this day{whose} are used up",
    "tokens": "the plan's tokens of this minute{whose} are used up, or fewer are left than this request may take",
    "compute": "the plan's compute of this day{whose} is used up, or less is left than this request may take",
    "money": "the plan's budget of this month{whose} is used up, or less is left than this request may cost",
}
_WHOSE: Final = {"plan-key-": " for one key", "model-": " for this model"}
_TOO_MUCH: Final = "this request may take more than the plan has of it in all; ask for less, with max_tokens where there is one"


class Spent(Struct, eq=False):
    """What one call has reserved. `standing` is what the client is told; settling twice is a no-op."""

    standing: Standing
    tenant: str
    model: str
    price: Price
    ceiling: Cost
    held: "Sequence[_Reserved]"

    def settle(self, cost: Cost) -> None:
        """It did cost so much. What it did not use is there again; what it used beyond its reservation is charged as well."""
        held, self.held = self.held, ()
        used = _amounts(cost, FREE)
        for it in held:
            chunk, kind = it.chunk, it.purse.kind
            if kind == "money":
                used[kind], chunk.rest = divmod(self.price.of(cost) + chunk.rest, MICRO)
            chunk.settle(it.units, used[kind], it.start_us)


class _Reserved(Struct, frozen=True, gc=False):
    purse: Purse
    chunk: Chunk
    units: int
    start_us: int


NOTHING: Final = Spent((), "", "", FREE, Cost(), ())
"""Of a call that no budget is for."""


class _Seat(Struct, frozen=True, eq=False):
    principal: Principal
    purses: Purses


@dataclass(slots=True)
class Spending:
    """`now_us` is the time since 1970. Not shared between loops, so nothing here needs a lock."""

    budgets: Budgets
    now_us: Callable[[], int]
    _seats: dict[tuple[int, str], _Seat] = field(default_factory=dict)
    """By the identity of the principal, which it keeps, and the model: whoever's terms change becomes another object."""
    _costs: dict[str, Costs] = field(default_factory=dict)
    """By models."""
    _warned: dict[str, int] = field(default_factory=dict)
    """By purses, the end of the period in which it was said that a soft limit is passed."""

    def check(self, principal: Principal, model: str) -> None:
        """Refuse at once whom a budget is known to refuse, before the body is read. Raises BUDGET_SPENT, RATE_LIMITED."""
        purses = self._purses(principal, model)
        for purse in purses.all:
            found = self.budgets.admit(purse.name, purse.limit, 1, self.now_us())
            if isinstance(found, Refused):
                raise self._refusal(purses, purse, found)

    def admit(self, principal: Principal, model: str, tokens: Callable[[], int]) -> Spent | None:
        """Reserve what this call may take; None: it takes a call of the table, `ask`. `tokens` says how many it may have at most.

        Raises BUDGET_SPENT, RATE_LIMITED; nothing is reserved then.
        """
        purses = self._purses(principal, model)
        if not purses.all:
            return NOTHING
        ceiling = self._ceiling(purses, principal, model, tokens)
        most, now_us, admit = _amounts(ceiling, purses.price), self.now_us(), self.budgets.admit
        held: list[_Reserved] = []
        for purse in purses.all:
            units = most[purse.kind]
            if units > purse.limit.units:
                raise self._refusal(purses, purse)
            found = admit(purse.name, purse.limit, units, now_us)
            if found is None:
                return None
            if isinstance(found, Refused):
                raise self._refusal(purses, purse, found)
            held.append(_Reserved(purse, found, units, found.start_us))
        told: list[Quota] = []
        for it in held:
            it.chunk.reserve(it.units)
            self._tell(told, it.purse, it.chunk, now_us)
        return Spent(tuple(told), principal.tenant_id, model, purses.price, ceiling, held)

    async def ask(self, principal: Principal, model: str, tokens: Callable[[], int]) -> Spent:
        """As `admit`, where it has said None. Raises LIMITS_UNAVAILABLE too."""
        purses = self._purses(principal, model)
        ceiling = self._ceiling(purses, principal, model, tokens)
        most, held = _amounts(ceiling, purses.price), list[_Reserved]()
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                for purse in purses.all:
                    held.append(await self._asked(purses, purse, most[purse.kind]))
        except BaseException as fault:
            for it in held:
                it.chunk.settle(it.units, 0, it.start_us)
            if isinstance(fault, TableUnavailable | Damaged | TimeoutError):
                private = str(fault) or f"no answer in {_ASK_SECONDS:g} s"
                raise GatewayError(Code.LIMITS_UNAVAILABLE, private=private, retry_after_seconds=1) from fault
            raise
        return Spent(self._standing(purses), principal.tenant_id, model, purses.price, ceiling, held)

    async def _asked(self, purses: Purses, purse: Purse, units: int) -> _Reserved:
        if units > purse.limit.units:
            raise self._refusal(purses, purse)  # to ask would take all that is left from the others
        found = await self.budgets.ask(purse.name, purse.limit, units)
        if isinstance(found, Refused):
            raise self._refusal(purses, purse, found)
        found.reserve(units)
        return _Reserved(purse, found, units, found.start_us)

    def settle(self, spent: Spent, cost: Cost) -> None:
        """The call is over, and did cost so much. Never raises."""
        spent.settle(cost)
        costs = self._costs.get(spent.model)
        if costs is not None and cost.compute_us:
            seconds = cost.compute_us / MICRO
            costs.learn(spent.tenant, 1.0, seconds, seconds)

    async def forget(self) -> None:
        """Drop what is kept to be faster."""
        self._seats.clear()
        now_us = self.now_us()
        self._warned = {name: ends_us for name, ends_us in self._warned.items() if ends_us > now_us}

    def _purses(self, principal: Principal, model: str) -> Purses:
        seat = self._seats.get((id(principal), model))
        if seat is None:
            if len(self._seats) >= _MOST_SEATS:
                self._seats.clear()
            it = principal
            seat = _Seat(it, purses_of(it.plan, it.since, it.tenant_id, it.id, model))
            self._seats[id(principal), model] = seat
        return seat.purses

    def _ceiling(self, purses: Purses, principal: Principal, model: str, tokens: Callable[[], int]) -> Cost:
        most = tokens() if purses.counts_tokens else 0
        compute_us = 0
        if purses.counts_compute:
            costs = self._costs.get(model)
            if costs is None:
                if len(self._costs) >= _MOST_MODELS:
                    self._costs.clear()
                costs = self._costs[model] = Costs(_FIRST_SECONDS)
            compute_us = int(_TWICE * MICRO * costs.estimate(principal.tenant_id, 1.0))
        return Cost(1, most, compute_us, most)

    def _standing(self, purses: Purses) -> Standing:
        told: list[Quota] = []
        for purse in purses.all:
            chunk = self.budgets.chunk(purse.name)
            if chunk is not None:
                self._tell(told, purse, chunk, self.now_us())
        return tuple(told)

    def _tell(self, told: list[Quota], purse: Purse, chunk: Chunk, now_us: int) -> None:
        """How a budget stands, in its larger units."""
        scale, until_us, most = purse.scale, chunk.until_us, chunk.limit
        remaining = most - chunk.total + chunk.left
        window, reset = (until_us - chunk.start_us) // MICRO, (until_us - now_us + _UP) // MICRO
        if purse.is_hard:
            told.append(Quota(purse.label, most // scale, max(0, remaining // scale), window, reset))
        if purse.soft is not None:
            left = max(0, purse.soft - (most - remaining))
            told.append(Quota(f"{purse.label}-soft", purse.soft // scale, left // scale, window, reset))
            if not left and self._warned.get(purse.name) != until_us:
                self._warned[purse.name] = until_us
                log.warning("%s: more is used than its plan's soft limit", purse.name)

    def _refusal(self, purses: Purses, purse: Purse, refused: Refused | None = None) -> GatewayError:
        """A minute's tokens are a rate to clients, and what lasts for longer a budget. None: more than there ever is, which never comes."""
        whose = next((it for prefix, it in _WHOSE.items() if purse.label.startswith(prefix)), "")
        return GatewayError(
            Code.RATE_LIMITED if purse.kind == "tokens" else Code.BUDGET_SPENT,
            detail=_SPENT[purse.kind].format(whose=whose) if refused else _TOO_MUCH,
            standing=self._standing(purses),
            retry_after_seconds=max(1.0, (refused.ends_us - self.now_us()) / MICRO) if refused else None,
        )


def _amounts(cost: Cost, price: Price) -> dict[Kind, int]:
    """Units of each kind. Money is rounded up: what is left of a unit is counted with the next call."""
    return {
        "requests": cost.requests,
        "tokens": cost.tokens,
        "compute": cost.compute_us,
        "money": (price.of(cost) + _UP) // MICRO,
    }
