"""`gateway usage`: what a tenant used, until this moment, also while gateways run."""

from collections.abc import Mapping
from typing import Final

from msgspec import to_builtins

from gateway.commands.arguments import Commands, Parser
from gateway.commands.command import PAGED, Asked, argument, asked, one_of
from gateway.commands.printing import Row, show_all
from gateway.state import opened_usage, usage_log
from gateway.usage.reading import Reader
from tenants import usage
from tenants.api.usage import usage_view
from tenants.directory import Page
from tenants.plans import Plan, Prices
from tenants.usage import UNITS, Group, Sums


@asked
async def _usage(it: Asked) -> int:
    given = it.given
    tenant = None if given.operator else await it.directory.tenants.show(given.tenant)
    names = {model.id: model.name for model in (await it.directory.values.models()).values()}
    wanted = usage.Asked(
        tenant.id if tenant else "",
        given.by,
        usage.started(given.start, given.by, "--from") if given.start else "",
        usage.ended(given.end, given.by, "--to") if given.end else "",
        given.key,
        next((id_ for id_, name in names.items() if name == given.model), given.model),
    )
    async with opened_usage(it.settings) as table:
        found = await Reader(usage_log(it.settings), table).used(wanted)
    prices = (await it.directory.values.find(Plan, tenant.plan)).value.prices if tenant else None

    async def listing(after: str | None, limit: int) -> Page[Group]:
        groups = [group for group in found.sums if after is None or group.at.sort > after]
        first = tuple(groups[:limit])
        return Page(first, first[-1].at.sort if len(groups) > limit else None)

    def row(group: Group) -> Row:
        return _row(group, found.sums[group], names, prices)

    def whole(group: Group) -> Row:
        fields: Row = to_builtins(
            usage_view(group, found.sums[group], names.get(group.model), prices, it.now_us)
        )
        return fields

    return await show_all(given, listing, whole if given.json else row)


def _row(group: Group, sums: Sums, names: Mapping[str, str], prices: Prices | None) -> Row:
    return {
        "period": group.period,
        "key": group.key,
        "model": names.get(group.model, group.model),
        "calls": sums.calls,
        "unknown": sums.unknown,
        "requests": sums.requests,
        "tokens": sums.tokens,
        "bytes": sums.bytes,
        "compute": f"{sums.compute_us / 1e6:.3f} s",
        "cost": f"{usage.money(usage.cost(sums, prices))} {prices.currency}" if prices else "free",
    }


def add(commands: Commands, common: Parser) -> None:
    about = "what a tenant used, by period, key and model"
    parser = commands.add_parser("usage", parents=[common], help=about, description=about)
    parser.set_defaults(run=_usage)
    for each in _ARGUMENTS:
        each(parser)


_ARGUMENTS: Final = (
    one_of(
        argument("--tenant", metavar="T", help="the tenant's name"),
        argument(
            "--operator", action="store_true", help="what is no tenant's: its key says what it was, as idle"
        ),
    ),
    argument("--by", choices=UNITS, default="month", help="how long a period is, in UTC (default: month)"),
    argument(
        "--from",
        dest="start",
        metavar="TIME",
        help="from the period of that time on: 2026-11, 2026-11-27 or 2026-11-27T15",
    ),
    argument("--to", dest="end", metavar="TIME", help="only periods that begin before that time"),
    argument("--key", metavar="ID", help="of that key alone"),
    argument("--model", metavar="NAME", help="of that model alone; by its id where it is gone"),
    *PAGED,
)
