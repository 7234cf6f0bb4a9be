"""A plan: what a tenant bought. Pure; whoever reads a file of `policies/plans` passes its content here."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from tenants import names
from tenants.errors import Invalid
from tenants.names import ModelName, PlanName

MOST_MODELS: Final = 100

# Money is a text all the way: a float has no tenth of a cent.
_AMOUNT: Final = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,6})?")
_AMOUNT_RULE: Final = (
    'must be an amount like "500.00": at most 12 digits, and after the point at most 6, in quotes'
)
_PRICED: Final = ("per_1000_requests", "per_million_tokens", "per_compute_second")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")

Amount = Annotated[str, Meta(extra_json_schema={"pattern": f"^{_AMOUNT.pattern}$"})]
Currency = Annotated[str, Meta(extra_json_schema={"pattern": f"^{_CURRENCY.pattern}$"})]
AtOnce = Annotated[int, Meta(ge=1, le=1_000_000)]
Daily = Annotated[int, Meta(ge=1, le=10**12)]
Tokens = Annotated[int, Meta(ge=1, le=10**12)]
ComputeSeconds = Annotated[float, Meta(gt=0, le=10**9)]


class Rate(Struct, frozen=True, forbid_unknown_fields=True):
    """`rate` a second in the long run, `burst` at once."""

    rate: Annotated[float, Meta(ge=0.0001, le=1_000_000)]
    burst: Annotated[int, Meta(ge=1, le=1_000_000)]


class Soft(Struct, frozen=True, forbid_unknown_fields=True):
    """What warns, in headers, in the log and in audit records, and refuses nothing."""

    money_per_month: Amount


class Part(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits of one key or one model, within those of the tenant. None means that there is no such limit. Every limit that can be said here
    is kept by `gateway/admission`: one that nobody keeps would be none.
    """

    requests_per_second: Rate | None = None
    concurrent_requests: AtOnce | None = None
    requests_per_day: Daily | None = None
    tokens_per_minute: Tokens | None = None
    compute_seconds_per_day: ComputeSeconds | None = None
    money_per_month: Amount | None = None


class Limits(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """None means that the plan has no such limit. A body always has one."""

    body_bytes: Annotated[int, Meta(ge=1, le=2**50)]
    requests_per_second: Rate | None = None
    concurrent_requests: AtOnce | None = None
    requests_per_day: Daily | None = None
    tokens_per_minute: Tokens | None = None
    compute_seconds_per_day: ComputeSeconds | None = None
    money_per_month: Amount | None = None
    soft: Soft | None = None
    per_key: Part | None = None
    """For each key alone."""
    per_model: Annotated[dict[ModelName, Part], Meta(max_length=MOST_MODELS)] | None = None


class Prices(Struct, frozen=True, forbid_unknown_fields=True):
    """What calls cost, for budgets of money and for what the tenant is told. Nothing is billed yet."""

    currency: Currency
    per_1000_requests: Amount = "0"
    per_million_tokens: Amount = "0"
    per_compute_second: Amount = "0"


class Plan(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="v", tag=1):
    """Limits under a name; `weight` is its share when tenants wait for the same model.

    Stored as JSON, version 1. Unlike other rows, one with a field that the reader does not know is refused:
    to overlook a limit would be to lift it. So a new limit reaches every reader before the first plan that
    has it, and a plan without it is written without its name; what changes a meaning is version 2.
    """

    name: PlanName
    weight: Annotated[int, Meta(ge=1, le=1000)]
    limits: Limits
    prices: Prices | None = None


def amount(text: str) -> Decimal:
    """The number that an amount is, exactly. ValueError for a text that is none."""
    if not _AMOUNT.fullmatch(text):
        raise ValueError(f"{text!r} is no amount")
    return Decimal(text)


def parse(document: Mapping[str, object]) -> Plan:
    """The plan of a document. Unknown keys, wrong types, numbers out of bounds: Invalid, with the path."""
    try:
        plan = msgspec.convert(document, Plan)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")  # as msgspec says it
        raise Invalid(path.strip(".`"), reason) from error
    for fault in faults(plan):
        raise fault
    return plan


def faults(plan: Plan) -> Iterator[Invalid]:
    """What is wrong with it beyond the types of its fields."""
    yield from names.PLAN.faults(plan.name, "name")
    yield from _money_faults(plan)
    for name in plan.limits.per_model or ():
        yield from names.MODEL.faults(name, f"limits.per_model.{name}")


def _money_faults(plan: Plan) -> Iterator[Invalid]:
    if plan.prices and not _CURRENCY.fullmatch(plan.prices.currency):
        yield Invalid("prices.currency", 'must be three letters of ISO 4217, as "USD"')
    wrong = {path for path, text in _amounts(plan) if not _AMOUNT.fullmatch(text)}
    yield from (Invalid(path, _AMOUNT_RULE) for path in sorted(wrong))
    for path, text in _amounts(plan):
        if path not in wrong and path.startswith("limits.") and not amount(text):
            yield Invalid(path, "must be more than 0")
    if plan.prices is None or not any(amount(text) for text in _prices(plan) if _AMOUNT.fullmatch(text)):
        for path, _ in _amounts(plan):
            if path.startswith("limits."):
                yield Invalid(path, "needs prices: without them nothing costs anything")
    hard, soft = plan.limits.money_per_month, plan.limits.soft
    if hard and soft and not wrong and amount(soft.money_per_month) > amount(hard):
        yield Invalid("limits.soft.money_per_month", f"is more than limits.money_per_month ({hard})")


def _amounts(plan: Plan) -> Iterator[tuple[str, str]]:
    """Every amount in it with its path."""
    limits = plan.limits
    parts: dict[str, Limits | Part | Soft | None] = {
        "": limits,
        "soft.": limits.soft,
        "per_key.": limits.per_key,
    }
    parts |= {f"per_model.{name}.": part for name, part in (limits.per_model or {}).items()}
    for path, part in parts.items():
        if part is not None and part.money_per_month is not None:
            yield f"limits.{path}money_per_month", part.money_per_month
    yield from zip((f"prices.{name}" for name in _PRICED), _prices(plan), strict=False)


def _prices(plan: Plan) -> Iterator[str]:
    for name in _PRICED:
        if plan.prices is not None:
            yield getattr(plan.prices, name)
