"""`gateway captures`: what a tenant's models were asked and replied, where its privacy has that kept."""

import argparse
import re
from pathlib import Path
from typing import Final

from gateway.commands.command import PAGED, REASON, TENANT, Asked, Command, argument, asked
from gateway.commands.printing import Row, show, show_all, when
from gateway.kept import finding
from gateway.kept.finding import Place
from gateway.state import opened_blobs
from tenants.directory import Page
from tenants.errors import NotFound


@asked
async def _list(it: Asked) -> int:
    tenant_id = (await it.directory.tenants.show(it.given.tenant)).id
    async with opened_blobs(it.settings) as blobs:

        async def listing(after: str | None, limit: int) -> Page[Place]:
            places = await finding.listed(blobs, tenant_id, it.given.day or "", after, limit)
            more = finding.cursor(places[-1]) if len(places) == limit else None
            return Page(tuple(places), more)

        return await show_all(it.given, listing, _row)


@asked
async def _show(it: Asked) -> int:
    from gateway.commands.captures_show import opened_and_shown  # what opens one is long to load

    return await opened_and_shown(it)


@asked
async def _delete(it: Asked) -> int:
    """Nobody reads it any more from here. Fails closed: what the tenant's history cannot say is not deleted."""
    tenant_id = (await it.directory.tenants.show(it.given.tenant)).id
    async with opened_blobs(it.settings) as blobs:
        there = await finding.found(blobs, tenant_id, it.given.request, it.given.day or "")
        if there is None:
            raise NotFound("capture of request", it.given.request)
        await it.directory.captures.deleted(it.given.tenant, there[0].request, it.act)
        await blobs.delete(there[0].name)
    return show({"request": it.given.request, "removed": when(it.now_us)}, it.given)


def _row(place: Place) -> Row:
    day = place.day
    return {"day": f"{day[:4]}-{day[4:6]}-{day[6:]}", "request": place.request}


def _day(text: str) -> str:
    if not _DAY.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no day; write 2026-11-26")
    return text.replace("-", "")


def _request(text: str) -> str:
    if not _REQUEST.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no request's id, as x-request-id has it")
    return text


_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_REQUEST: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
_WHICH: Final = argument(
    "request", type=_request, metavar="REQUEST", help="its id, the x-request-id of its reply"
)
_OF_DAY: Final = argument(
    "--day", type=_day, metavar="2026-11-26", help="of that day alone, in UTC (default: all)"
)
_OUT: Final = argument(
    "--out", type=Path, metavar="DIR", help="write the two bodies there, for their owner alone to read"
)
_EXAMPLE: Final = "0f8fad5bd9cb469fa16570867728950e --tenant acme"

COMMANDS: Final = (
    Command(
        "list",
        "the captured requests of a tenant, oldest day first",
        _list,
        (TENANT, _OF_DAY, *PAGED),
        "--tenant acme --day 2026-11-26",
    ),
    Command(
        "show",
        "what the model was asked in one request and what it replied, opened",
        _show,
        (TENANT, _OF_DAY, _OUT, _WHICH),
        _EXAMPLE,
    ),
    Command(
        "delete",
        "delete the capture of one request",
        _delete,
        (TENANT, _OF_DAY, REASON, _WHICH),
        f'{_EXAMPLE} --reason "ticket 4711"',
    ),
)
