"""The bytes of members' rows, which are read for ever, and the times that they speak of."""

import pytest

from gateway.cluster.certificates import Process, reaped
from gateway.cluster.member import Member, Says, encoded, member_at, read
from gateway.cluster.stillness import Timing, ends, is_over
from tenants.errors import Unreadable
from tenants.ports import Row

PARENT = Process("here", "kernel", 1, 1)
PROCESS = Process("here", "kernel", 101, 7)

GOLDEN = [
    (
        Member(PROCESS, 7, 60.0),
        b'{"v":1,"process":{"host":"here","kernel":"kernel","pid":101,"started":7},"beat":7,"lasts_seconds":60.0,'
        b'"says":{"version":"","draining":false,"acknowledged":{},"serves":true},"certificate":null}',
    ),
    (
        Member(PROCESS, 7, 60.0, Says("0.1", True, {"a": "b"}), reaped("m1", PROCESS, 101, PARENT)),  # noqa: FBT003 - a row
        b'{"v":1,"process":{"host":"here","kernel":"kernel","pid":101,"started":7},"beat":7,"lasts_seconds":60.0,'
        b'"says":{"version":"0.1","draining":true,"acknowledged":{"a":"b"},"serves":true},"certificate":{"member":"m1",'
        b'"process":{"host":"here","kernel":"kernel","pid":101,"started":7},"cause":"reaped",'
        b'"by":{"host":"here","kernel":"kernel","pid":1,"started":1}}}',
    ),
]


@pytest.mark.parametrize(("member", "value"), GOLDEN)
def test_a_members_row_is_written_and_read_as_ever(member: Member, value: bytes) -> None:
    assert encoded(member) == value
    assert read(Row(member_at("m1"), value, 1)) == member


@pytest.mark.parametrize(("member", "value"), GOLDEN)
def test_who_says_nothing_of_it_takes_calls_as_all_did_when_the_row_was_written(
    member: Member, value: bytes
) -> None:
    assert read(Row(member_at("m1"), value.replace(b',"serves":true', b""), 1)) == member


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        b"{}",
        GOLDEN[0][1].replace(b'"v":1', b'"v":2'),
        GOLDEN[0][1].replace(b"60.0", b"0"),
        GOLDEN[0][1].replace(b"60.0", b"241"),
        GOLDEN[1][1].replace(b"reaped", b"guessed"),
    ],
)
def test_a_row_that_is_not_as_it_may_be_is_unreadable(value: bytes) -> None:
    with pytest.raises(Unreadable):
        read(Row(member_at("m1"), value, 1))


@pytest.mark.parametrize(
    "how",
    [
        {"stale_seconds": 241.0},
        {"stale_seconds": 3.5},
        {"leadership_seconds": 2.0},
        {"margin_seconds": 0.05},
        {"margin_seconds": 1.0},
        {"swept_seconds": 100.0},
    ],
)
def test_times_that_leave_no_room_are_refused(how: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"margin|beat|rows"):
        Timing(**how)


@pytest.mark.parametrize("lasts", [3.0, 4.0, 60.0, 240.0])
def test_whoever_writes_is_over_before_others_take_it_for_over_though_clocks_differ_by_a_thousandth(
    lasts: float,
) -> None:
    slow, fast, margin = 1 - 1e-3, 1 + 1e-3, 0.25
    writer_stops = ends(0.0, lasts, margin) / slow
    others_take = writer_stops * fast
    assert not is_over(others_take, lasts, margin)
