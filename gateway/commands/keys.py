"""`gateway keys`: the API keys of a tenant, or of the operators."""

from typing import Final

from gateway.commands.arguments import duration
from gateway.commands.command import PAGED, REASON, Asked, Command, argument, asked, one_of
from gateway.commands.printing import Row, card, show, show_all, show_minted, when
from tenants import keys
from tenants.directory import Page
from tenants.keys import ApiKey


@asked
async def _create(it: Asked) -> int:
    given = it.given
    minted = await it.directory.keys.create(
        given.tenant,
        it.act,
        name=given.name,
        models=None if given.models is None else tuple(given.models.split(",")),
        expires_us=None if given.expires is None else it.now_us + given.expires * 1_000_000,
        account_id=given.account,
        break_glass=given.break_glass,
    )
    return show_minted(minted, given)


@asked
async def _list(it: Asked) -> int:
    async def listing(after: str | None, limit: int) -> Page[ApiKey]:
        return await it.directory.keys.list(it.given.tenant, after, limit)

    return await show_all(it.given, listing, lambda key: _row(key, it), first=lambda key: key.created_us)


@asked
async def _show(it: Asked) -> int:
    key = await it.directory.keys.show(it.given.tenant, it.given.key)
    more = {"revoked": when(key.revoked_us), "account": key.account_id, "successor": key.successor_id}
    return card({**_row(key, it), **more}, it.given)


@asked
async def _revoke(it: Asked) -> int:
    key = await it.directory.keys.revoke(it.given.tenant, it.given.key, it.act)
    return show({"id": key.id, "revoked": when(key.revoked_us)}, it.given)


@asked
async def _rotate(it: Asked) -> int:
    given = it.given
    minted = await it.directory.keys.rotate(given.tenant, given.key, it.act, overlap_seconds=given.overlap)
    return show_minted(minted, given)


def _row(key: ApiKey, it: Asked) -> Row:
    return {
        "id": key.id,
        "name": key.name,
        "hint": f"{keys.PREFIX}{key.hint}...",
        "state": keys.state(key, it.now_us),
        "models": ",".join(key.models) if key.models is not None else "all",
        "created": when(key.created_us),
        "expires": when(key.expires_us),
    }


_OWNER: Final = one_of(
    argument("--tenant", metavar="T", help="the tenant's name"),
    argument("--operator", action="store_true", help="keys of those who run the gateway"),
)
_KEY: Final = argument("key", metavar="KEY", help="the key's id (k_...)")
_NEW: Final = (
    argument("--name", default="", metavar="N", help="what people call it"),
    argument("--models", metavar="A,B", help="the models it may use (default: all of the tenant's)"),
    argument("--expires", type=duration, metavar="30d", help="how long it works (default: until revoked)"),
    argument(
        "--break-glass",
        action="store_true",
        help="an operator's for emergencies: it says why with each request, and each is told loudly",
    ),
    argument(
        "--account",
        metavar="S",
        help="the id of the service account (s_...) that it acts as (default: it controls nothing)",
    ),
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
        "revoke", "end a key; gateways see it within 5 s", _revoke, (_OWNER, _KEY, REASON), f"{_OF} k_..."
    ),
    Command(
        "rotate",
        "a new key; the old one ends after a while",
        _rotate,
        (_OWNER, _KEY, _OVERLAP, REASON),
        f"{_OF} k_... --overlap 1h",
    ),
)
