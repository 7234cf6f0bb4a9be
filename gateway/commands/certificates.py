"""`gateway certificates`: the client certificates that are a tenant's credentials."""

from typing import Final

import msgspec

from gateway.commands.command import REASON, Asked, Command, argument, asked
from gateway.commands.printing import Row, Sheet
from tenants.certificates import TenantCertificate
from tenants.errors import NotFound


@asked
async def _list(it: Asked) -> int:
    return _print((await it.directory.certificates.find(it.given.tenant)).value.entries, it)


@asked
async def _add(it: Asked) -> int:
    """Adds one, or replaces the one of the same name."""
    given = it.given
    models = None if given.models is None else tuple(given.models.split(","))
    wanted = TenantCertificate(given.name, given.uri, given.dns, given.email, models)
    found = await it.directory.certificates.find(given.tenant)
    others = [one for one in found.value.entries if one.name != wanted.name]
    put = await it.directory.certificates.put(given.tenant, [*others, wanted], it.act, expected=found.version)
    return _print(put.entries, it)


@asked
async def _remove(it: Asked) -> int:
    given = it.given
    found = await it.directory.certificates.find(given.tenant)
    others = [one for one in found.value.entries if one.name != given.name]
    if len(others) == len(found.value.entries):
        raise NotFound("certificate", given.name)
    put = await it.directory.certificates.put(given.tenant, others, it.act, expected=found.version)
    return _print(put.entries, it)


def _print(certificates: tuple[TenantCertificate, ...], it: Asked) -> int:
    sheet = Sheet(as_json=it.given.json)
    sheet.add([msgspec.to_builtins(one) if it.given.json else _row(one) for one in certificates])
    return sheet.end()


def _row(one: TenantCertificate) -> Row:
    sort, text = one.identity
    return {"name": one.name, "of": f"{sort} {text}", "models": ",".join(one.models or ()) or "all"}


_TENANT: Final = argument("--tenant", required=True, metavar="NAME", help="the tenant's name")
_NAME: Final = argument("name", help="what the tenant calls it")

COMMANDS: Final = (
    Command("list", "the client certificates that a tenant has", _list, (_TENANT,), "--tenant acme"),
    Command(
        "add",
        "take the certificates with this name in them as a tenant's credential",
        _add,
        (
            _NAME,
            _TENANT,
            argument(
                "--uri",
                metavar="URI",
                help="a URI among its alternative names, as spiffe://acme.example/ingest",
            ),
            argument("--dns", metavar="HOST", help="or a host name there"),
            argument("--email", metavar="ADDRESS", help="or an email address there"),
            argument("--models", metavar="A,B", help="only these models (default: all of the tenant's)"),
            REASON,
        ),
        "ingest --tenant acme --uri spiffe://acme.example/ingest",
    ),
    Command(
        "remove",
        "take them no more",
        _remove,
        (_NAME, _TENANT, REASON),
        "ingest --tenant acme",
    ),
)
