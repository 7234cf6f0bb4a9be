"""`gateway tenants issuers`, `trust` and `distrust`: the identity providers that a tenant has for itself; and `gateway issuers check`."""

import argparse
from typing import Any, Final, get_args

import msgspec

from gateway.commands.arguments import token_from_input
from gateway.commands.command import REASON, Asked, Command, argument, asked
from gateway.commands.printing import Row, Sheet
from gateway.settings import Settings
from tenants.errors import NotFound
from tenants.issuers import TenantIssuer
from tenants.members import Role


@asked
async def _list(it: Asked) -> int:
    return _print((await it.directory.issuers.find(it.given.name)).value.entries, it.given)


@asked
async def _trust(it: Asked) -> int:
    """Adds one, or replaces the one of the same URL and audience."""
    given = it.given
    wanted = TenantIssuer(
        given.issuer,
        given.audience,
        given.jwks_url,
        given.roles_claim,
        given.insecure,
        dict(given.role) if given.role else None,
    )
    found = await it.directory.issuers.find(given.name)
    others = [one for one in found.value.entries if one.pair != wanted.pair]
    put = await it.directory.issuers.put(given.name, [*others, wanted], it.act, expected=found.version)
    return _print(put.entries, given)


@asked
async def _distrust(it: Asked) -> int:
    given = it.given
    found = await it.directory.issuers.find(given.name)
    others = [one for one in found.value.entries if one.pair != (given.issuer, given.audience)]
    if len(others) == len(found.value.entries):
        raise NotFound("issuer", given.issuer)
    put = await it.directory.issuers.put(given.name, others, it.act, expected=found.version)
    return _print(put.entries, given)


async def _check(settings: Settings, given: argparse.Namespace) -> int:
    from gateway.commands import token_check

    return await token_check.check(settings, given)


def _print(issuers: tuple[TenantIssuer, ...], given: argparse.Namespace) -> int:
    sheet = Sheet(as_json=given.json)
    sheet.add([msgspec.to_builtins(one) if given.json else _row(one) for one in issuers])
    return sheet.end()


def _row(one: TenantIssuer) -> Row:
    said = (
        "its own words" if one.roles is None else ",".join(f"{it}={role}" for it, role in one.roles.items())
    )
    roles = "none" if one.roles_claim is None else f"{one.roles_claim}: {said}"
    return {"issuer": one.issuer, "audience": one.audience, "roles": roles}


def mapped(text: str) -> tuple[str, Role]:
    """`VALUE=ROLE`: what the claim says, and what role that is here."""
    value, _, role = text.rpartition("=")
    for known in get_args(Role):
        if value and role == known:
            return value, known
    raise argparse.ArgumentTypeError(f"{text!r} is no VALUE=ROLE; write gw-admins=admin")


def _options(*more: Any) -> tuple[Any, ...]:
    return (
        argument("name", help="the tenant's name"),
        argument("--issuer", required=True, metavar="URL", help="its URL, as `iss` in its tokens"),
        argument("--audience", required=True, metavar="A", help="must be among those of `aud`"),
        *more,
        REASON,
    )


_MORE: Final = (
    argument("--jwks-url", metavar="URL", help="where its keys are (default: as its configuration says)"),
    argument("--roles-claim", metavar="C", help="the claim with roles (default: tokens give none)"),
    argument(
        "--role",
        type=mapped,
        action="append",
        metavar="VALUE=ROLE",
        help="what role a value of that claim gives; may be there again (default: it names roles)",
    ),
    argument("--insecure", action="store_true", help="it may be http, and at a private address"),
)
_ACME: Final = "acme --issuer https://login.acme.example --audience gateway"

COMMANDS: Final = (
    Command(
        "issuers",
        "the issuers that a tenant has",
        _list,
        (argument("name", help="the tenant's name"),),
        "acme",
    ),
    Command(
        "trust",
        "take an issuer's tokens for a tenant",
        _trust,
        _options(*_MORE),
        f"{_ACME} --roles-claim roles",
    ),
    Command("distrust", "take an issuer's tokens no more", _distrust, _options(), _ACME),
)

CHECK: Final = Command(
    "check",
    "what the gateway makes of a token, step by step, and what to do about it",
    _check,
    (
        argument("--operator", action="store_true", help="as the operators' listener takes it"),
        argument(
            "token",
            type=token_from_input,
            nargs="+",  # so that a token behind it is refused in these words too, and not repeated
            metavar="-",
            help="the token, which is a line on the standard input",
        ),
    ),
    "-",
)
