"""`gateway keys`: the API keys of a tenant, or of the operators."""

import sys
from typing import Final

from gateway.commands.arguments import count, duration, from_input, key_id, rate
from gateway.commands.command import PAGED, REASON, Asked, Command, argument, asked, one_of
from gateway.commands.printing import Row, Sheet, card, program, remark, show, show_all, show_minted, when
from tenants import hours, keys
from tenants.conditions import KeyLimits, Terms
from tenants.directory import KeyRecord, Page
from tenants.directory.leaks import Leak, Owned
from tenants.errors import Invalid
from tenants.keys import Secret
from tenants.rows import OPERATOR

_LINE_BYTES: Final = 1000


@asked
async def _create(it: Asked) -> int:
    given = it.given
    pace, at_once = given.requests_per_second, given.concurrent
    minted = await it.directory.keys.create(
        given.tenant,
        it.act,
        name=given.name,
        models=None if given.models is None else tuple(given.models.split(",")),
        expires_us=None if given.expires is None else it.now_us + given.expires * 1_000_000,
        account_id=given.account,
        break_glass=given.break_glass,
        terms=Terms(
            networks=None if given.networks is None else tuple(given.networks.split(",")),
            hours=None if given.hours is None else hours.read(given.hours),
            limits=KeyLimits(pace, at_once) if pace or at_once else None,
        ),
    )
    return show_minted(minted, given)


@asked
async def _list(it: Asked) -> int:
    async def listing(after: str | None, limit: int) -> Page[KeyRecord]:
        page = await it.directory.keys.list(it.given.tenant, after, limit)
        return Page(await it.directory.uses.records(page.values), page.next_after)

    return await show_all(
        it.given, listing, lambda key: _row(key, it) | _glass(key), first=lambda it: it.key.created_us
    )


@asked
async def _show(it: Asked) -> int:
    record = await it.directory.uses.record(await it.directory.keys.show(it.given.tenant, it.given.key))
    key, limits = record.key, record.key.limits or KeyLimits()
    pace = limits.requests_per_second
    more = {
        "revoked": when(key.revoked_us),
        "account": key.account_id,
        "successor": key.successor_id,
        "networks": None if key.networks is None else ",".join(key.networks),
        "hours": None if key.hours is None else hours.written(key.hours),
        "requests_per_second": None if pace is None else f"{pace.rate:g}:{pace.burst}",
        "concurrent_requests": limits.concurrent_requests,
        "made_by": key.made_by,
    }
    return card({**_row(record, it), **more, **_glass(record)}, it.given)


@asked
async def _revoke(it: Asked) -> int:
    given = it.given
    if given.by_secret and given.key:
        raise Invalid("KEY", "is found by --by-secret: leave it out")
    if given.by_secret:
        return await _revoke_leaked(it)
    if given.key is None:
        raise Invalid("KEY", "is missing: the id of the key to end")
    if given.and_made:
        raise Invalid("--and-made", "goes with --by-secret")
    key = await it.directory.keys.revoke(it.given.tenant, it.given.key, it.act)
    return show({"id": key.id, "revoked": when(key.revoked_us)}, it.given)


@asked
async def _rotate(it: Asked) -> int:
    given = it.given
    minted = await it.directory.keys.rotate(given.tenant, given.key, it.act, overlap_seconds=given.overlap)
    return show_minted(minted, given)


async def _revoke_leaked(it: Asked) -> int:
    """The text is read from the standard input, and nothing here repeats it."""
    line = sys.stdin.buffer.readline(_LINE_BYTES + 1)
    if len(line) > _LINE_BYTES:
        raise Invalid("--by-secret", "the standard input has no line with a key's text")
    leaks = it.directory.leaks
    found = await leaks.find(Secret(line.strip().decode("latin-1")))
    await leaks.revoke(found, it.act)
    return _show_leak(await leaks.answer(found, it.act, and_made=it.given.and_made), it)


def _show_leak(leak: Leak, it: Asked) -> int:
    key, was = leak.key.record.key, keys.state_when_revoked(leak.key.record.key)
    told = {
        "tenant": leak.key.tenant,
        **_row(leak.key.record, it),
        "was": was,
        "revoked": when(key.revoked_us),
        **_glass(leak.key.record),
    }
    if it.given.json:
        return card({**told, "made": [_made_row(made, it) for made in leak.made]}, it.given)
    card(told, it.given)
    if key.revoked_us is not None and key.revoked_us < it.now_us:
        remark("it was revoked before")
    if leak.made:
        print("\nIt made these keys, or one that it made did:")
        sheet = Sheet(as_json=False)
        sheet.add([_made_row(made, it) for made in leak.made])
        sheet.end()
    if any(keys.state(made.record.key, it.now_us) in keys.WORKING for made in leak.made):
        remark(f"those still work; to end them too: {program()} keys revoke --by-secret - --and-made")
    return 0


def _made_row(made: Owned, it: Asked) -> Row:
    return {"tenant": made.tenant, **_row(made.record, it)}


def _glass(record: KeyRecord) -> dict[str, str]:
    """What is said of operators' keys alone."""
    if record.key.tenant_id != OPERATOR:
        return {}
    return {"break_glass": "yes" if record.key.break_glass else "no"}


def _row(record: KeyRecord, it: Asked) -> dict[str, str]:
    key = record.key
    return {
        "id": key.id,
        "name": key.name,
        "hint": f"{keys.PREFIX}{key.hint}...",
        "state": record.state(it.now_us),
        "models": ",".join(key.models) if key.models is not None else "all",
        "created": when(key.created_us),
        "expires": when(key.expires_us),
        "used": when(record.used_us),
    }


_TENANT: Final = argument("--tenant", metavar="T", help="the tenant's name")
_OPERATOR: Final = argument("--operator", action="store_true", help="keys of those who run the gateway")
_BY_SECRET: Final = argument(
    "--by-secret",
    type=from_input,
    metavar="-",
    help="the key whose text is on the standard input, whosever it is: it has leaked",
)
_OWNER: Final = one_of(_TENANT, _OPERATOR)
_KEY: Final = argument("key", type=key_id, metavar="KEY", help="the key's id (k_...)")
_KEY_OR_NONE: Final = argument("key", type=key_id, nargs="?", metavar="KEY", help="the key's id (k_...)")
_AND_MADE: Final = argument(
    "--and-made", action="store_true", help="with --by-secret: also the keys that it made, and those made"
)
_NEW: Final = (
    argument("--name", default="", metavar="N", help="what people call it"),
    argument("--models", metavar="A,B", help="the models it may use (default: all of the tenant's)"),
    argument("--expires", type=duration, metavar="30d", help="how long it works (default: until revoked)"),
    argument(
        "--break-glass",
        action="store_true",
        help="an operator's for emergencies, for the control API: it says why with each request, and each has an event",
    ),
    argument(
        "--account",
        metavar="S",
        help="the id of the service account (s_...) that it acts as (default: it controls nothing)",
    ),
    argument(
        "--networks", metavar="A,B", help="ranges that it may be used from, as 192.0.2.0/24 (default: any)"
    ),
    argument(
        "--hours",
        metavar="WINDOWS",
        help="when it may be used, as 'mon-fri 08:00-18:00 Europe/Berlin'; UTC without a zone (default: always)",
    ),
    argument(
        "--requests-per-second",
        type=rate,
        metavar="R:B",
        help="its own limit beside its tenant's: so many a second, and so many at once after a rest",
    ),
    argument("--concurrent", type=count, metavar="N", help="its own limit of calls under way at once"),
)
_OVERLAP: Final = argument(
    "--overlap", type=duration, default=86_400, metavar="1d", help="how long both work (default: 1d)"
)
_OF: Final = "--tenant acme"

COMMANDS: Final = (
    Command(
        "create",
        "a new key, shown once",
        _create,
        (_OWNER, *_NEW, REASON),
        f"{_OF} --models digits --expires 30d",
    ),
    Command(
        "list",
        "all keys, oldest first; more than 1,000 by their ids",
        _list,
        (_OWNER, *PAGED),
        _OF,
    ),
    Command("show", "one key; its text is stored nowhere", _show, (_OWNER, _KEY), f"{_OF} k_..."),
    Command(
        "revoke",
        "end a key; gateways see it within 5 s",
        _revoke,
        (one_of(_TENANT, _OPERATOR, _BY_SECRET), _KEY_OR_NONE, _AND_MADE, REASON),
        f"{_OF} k_...",
    ),
    Command(
        "rotate",
        "a new key; the old one ends after a while",
        _rotate,
        (_OWNER, _KEY, _OVERLAP, REASON),
        f"{_OF} k_... --overlap 1h",
    ),
)
