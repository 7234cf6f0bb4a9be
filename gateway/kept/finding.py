"""Where is the capture of a request? Names alone are read: nothing is opened."""

from typing import Final, NamedTuple

from gateway.kept.expiry import CAPTURE
from gateway.kept.ports import Blobs

_BEHIND: Final = "~"  # comes behind whatever may be in a name


class Place(NamedTuple):
    """Of a capture: its day (UTC, `yyyymmdd`), its request, and its name."""

    day: str
    request: str
    name: str


async def listed(blobs: Blobs, tenant_id: str, day: str, after: str | None, limit: int) -> list[Place]:
    """Oldest day first, and by request within a day. `day`: of that one alone, "" for all. `after`: a day and a request, as `cursor` says
    them. Raises BlobsUnavailable.
    """
    of_tenant = f"{CAPTURE}{tenant_id}/"
    prefix = f"{of_tenant}{day}/" if day else of_tenant
    names = await blobs.names(prefix, f"{of_tenant}{after}" if after else None, limit)
    return [_place(name) for name in names]


def cursor(place: Place) -> str:
    return f"{place.day}/{place.request}"


async def found(blobs: Blobs, tenant_id: str, request: str, day: str = "") -> tuple[Place, bytes] | None:
    """The capture of this request, and what is stored of it; None when there is none. Without a day each day is looked into, oldest
    first. Raises BlobsUnavailable.
    """
    of_tenant = f"{CAPTURE}{tenant_id}/"
    after: str | None = None
    while True:
        if not day:
            names = await blobs.names(of_tenant, after, 1)
            if not names:
                return None
        at = day or _place(names[0]).day
        name = f"{of_tenant}{at}/{request}"
        if (data := await blobs.get(name)) is not None:
            return Place(at, request, name), data
        if day:
            return None
        after = f"{of_tenant}{at}{_BEHIND}"


def _place(name: str) -> Place:
    _, _, day, request = (*name.split("/", 3), "", "")[:4]
    return Place(day, request, name)
