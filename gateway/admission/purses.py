"""Which budgets does a plan give a call, and what does the call take of each? Pure.

requests-day     requests
tokens-minute    tokens
compute-day      microseconds of compute
money-month      millionths of the plan's currency, by its prices
"""

from collections.abc import Iterator
from fractions import Fraction
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from gateway.admission.budget import MICRO, Limit, Span
from tenants.plans import Limits, Part, Plan, Prices, amount
from tenants.ports import MOST_COUNT

Kind = Literal["requests", "tokens", "compute", "money"]


class _Said(NamedTuple):
    """How a kind of budget is counted and told: in so many units to one."""

    label: str
    span: Span
    scale: int


SAID: Final[MappingProxyType[Kind, _Said]] = MappingProxyType(
    {
        "requests": _Said("requests-day", "day", 1),
        "tokens": _Said("tokens-minute", "minute", 1),
        "compute": _Said("compute-day", "day", MICRO),  # told in seconds
        "money": _Said("money-month", "month", MICRO // 100),  # told in hundredths
    }
)


class Cost(NamedTuple):
    """What a call takes, or may take at most. `billed_tokens` are those that are paid for: what a tokenizer counted."""

    requests: int = 0
    tokens: int = 0
    compute_us: int = 0
    billed_tokens: int = 0


class Price(NamedTuple):
    """Of a request, a token and a microsecond of compute, in millionths of a millionth: so prices are whole numbers, and add up exactly."""

    request: int
    token: int
    microsecond: int

    def of(self, cost: Cost) -> int:
        return (
            self.request * cost.requests
            + self.token * cost.billed_tokens
            + self.microsecond * cost.compute_us
        )


FREE: Final = Price(0, 0, 0)


class Purse(Struct, frozen=True):
    """One budget. `name` is its row's; `label` what clients are told. `soft`: so many units of it warn."""

    name: str
    label: str
    kind: Kind
    limit: Limit
    scale: int
    """So many units are one of those in which clients are told."""
    soft: int | None = None
    is_hard: bool = True
    """Whether it refuses; else it only counts, to warn."""


class Purses(Struct, frozen=True):
    """All of a call's, the tenant's first, and what it is priced at."""

    all: tuple[Purse, ...]
    price: Price
    kinds: frozenset[Kind]

    @property
    def counts_tokens(self) -> bool:
        return "tokens" in self.kinds or ("money" in self.kinds and self.price.token > 0)

    @property
    def counts_compute(self) -> bool:
        return "compute" in self.kinds or ("money" in self.kinds and self.price.microsecond > 0)


def purses_of(plan: Plan, since: int, tenant: str, key: str, model: str) -> Purses:
    """The budgets by which this key's calls of this model are judged; "" is a model that is not known yet."""
    limits = plan.limits
    found = [
        *_purses(limits, since, f"tenant/{tenant}", "", limits.soft.money_per_month if limits.soft else None)
    ]
    if limits.per_key is not None:
        found += _purses(limits.per_key, since, f"plan-key/{key}", "plan-key-")
    if limits.per_model and model in limits.per_model:
        found += _purses(limits.per_model[model], since, f"model/{tenant}/{model}", "model-")
    kinds = frozenset(it.kind for it in found)
    return Purses(tuple(found), price_of(plan.prices) if "money" in kinds else FREE, kinds)


def price_of(prices: Prices | None) -> Price:
    """Per 1,000, per million, and per million microseconds: in millionths of millionths what they are a piece."""
    if prices is None:
        return FREE
    return Price(
        _millionths(prices.per_1000_requests) * (MICRO // 1000),
        _millionths(prices.per_million_tokens),
        _millionths(prices.per_compute_second),
    )


def _purses(
    limits: Limits | Part, since: int, name: str, prefix: str, soft: str | None = None
) -> Iterator[Purse]:
    units: dict[Kind, int | None] = {
        "requests": limits.requests_per_day,
        "tokens": limits.tokens_per_minute,
        "compute": _microseconds(limits.compute_seconds_per_day),
        "money": None if limits.money_per_month is None else _millionths(limits.money_per_month),
    }
    warns = None if soft is None else _millionths(soft)
    for kind, most in units.items():
        said = SAID[kind]
        at = warns if kind == "money" else None
        if most is not None or at is not None:
            limit = Limit(MOST_COUNT if most is None else most, said.span, since)
            label = f"{prefix}{said.label}"
            yield Purse(f"{name}/{said.label}", label, kind, limit, said.scale, at, is_hard=most is not None)


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(Fraction(seconds) * MICRO)


def _millionths(text: str) -> int:
    return int(amount(text) * MICRO)
