"""`gateway keys`: a tenant's API keys."""

import argparse

from gateway.commands.arguments import Parser, actor, duration
from gateway.commands.printing import show, show_minted, when
from gateway.settings import Settings
from gateway.state import now_us, opened_directory
from tenants import keys
from tenants.acts import Act


def add(parser: Parser, common: Parser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    of_tenant = Parser(add_help=False, parents=[common])
    of_tenant.add_argument("--tenant", required=True)
    create = commands.add_parser("create", parents=[of_tenant], help="a new key, shown once")
    create.set_defaults(run=_create)
    create.add_argument("--name", default="", help="what people call it")
    create.add_argument(
        "--models", metavar="A,B", help="the models it may use (default: all of the tenant's)"
    )
    create.add_argument(
        "--expires", type=duration, metavar="30d", help="how long it works (default: until revoked)"
    )
    commands.add_parser("list", parents=[of_tenant], help="all keys of a tenant").set_defaults(run=_list)
    revoke = commands.add_parser("revoke", parents=[of_tenant], help="end a key; gateways see it within 5 s")
    revoke.set_defaults(run=_revoke)
    revoke.add_argument("key", help="the key's id (k_...)")
    rotate = commands.add_parser(
        "rotate", parents=[of_tenant], help="a new key; the old one ends after a while"
    )
    rotate.set_defaults(run=_rotate)
    rotate.add_argument("key", help="the old key's id (k_...)")
    rotate.add_argument(
        "--overlap", type=duration, default=86_400, metavar="1d", help="how long both work (default: 1d)"
    )


async def _create(settings: Settings, given: argparse.Namespace) -> int:
    now = now_us()
    expires_us = None if given.expires is None else now + given.expires * 1_000_000
    models = tuple(given.models.split(",")) if given.models else None
    async with opened_directory(settings) as directory:
        minted = await directory.keys.create(
            given.tenant, name=given.name, models=models, expires_us=expires_us, act=Act(actor(), now)
        )
    return show_minted(minted, given)


async def _rotate(settings: Settings, given: argparse.Namespace) -> int:
    async with opened_directory(settings) as directory:
        minted = await directory.keys.rotate(
            given.tenant, given.key, overlap_seconds=given.overlap, act=Act(actor(), now_us())
        )
    return show_minted(minted, given)


async def _list(settings: Settings, given: argparse.Namespace) -> int:
    async with opened_directory(settings) as directory:
        found = (await directory.keys.list(given.tenant)).values
    rows = [
        {
            "id": key.id,
            "name": key.name,
            "hint": f"{keys.PREFIX}{key.hint}...",
            "state": keys.state(key, now_us()),
            "models": ",".join(key.models) if key.models is not None else "all",
            "created": when(key.created_us),
            "expires": when(key.expires_us),
        }
        for key in found
    ]
    return show(rows, given)


async def _revoke(settings: Settings, given: argparse.Namespace) -> int:
    async with opened_directory(settings) as directory:
        key = await directory.keys.revoke(given.tenant, given.key, act=Act(actor(), now_us()))
    return show([{"id": key.id, "revoked": when(key.revoked_us)}], given, one=True)
