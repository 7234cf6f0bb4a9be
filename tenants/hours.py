"""Weekly hours, as a key is bound to them: how they are said, and whether a moment is within. Pure.

    mon-fri 08:00-18:00, sat 09:00-12:00 Europe/Berlin

A window is from a minute on to the one before which it ends, on each of its days; one that ends before it begins goes over midnight and is
of the day on which it begins. What counts is what a clock on the wall of that zone shows: an hour that is skipped there never comes, one
that comes twice is within both times. A zone is known by the name that IANA gives it; without one it is UTC.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import Annotated, Final, Literal, get_args
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

from tenants.errors import Invalid

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = get_args(Day)
MOST: Final = 21
LONGEST: Final = 64
"""Characters of a zone's name."""

_MINUTES: Final = 24 * 60
_WEEK: Final = 7 * _MINUTES
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")
# Of the machine's own making are lower: `localtime`, `posix/...`, `right/...` with its leap seconds.
_ZONE: Final = re.compile(r"UTC|[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){1,2}")
_TEXT: Final = re.compile(r"([a-z]{3})(?:-([a-z]{3}))? ([0-9:]{5})-([0-9:]{5})")
_TEXT_RULE: Final = 'must be like "mon-fri 08:00-18:00, sat 09:00-12:00 Europe/Berlin"'

Time = Annotated[str, Meta(max_length=5)]


class Window(Struct, frozen=True, forbid_unknown_fields=True, rename={"start": "from", "end": "to"}):
    """From one time of a day to another, as `08:00`; 24:00 is the end of the day."""

    days: Annotated[tuple[Day, ...], Meta(min_length=1, max_length=7)]
    start: Time
    end: Time


class Hours(Struct, frozen=True, forbid_unknown_fields=True):
    """Within any of the windows. A part of stored rows: a reader that does not know all of it refuses the row, as to overlook a bound would
    be to lift it.
    """

    windows: Annotated[tuple[Window, ...], Meta(min_length=1, max_length=MOST)]
    zone: Annotated[str, Meta(max_length=LONGEST)] = "UTC"


@dataclass(frozen=True, slots=True)
class Week:
    """Hours as they are judged: for each day from Monday on the minutes within, half open, and the zone."""

    days: tuple[tuple[tuple[int, int], ...], ...]
    zone: ZoneInfo

    def holds(self, now_us: int) -> bool:
        """Whether that microsecond since 1970, UTC, is within. Windows begin and end with a minute, so minutes tell."""
        there = (_EPOCH + now_us * _MICROSECOND).astimezone(self.zone)
        minute = there.hour * 60 + there.minute
        return any(start <= minute < end for start, end in self.days[there.weekday()])


def faults(hours: Hours, path: str) -> Iterator[Invalid]:
    """What is wrong beyond the types of its fields."""
    if not 1 <= len(hours.windows) <= MOST:
        yield Invalid(f"{path}.windows", f"must be 1 to {MOST} windows")
    for number, window in enumerate(hours.windows):
        at = f"{path}.windows[{number}]"
        wrong = [name for name, it in (("from", window.start), ("to", window.end)) if not _TIME.fullmatch(it)]
        yield from (Invalid(f"{at}.{name}", "must be a time from 00:00 to 24:00") for name in wrong)
        if not wrong and (window.start in (window.end, "24:00")):
            yield Invalid(at, "is never: a whole day is from 00:00 to 24:00")
        if not window.days or len({*window.days}) < len(window.days):
            yield Invalid(f"{at}.days", "must be days of the week, none twice")
    if _zone(hours.zone) is None:
        yield Invalid(
            f"{path}.zone", "must be a zone of IANA's that is known here, like Europe/Berlin, or UTC"
        )


def parsed(hours: Hours) -> Week:
    """The week of hours without faults. ValueError for what has some, also for a zone that this machine does not know."""
    for fault in faults(hours, "hours"):
        raise ValueError(str(fault))
    days: list[list[tuple[int, int]]] = [[] for _ in DAYS]
    for window in hours.windows:
        start, end = _minute(window.start), _minute(window.end)
        for day in map(DAYS.index, window.days):
            if start < end:
                days[day].append((start, end))
            else:
                days[day].append((start, _MINUTES))
                days[(day + 1) % 7].append((0, end))
    zone = _zone(hours.zone) or ZoneInfo("UTC")
    return Week(tuple(tuple(sorted(spans)) for spans in days), zone)


def are_within(inner: Hours, outer: Hours) -> bool:
    """Whether each moment of the one is in the other. Closed: of two zones nobody can say it for all years, so only in hours that are
    always is everything. ValueError as of `parsed`.
    """
    allowed = _minutes(outer)
    return len(allowed) == _WEEK or (inner.zone == outer.zone and _minutes(inner) <= allowed)


def read(text: str, path: str = "hours") -> Hours:
    """Hours as people write them, the zone behind the last window. Raises Invalid."""
    *windows, last = (part.strip() for part in text.split(","))
    words, zone = last.rsplit(" ", 1) if last.count(" ") == 2 else (last, "UTC")  # noqa: PLR2004 - days, times, zone
    found = []
    for part in (*windows, words):
        match = _TEXT.fullmatch(part)
        first, to, start, end = match.groups() if match else ("", "", "", "")
        if first not in DAYS or (to or first) not in DAYS:
            raise Invalid(path, _TEXT_RULE)
        found.append(Window(_days(first, to or first), start, end))
    hours = Hours(tuple(found), zone)
    for fault in faults(hours, path):
        raise fault
    return hours


def written(hours: Hours) -> str:
    """As `read` reads it: the same hours, days that follow one another together."""
    parts = [f"{days} {window.start}-{window.end}" for window in hours.windows for days in _runs(window.days)]
    return f"{', '.join(parts)} {hours.zone}"


def _days(first: str, last: str) -> tuple[Day, ...]:
    """From one day to another, over Sunday too."""
    start = DAYS.index(first)
    return tuple(DAYS[(start + step) % 7] for step in range((DAYS.index(last) - start) % 7 + 1))


def _runs(days: tuple[Day, ...]) -> Iterator[str]:
    numbers = sorted(map(DAYS.index, days))
    for _, run in groupby(enumerate(numbers), lambda it: it[1] - it[0]):
        them = [DAYS[number] for _, number in run]
        yield them[0] if len(them) == 1 else f"{them[0]}-{them[-1]}"


def _minute(time: str) -> int:
    hour, _, minute = time.partition(":")
    return int(hour) * 60 + int(minute)


def _minutes(hours: Hours) -> set[int]:
    week = parsed(hours)
    return {
        day * _MINUTES + minute
        for day, spans in enumerate(week.days)
        for start, end in spans
        for minute in range(start, end)
    }


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo | None:
    """The zone of that name, from what the machine or `tzdata` has of it; None where neither has one."""
    if len(name) > LONGEST or not _ZONE.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, no zone file, a folder of them
        return None
