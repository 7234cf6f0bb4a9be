"""What is kept of requests and replies goes when it is over, which its name says.

    capture/<tenant id>/<yyyymmdd>/<record id>   when its day (UTC) ended as many days ago as its tenant's privacy keeps captures
    replies/<yyyymmddhh>/<digest>                when its hour ended as many hours ago as replies are kept

So a capture is there for its days at least and less than one day longer, a reply for less than one hour longer; besides, up to the next
pass. What has another name is not ours, and stays.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from gateway.kept.ports import Blobs

CAPTURE: Final = "capture/"
REPLIES: Final = "replies/"

Days = Callable[[str], Awaitable[int]]
"""How many days the captures of the tenant with this id are kept."""

_CAPTURE = re.compile(r"capture/([^/]+)/([0-9]{8})/[^/]+")
_REPLY = re.compile(r"replies/([0-9]{10})/[^/]+")
_PAGE: Final = 10_000
"""Of names; each page reads a whole folder, which may hold some hundred thousand."""
_log = logging.getLogger(__name__)


class Capture(NamedTuple):
    tenant: str
    ended: datetime  # its day


def captured(name: str) -> Capture | None:
    """What the name of a capture says; None if it is none."""
    found = _CAPTURE.fullmatch(name)
    began = _began(found[2], "%Y%m%d") if found else None
    return Capture(found[1], began + timedelta(days=1)) if found and began else None


def replied(name: str) -> datetime | None:
    """When the hour of a reply ended, by its name; None if it is none."""
    found = _REPLY.fullmatch(name)
    began = _began(found[1], "%Y%m%d%H") if found else None
    return began + timedelta(hours=1) if began else None


class Expiry:
    """`clock`: seconds since 1970. `expired` counts what was deleted since the start. Any number of processes may do it at once."""

    def __init__(self, blobs: Blobs, days_of: Days, reply_hours: int, clock: Callable[[], float]) -> None:
        self.expired = 0
        self._blobs = blobs
        self._days_of = days_of
        self._reply_hours = reply_hours
        self._clock = clock

    async def look(self) -> None:
        """One pass. Raises BlobsUnavailable, and what `days_of` does; the next pass does the rest."""
        before = self.expired
        now = datetime.fromtimestamp(self._clock(), UTC)
        await self._captures(now)
        await self._replies(now)
        if self.expired > before:
            _log.info("%d kept requests and replies are over and deleted", self.expired - before)

    async def _captures(self, now: datetime) -> None:
        days: dict[str, int] = {}
        after: str | None = None
        while names := await self._blobs.names(CAPTURE, after, _PAGE):
            young = CAPTURE + "/"  # of this tenant only younger ones follow; at first nobody's
            for name in names:
                capture = None if name.startswith(young) else captured(name)
                if capture is None:
                    continue
                if capture.tenant not in days:
                    days[capture.tenant] = await self._days_of(capture.tenant)
                if now - capture.ended >= timedelta(days=days[capture.tenant]):
                    await self._delete(name)
                else:
                    young = f"{CAPTURE}{capture.tenant}/"
            after = f"{young}z" if names[-1].startswith(young) else names[-1]

    async def _replies(self, now: datetime) -> None:
        """From the oldest on, until one that is not over."""
        after: str | None = None
        while names := await self._blobs.names(REPLIES, after, _PAGE):
            after = names[-1]
            for name in names:
                ended = replied(name)
                if ended is None:
                    continue
                if now - ended < timedelta(hours=self._reply_hours):
                    return
                await self._delete(name)

    async def _delete(self, name: str) -> None:
        await self._blobs.delete(name)
        self.expired += 1


def _began(digits: str, layout: str) -> datetime | None:
    try:
        return datetime.strptime(digits, layout).replace(tzinfo=UTC)
    except ValueError:
        return None
