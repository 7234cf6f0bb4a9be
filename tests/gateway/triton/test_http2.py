"""Frames and header blocks as RFC 9113 and RFC 7541 have them; what is broken is refused, whatever it is."""

import asyncio
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.triton.grpc_connection import GrpcConnection
from gateway.triton.grpc_messages import Messages, prefix
from gateway.triton.http2 import Kind, Malformed, frame, headers, literal, settings, unpadded

names = st.text("abcdefghijklmnop-", min_size=1, max_size=200).map(str.encode)
values_ = st.binary(max_size=300)


@given(st.dictionaries(names, values_, max_size=5))
def test_headers_in_full_are_read_as_they_were_written(sent: dict[bytes, bytes]) -> None:
    block = b"".join(literal(name, value) for name, value in sent.items())
    assert headers(block) == {n.decode(): v.decode("latin-1") for n, v in sent.items()}


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (b"\x20\x88", {":status": "200"}),  # the table's size, then an entry of the static one
        (
            b"\x48\x03503",
            {":status": "503"},
        ),  # its name of the static table, to be kept in a table that is not there
        (b"\x5f\x03abc", {"content-type": "abc"}),
        (b"\x40\x01a\x81\x07", {}),  # coded by Huffman
        (b"\x10\x01a\x01b", {"a": "b"}),  # never to be kept
    ],
)
def test_headers_of_the_static_table_and_what_is_not_read(block: bytes, found: dict[str, str]) -> None:
    assert headers(block) == found


@pytest.mark.parametrize(
    "block",
    [
        b"\xbe",
        b"\x80",
        b"\x7e\x01a",
        b"\x3f\x01",
        b"\x00\x05a",
        b"\x00",
        b"\x00\x7f" + b"\xff" * 6,
        b"\x40\x01a",
    ],
)
def test_a_block_that_breaks_off_or_wants_a_table_is_refused(block: bytes) -> None:
    with pytest.raises(Malformed):
        headers(block)


@given(st.binary(max_size=100))
def test_no_block_is_anything_but_headers_or_refused(block: bytes) -> None:
    with suppress(Malformed):
        headers(block)


def test_padding_is_taken_off_and_more_of_it_than_bytes_is_refused() -> None:
    assert bytes(unpadded(Kind.DATA, 0x08, memoryview(b"\2abc\0\0"))) == b"abc"
    assert bytes(unpadded(Kind.HEADERS, 0x28, memoryview(b"\1-----abc\0"))) == b"abc"
    for payload in (b"", b"\4abc"):
        with pytest.raises(Malformed):
            unpadded(Kind.DATA, 0x08, memoryview(payload))
    with pytest.raises(Malformed):
        settings(b"12345")


@given(st.lists(st.binary(max_size=20), max_size=5), st.data())
def test_messages_are_put_together_however_they_are_cut(sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(prefix(len(message)) + message for message in sent)
    reader, found = Messages(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += list(reader.feed(memoryview(stream[:size])))
        stream = stream[size:]
    assert found == sent
    assert not reader.is_partial


@given(
    st.lists(
        st.builds(
            frame, st.sampled_from(list(Kind)), st.integers(0, 255), st.integers(0, 3), st.binary(max_size=40)
        ),
        max_size=6,
    )
)
def test_no_frames_of_a_server_raise_in_the_loop(frames: list[bytes]) -> None:
    loop = asyncio.new_event_loop()
    try:
        GrpcConnection(loop).data_received(b"".join(frames) + struct.pack(">I", 7))
    finally:
        loop.close()
