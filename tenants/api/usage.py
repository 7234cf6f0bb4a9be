"""What a tenant is told that it used, by period, key and model, with what it costs by its plan as it is now."""

from typing import Final

from msgspec import Struct

from tenants import usage
from tenants.api.asked import Answer, Asked
from tenants.api.problems import Problem
from tenants.api.shapes import Moment, moment
from tenants.directory import Page
from tenants.plans import Plan, Prices
from tenants.usage import UNITS, Unit

QUERY: Final = ("by", "from", "to", "key", "model")


class UsageView(Struct, frozen=True):
    """What one key used of one model in one period, in UTC, up to `counted_until`. `model` null: it is gone. `requests` are those that are
    billed; `calls` are all, by how they ended. `compute_seconds` were measured, and follow the calls by some seconds; the estimate does
    not. `cost` is by the plan's prices of now, null without any.
    """

    period: str
    key: str
    model: str | None
    model_id: str
    calls: int
    requests: int
    tokens: int
    bytes: int
    compute_seconds: float
    estimated_compute_seconds: float
    done: int
    failed: int
    refused: int
    partial: int
    cancelled: int
    unknown: int
    cost: str | None
    currency: str | None
    counted_until: Moment


async def list_all(asked: Asked) -> Answer:
    """Until this moment. Raises Problem, TenantsError."""
    tenant = await asked.directory.tenants.show(asked.tenant_name)
    if asked.usage is None:
        raise Problem("table_unavailable", "nobody counts here")
    by = _unit(asked.query.get("by", "month"))
    names = {it.id: it.name for it in (await asked.directory.values.models()).values()}
    found = await asked.usage.used(
        usage.Asked(
            tenant.id,
            by,
            usage.started(text, by, "from") if (text := asked.query.get("from")) else "",
            usage.ended(text, by, "to") if (text := asked.query.get("to")) else "",
            asked.query.get("key"),
            _model_id(asked.query.get("model"), names),
        )
    )
    prices = (await asked.directory.values.find(Plan, tenant.plan)).value.prices

    def view(group: usage.Group, now_us: int) -> UsageView:
        return usage_view(group, found.sums[group], names.get(group.model), prices, now_us)

    groups = [it for it in found.sums if asked.after is None or it.at.sort > asked.after]
    first = tuple(groups[: asked.limit])
    return asked.listed(Page(first, first[-1].at.sort if len(groups) > len(first) else None), view)


def usage_view(
    group: usage.Group, sums: usage.Sums, model: str | None, prices: Prices | None, now_us: int
) -> UsageView:
    return UsageView(
        period=group.period,
        key=group.key,
        model=model,
        model_id=group.model,
        calls=sums.calls,
        requests=sums.requests,
        tokens=sums.tokens,
        bytes=sums.bytes,
        compute_seconds=sums.compute_us / 1e6,
        estimated_compute_seconds=sums.estimated_compute_us / 1e6,
        **{ending: getattr(sums, ending) for ending in usage.ENDINGS},
        cost=usage.money(usage.cost(sums, prices)) if prices else None,
        currency=prices.currency if prices else None,
        counted_until=moment(now_us),
    )


def _unit(text: str) -> Unit:
    if text not in UNITS:
        raise Problem("invalid", f"must be one of {', '.join(UNITS)}", path="by")
    return text


def _model_id(name: str | None, names: dict[str, str]) -> str | None:
    """By its name, or by its id for one that is gone."""
    return next((id_ for id_, it in names.items() if it == name), name)
