"""What a compressed body holds has one reading and a limit."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, GatewayError
from gateway.wire.encodings import Inflater, accepted, coding_of

PACKED: dict[bytes, Callable[[bytes], bytes]] = {b"gzip": gzip.compress, b"deflate": zlib.compress}
codings = pytest.mark.parametrize("coding", PACKED)


def inflated(coding: bytes, *pieces: bytes, most_bytes: int = 10**6) -> bytes:
    inflater = Inflater(coding)
    data = b""
    for piece in pieces:
        data += inflater.inflate(piece, most_bytes - len(data))
    inflater.end()
    return data


def code(coding: bytes, *pieces: bytes, most_bytes: int = 10**6) -> Code:
    with pytest.raises(GatewayError) as refused:
        inflated(coding, *pieces, most_bytes=most_bytes)
    return refused.value.code


@codings
@given(data=st.binary(), size=st.integers(1, 50))
def test_a_body_is_inflated_however_it_is_cut(coding: bytes, data: bytes, size: int) -> None:
    packed = PACKED[coding](data)
    assert inflated(coding, *(packed[at : at + size] for at in range(0, len(packed), size))) == data


@codings
def test_a_body_may_be_as_large_as_the_limit_and_no_larger(coding: bytes) -> None:
    packed = PACKED[coding](bytes(1000))
    assert inflated(coding, packed, most_bytes=1000) == bytes(1000)
    assert code(coding, packed, most_bytes=999) is Code.BODY_TOO_LARGE
    assert code(coding, PACKED[coding](bytes(10**8)), most_bytes=1000) is Code.BODY_TOO_LARGE


@codings
def test_what_is_cut_or_has_something_behind_it_is_refused(coding: bytes) -> None:
    packed = PACKED[coding](b"hello")
    for place in range(len(packed)):
        assert code(coding, packed[:place]) is Code.BAD_REQUEST
    assert code(coding, packed + b"x") is Code.BAD_REQUEST
    assert code(coding, packed + packed) is Code.BAD_REQUEST
    assert code(coding, packed, b"x") is Code.BAD_REQUEST


def test_what_bears_anothers_label_is_refused() -> None:
    raw = zlib.compressobj(wbits=-15)
    for packed in (PACKED[b"gzip"](b"hello"), raw.compress(b"hello") + raw.flush(), b"hello"):
        assert code(b"deflate", packed) is Code.BAD_REQUEST
    assert code(b"gzip", PACKED[b"deflate"](b"hello")) is Code.BAD_REQUEST


@pytest.mark.parametrize(
    ("values", "coding"),
    [
        ([b""], b""),
        ([b"identity"], b""),
        ([b" GZip "], b"gzip"),
        ([b"deflate"], b"deflate"),
        ([b"identity", b"gzip"], b"gzip"),
    ],
)
def test_one_coding_is_read(values: list[bytes], coding: bytes) -> None:
    assert coding_of(values) == coding


@pytest.mark.parametrize(
    "values", [[b"br"], [b"gzip, deflate"], [b"gzip", b"gzip"], [b"x-gzip"], [b"gzip;q=1"]]
)
def test_other_codings_are_not_supported(values: list[bytes]) -> None:
    with pytest.raises(GatewayError) as refused:
        coding_of(values)
    assert refused.value.code is Code.ENCODING_NOT_SUPPORTED


@pytest.mark.parametrize(
    ("values", "coding"),
    [
        ([b"gzip"], "gzip"),
        ([b"gzip, deflate, br, zstd"], "gzip"),
        ([b"deflate, gzip"], "deflate"),
        ([b"deflate;q=0.5, gzip;q=0.9"], "gzip"),
        ([b"gzip;q=0, deflate"], "deflate"),
        ([b"GZIP ; q=1.0"], "gzip"),
        ([b"br", b"deflate"], "deflate"),
        ([b"gzip;q=0"], ""),
        ([b"*"], ""),
        ([b"identity"], ""),
        ([b""], ""),
        ([b"gzip;q=2"], ""),
        ([b"gzip;q=0.1;x=1"], ""),
        ([b"\xff\xfe"], ""),
        ([b"x," * 600 + b"gzip"], ""),
    ],
)
def test_the_best_liked_coding_that_triton_has_is_asked_for(values: list[bytes], coding: str) -> None:
    assert accepted(values) == coding


@given(st.lists(st.binary()))
def test_no_header_breaks_the_choice(values: list[bytes]) -> None:
    assert accepted(values) in ("", "gzip", "deflate")
