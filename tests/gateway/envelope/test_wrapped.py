"""The stored bytes of wrapped keys: what is on somebody's disk today is read for ever, and written the same."""

import pytest

from gateway.envelope import wrapped
from gateway.envelope.ports import KeyRefused
from gateway.envelope.wrapped import Wrapped
from tenants.ports import Row

AT = wrapped.wrapped_at("t_1", "d_1")
GOLDEN = [
    (Wrapped(bytes(range(5)), 5), b'{"v":1,"wrapped":"AAECAwQ=","at_us":5,"with_key":null,"orphan_us":null}'),
    (
        Wrapped(b"\xff\x00x", 5, "theirs", 9),
        b'{"v":1,"wrapped":"/wB4","at_us":5,"with_key":"theirs","orphan_us":9}',
    ),
]
golden = pytest.mark.parametrize(("value", "stored"), GOLDEN)


def test_a_wrapped_key_is_at_this_place() -> None:
    assert AT == ("wrapped/t_1", "d_1")


@golden
def test_what_is_written_are_these_bytes_and_they_are_read_as_this_value(
    value: Wrapped, stored: bytes
) -> None:
    assert wrapped.encoded(value) == stored
    assert wrapped.read(Row(AT, stored, 1)) == value


def test_what_had_only_the_first_fields_means_the_deployments_key_and_nobodys_orphan() -> None:
    assert wrapped.read(Row(AT, b'{"v":1,"wrapped":"AAECAwQ=","at_us":5}', 1)) == GOLDEN[0][0]


@golden
def test_a_field_that_came_later_is_passed_over(value: Wrapped, stored: bytes) -> None:
    assert wrapped.read(Row(AT, stored[:-1] + b',"later":1}', 1)) == value


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\xff",
        b"null",
        b'{"v":1}',
        GOLDEN[0][1].replace(b'"v":1', b'"v":2'),
        GOLDEN[0][1].replace(b"AAECAwQ=", b"AAECAwQ"),
        b'{"v":1,"wrapped":"AAECAwQ=","at_us":5,"later":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["empty", "no UTF-8", "null", "no field", "version", "base64", "too deep"],
)
def test_a_damaged_row_or_another_version_is_refused(damaged: bytes) -> None:
    with pytest.raises(KeyRefused):
        wrapped.read(Row(AT, damaged, 1))
