"""`gateway tenants`: the customers."""

import argparse

from gateway.commands.arguments import Parser, actor
from gateway.commands.demo import PLAN, put_plan
from gateway.commands.printing import show, when
from gateway.settings import Settings
from gateway.state import now_us, opened_directory
from tenants.acts import Act
from tenants.tenant import Tenant


def add(parser: Parser, common: Parser) -> None:
    tenants = parser.add_subparsers(required=True, metavar="COMMAND")
    create = tenants.add_parser("create", parents=[common], help="a new tenant")
    create.set_defaults(run=_create)
    create.add_argument("name")
    create.add_argument("--plan", default=PLAN, help=f"the plan it is on (default: {PLAN})")
    tenants.add_parser("list", parents=[common], help="all tenants").set_defaults(run=_list)
    shown = tenants.add_parser("show", parents=[common], help="one tenant")
    shown.set_defaults(run=_show)
    shown.add_argument("name")
    close = tenants.add_parser("close", parents=[common], help="end a tenant and all its keys, for ever")
    close.set_defaults(run=_close)
    close.add_argument("name")


async def _create(settings: Settings, given: argparse.Namespace) -> int:
    async with opened_directory(settings) as directory:
        if given.plan == PLAN and PLAN not in await directory.values.plans():
            await put_plan(directory, settings)
        tenant = await directory.tenants.create(given.name, given.plan, act=Act(actor(), now_us()))
    return show([_row(tenant)], given, one=True)


async def _list(settings: Settings, given: argparse.Namespace) -> int:
    async with opened_directory(settings) as directory:
        found = (await directory.tenants.list()).values
    return show([_row(tenant) for tenant in found], given)


async def _show(settings: Settings, given: argparse.Namespace) -> int:
    async with opened_directory(settings) as directory:
        tenant = await directory.tenants.show(given.name)
    return show([{**_row(tenant), "created": when(tenant.created_us)}], given, one=True)


async def _close(settings: Settings, given: argparse.Namespace) -> int:
    async with opened_directory(settings) as directory:
        tenant = await directory.tenants.do(given.name, "close", act=Act(actor(), now_us()))
    return show([{"name": tenant.name, "id": tenant.id, "state": tenant.state}], given, one=True)


def _row(tenant: Tenant) -> dict[str, str]:
    return {"name": tenant.name, "id": tenant.id, "plan": tenant.plan, "state": tenant.state}
