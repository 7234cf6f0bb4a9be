"""Hours are those of a clock on the wall of their zone, to the microsecond, over midnight and over the change of the clocks."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants import hours
from tenants.errors import Invalid
from tenants.hours import DAYS, Hours, Window

OFFICE = "mon-fri 08:00-18:00, sat 09:00-12:00 Europe/Berlin"
WEEK_MINUTES = 7 * 24 * 60


def us(text: str) -> int:
    """Of a time in UTC."""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def holds(text: str, at: str) -> bool:
    return hours.parsed(hours.read(text)).holds(us(at))


@pytest.mark.parametrize(
    ("at", "within"),
    [
        ("2026-01-05T06:59:59.999999", False),  # a Monday, UTC + 1
        ("2026-01-05T07:00:00", True),
        ("2026-01-05T16:59:59.999999", True),
        ("2026-01-05T17:00:00", False),
        ("2026-07-06T06:00:00", True),  # UTC + 2
        ("2026-07-06T16:00:00", False),
        ("2026-01-10T08:00:00", True),
        ("2026-01-10T11:00:00", False),
        ("2026-01-11T10:00:00", False),
    ],
)
def test_a_window_begins_and_ends_at_its_microsecond_in_its_zone(at: str, within: bool) -> None:  # noqa: FBT001
    assert holds(OFFICE, at) == within


@pytest.mark.parametrize(
    ("at", "within"),
    [
        ("2026-01-09T21:59:59.999999", False),  # a Friday
        ("2026-01-09T22:00:00", True),
        ("2026-01-10T05:59:59.999999", True),
        ("2026-01-10T06:00:00", False),
        ("2026-01-10T22:00:00", False),
        ("2026-01-09T05:00:00", False),
    ],
)
def test_a_window_over_midnight_is_of_the_day_on_which_it_begins(at: str, within: bool) -> None:  # noqa: FBT001
    assert holds("fri 22:00-06:00", at) == within


def test_a_night_of_sunday_ends_on_monday_and_a_whole_day_has_its_last_microsecond() -> None:
    assert holds("sun 23:00-01:00", "2026-01-12T00:59:59.999999")
    assert not holds("sun 23:00-01:00", "2026-01-12T01:00:00")
    assert holds("mon 00:00-24:00", "2026-01-12T23:59:59.999999")
    assert not holds("mon 00:00-24:00", "2026-01-13T00:00:00")


def test_an_hour_that_comes_twice_is_within_both_times_and_one_that_is_skipped_never_comes() -> None:
    assert holds("sun 02:00-03:00 Europe/Berlin", "2026-10-25T00:30:00")
    assert holds("sun 02:00-03:00 Europe/Berlin", "2026-10-25T01:30:00")
    assert not holds("sun 02:00-03:00 Europe/Berlin", "2026-10-25T02:00:00")
    minutes = (us("2026-03-29T00:00:00") + minute * 60_000_000 for minute in range(6 * 60))
    week = hours.parsed(hours.read("sun 02:00-03:00 Europe/Berlin"))
    assert not any(map(week.holds, minutes))


windows = st.builds(
    Window,
    st.lists(st.sampled_from(DAYS), min_size=1, max_size=7, unique=True).map(tuple),
    *[st.integers(0, 47).map(lambda half: f"{half // 2:02}:{half % 2 * 30:02}")] * 2,
).filter(lambda it: it.start != it.end)
any_hours = st.builds(
    Hours,
    st.lists(windows, min_size=1, max_size=3).map(tuple),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "Pacific/Apia"]),
)


def reference(it: Hours, moment_us: int) -> bool:
    """The slow way: the same wall clock, asked of each window as its text says."""
    there = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=moment_us)
    there = there.astimezone(ZoneInfo(it.zone))
    clock, today, yesterday = f"{there:%H:%M}", DAYS[there.weekday()], DAYS[there.weekday() - 1]
    for window in it.windows:
        over = window.start > window.end
        if today in window.days and window.start <= clock and (over or clock < window.end):
            return True
        if over and yesterday in window.days and clock < window.end:
            return True
    return False


@given(any_hours, st.integers(0, 2 * 10**15))
def test_hours_hold_what_reading_each_window_by_the_clock_on_the_wall_says(it: Hours, at: int) -> None:
    assert hours.parsed(it).holds(at) == reference(it, at)


@given(any_hours)
def test_what_is_written_is_read_as_the_same_hours(it: Hours) -> None:
    again = hours.read(hours.written(it))
    assert hours.parsed(again).days == tuple(tuple(sorted(day)) for day in hours.parsed(it).days)
    assert again.zone == it.zone


@given(any_hours, any_hours)
def test_hours_are_within_others_of_their_zone_when_each_of_their_minutes_is(
    one: Hours, other: Hours
) -> None:
    one = Hours(one.windows, other.zone)
    monday = us("2026-01-05T00:00:00")  # of UTC, where no clock changes
    flat = [Hours(it.windows, "UTC") for it in (one, other)]
    held = [
        {minute for minute in range(0, WEEK_MINUTES, 30) if reference(it, monday + minute * 60_000_000)}
        for it in flat
    ]
    assert hours.are_within(one, other) == (held[0] <= held[1])


def test_of_two_zones_only_what_is_always_is_known_to_hold_the_other() -> None:
    berlin, utc = hours.read("mon 08:00-09:00 Europe/Berlin"), hours.read("mon 00:00-23:59")
    assert not hours.are_within(berlin, utc)
    assert hours.are_within(berlin, hours.read("mon-sun 00:00-24:00"))
    assert hours.are_within(berlin, hours.read("mon-sun 12:00-06:00, mon-sun 06:00-12:00"))


@pytest.mark.parametrize(
    "text",
    [
        *("", "mon", "mon 08:00", "mon 8:00-9:00", "mon 08:00-25:00", "mon 08:00-24:30", "mon 24:00-08:00"),
        *("mon 08:00-08:00", "moon 08:00-09:00", "mon-x 08:00-09:00", "Mon 08:00-09:00", "mon 08:60-09:00"),
        *("mon 08:00-09:00,", "mon 08:00-09:00 Berlin", "mon 08:00-09:00 Europe", "mon 08:00-09:00 ../etc"),
        *("mon 08:00-09:00 /etc/passwd", "mon 08:00-09:00 localtime", "mon 08:00-09:00 right/Europe/Berlin"),
        *(
            "mon 08:00-09:00 UTC UTC",
            "mon 08:00-09:00 Europe/../Europe/Berlin",
            f"mon 08:00-09:00 A/{'a' * 70}",
        ),
        ", ".join(["mon 08:00-09:00"] * 22),
    ],
)
def test_hours_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        hours.read(text)
    assert refusal.value.path.startswith("hours")


def test_a_day_that_is_there_twice_and_hours_of_no_day_are_faults() -> None:
    wrong = Hours((Window(("mon", "mon"), "08:00", "09:00"), Window((), "08:00", "09:00")))
    assert [it.path for it in hours.faults(wrong, "hours")] == [
        "hours.windows[0].days",
        "hours.windows[1].days",
    ]
    with pytest.raises(ValueError, match="days"):
        hours.parsed(wrong)
