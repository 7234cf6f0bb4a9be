"""A capture is read as it was written, by every later version; what is no capture is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kept.capture import Head, Unreadable, read, written

HEAD = Head(
    request="r1",
    model="digits",
    protocol="oip-rest",
    endpoint="infer",
    asked_us=1,
    ended_us=3,
    ending="done",
    http_status=200,
    request_bytes=5,
    request_kept=3,
    request_head_bytes=2,
    reply_status=200,
    reply_bytes=2,
    reply_kept=2,
)
GOLDEN = (
    b'GWC\x01\x00\x00\x00\xf2{"request":"r1","model":"digits","protocol":"oip-rest","endpoint":"infer","asked_us":1,"ended_us":3,'
    b'"ending":"done","http_status":200,"request_bytes":5,"request_kept":3,"request_head_bytes":2,"reply_status":200,"reply_bytes":2,'
    b'"reply_kept":2}{}1{}'
)


def test_the_bytes_of_version_1_never_change() -> None:
    assert written(HEAD, [b"{}", b"1"], [b"{}"]) == GOLDEN
    assert read(GOLDEN) == (HEAD, b"{}1", b"{}")
    assert (HEAD.is_request_cut, HEAD.is_reply_cut) == (True, False)


def test_a_field_that_a_later_version_1_has_is_read_over() -> None:
    later = GOLDEN.replace(b'{"request"', b'{"later":1,"request"')
    later = later[:7] + bytes([later[7] + len(b'"later":1,')]) + later[8:]
    assert read(later) == (HEAD, b"{}1", b"{}")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GWC\x02" + GOLDEN[4:],
        GOLDEN[:7],
        GOLDEN[:100],
        GOLDEN[:-1],
        GOLDEN + b"x",
        GOLDEN[:4] + b"\xff\xff\xff\xff" + GOLDEN[8:],
        GOLDEN.replace(b'"done"', b'"gone"'),
        GOLDEN.replace(b'"digits"', b'"digit\xff"'),
        GOLDEN.replace(b'"request_kept":3', b'"request_kept":-'),
        GOLDEN.replace(b'"reply_kept":2', b'"reply_kept":9'),
    ],
)
def test_what_is_no_capture_of_this_version_is_refused(data: bytes) -> None:
    with pytest.raises(Unreadable):
        read(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_capture_or_refused(data: bytes) -> None:
    for each in (data, GOLDEN[:8] + data, GOLDEN[: len(data)] + data):
        try:
            assert len(read(each).request) >= 0
        except Unreadable:
            continue


def test_a_body_of_another_size_than_the_head_says_is_not_written() -> None:
    with pytest.raises(ValueError, match="another size"):
        written(HEAD, [b"{}"], [b"{}"])
