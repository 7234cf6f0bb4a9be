"""Of what a provider answers, whole JSON of a bounded size is taken; of the rest no byte is kept and little is told."""

import asyncio
import gzip
import socket

import pytest

from gateway.auth.key_sets import Unreachable
from gateway.stores.web import Web
from tests.gateway.stores.web_world import LOOPBACK, MOST, NAME, Zone, fetched, json, refusal, serving

CHUNKED = json(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/jwk-set+json"]
)
async def test_json_by_any_of_its_names_is_taken(kind: str) -> None:
    async with serving(json(kind=kind)) as site:
        assert await fetched(site) == b'{"keys":[]}'


async def test_a_body_of_the_largest_size_is_taken_chunked_and_by_length() -> None:
    content = b" " * MOST
    chunked = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%s\r\n0\r\n\r\n" % (MOST, content)
    )
    for answer in (json(content), chunked):
        async with serving(answer) as site:
            assert await fetched(site) == content


@pytest.mark.parametrize("status", ["201 Created", "202 Accepted", "206 Partial", "404 No", "503 No"])
async def test_anything_but_200_is_refused(status: str) -> None:
    assert f"answered {status[:3]}" in await refusal(json().replace(b"200 OK", status.encode()))


@pytest.mark.parametrize(
    "kind",
    [
        "text/html",
        "text/plain",
        "",
        "application/javascript",
        "application/jsonp",
        "application/x+jsonx",
        "json",
        "\x7f",
    ],
)
async def test_what_is_not_json_by_its_type_is_refused(kind: str) -> None:
    assert "is not JSON" in await refusal(json(kind=kind))


async def test_a_body_without_a_type_is_refused() -> None:
    assert "is not JSON" in await refusal(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "x"])
async def test_a_bomb_stays_closed(encoding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))[:MOST]
    assert "content encoding" in await refusal(json(bomb, more=f"Content-Encoding: {encoding}\r\n"))


async def test_two_lines_of_encodings_are_no_way_around() -> None:
    assert "content encoding" in await refusal(
        json(more="Content-Encoding: identity\r\nContent-Encoding: gzip\r\n")
    )


async def test_a_body_of_one_byte_more_is_refused_chunked_and_by_length() -> None:
    content = b" " * (MOST + 1)
    for answer in (json(content), CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (MOST + 1, content)):
        assert f"answered more than {MOST} bytes" in await refusal(answer)


@pytest.mark.parametrize("framing", ["length", "chunked", "until the end"])
async def test_a_body_that_is_too_large_is_left_and_not_kept(framing: str) -> None:
    fields = {
        "length": b"Content-Length: 1000000000\r\n",
        "chunked": b"Transfer-Encoding: chunked\r\n",
        "until the end": b"",
    }
    sent = 0

    async def answer(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + fields[framing] + b"\r\n")
        while sent < 1_000_000_000:
            writer.write(b"100\r\n%s\r\n" % bytes(256) if framing == "chunked" else bytes(256))
            sent += 256
            await writer.drain()

    assert f"answered more than {MOST} bytes" in await refusal(answer)
    assert sent < 10_000_000  # what the sockets hold between them


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X"),
        (b"HTTP/1.1 200 OK\r\nX-A: ", b"b"),
        (b"HTTP/1.1 200 ", b"b"),
        (b"", b"x"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"),
        (CHUNKED + b"1;x=", b"y"),
        (CHUNKED + b"0\r\n", b"X-A: b\r\n"),
        (CHUNKED + b"0\r\n", b"X"),
    ],
)
async def test_what_has_no_end_around_a_body_is_left_at_once(head: bytes, piece: bytes) -> None:
    sent = 0

    async def answer(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(head)
        while True:
            writer.write(piece * 1000)
            sent += len(piece) * 1000
            await writer.drain()

    assert "no HTTP that is whole" in (told := await refusal(answer)) or "more than" in told
    assert sent < 10_000_000  # what the sockets hold between them


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\nX-A: ", json(b"b" * MOST)[:-MOST], CHUNKED + b"1;x="]
)
async def test_an_answer_that_drips_is_left_in_time(start: bytes) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(b"b")
            await writer.drain()
            await asyncio.sleep(0.01)  # a drip, and nothing waits for it

    assert "no answer in 0.2 s" in await refusal(answer, answer_seconds=0.2)


async def test_a_server_that_accepts_and_says_nothing_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for scheme in ("http", "https"):
            with pytest.raises(Unreachable, match=r"no answer in 0\.2 s"):
                await Web(Zone(**LOOPBACK), answer_seconds=0.2).get(
                    f"{scheme}://{NAME}:{port}/", insecure=True, most_bytes=MOST
                )


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n",
        b"nonsense\r\n\r\n",
        json()[:-1],
        json()[:20],
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: x\r\n\r\n{}",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{}",
    ],
)
async def test_an_answer_that_is_cut_or_no_http_is_refused(answer: bytes) -> None:
    assert await refusal(answer)


# What is told


async def test_a_refusal_names_the_host_and_nothing_of_path_query_or_answer() -> None:
    planted = "hunter2"
    answers = [
        json(kind="text/html").replace(b"\r\n\r\n", f"\r\nX-A: {planted}\r\n\r\n".encode()),
        f"HTTP/1.1 500 {planted}\r\nContent-Length: 7\r\n\r\n{planted}".encode(),
        f"{planted}\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\nX-A: {planted * 2000}\r\n\r\n".encode(),
        b"",
    ]
    for answer in answers:
        async with serving(answer) as site:
            with pytest.raises(Unreachable) as refused:
                await fetched(site, path=f"/{planted}?{planted}")
        text = str(refused.value)
        assert text.startswith(f"{NAME}:{site.port}: ")
        assert planted not in text
    with pytest.raises(Unreachable) as refused:
        await Web(Zone()).get(f"https://user:{planted}@{NAME}/", insecure=True, most_bytes=MOST)
    assert planted not in str(refused.value)


async def test_what_a_stranger_sent_is_told_short_and_escaped() -> None:
    told = await refusal(json(kind="a\x1b[31m" + "x" * 5000))
    assert len(told) < 200
    assert told.isprintable()


async def test_a_name_that_is_not_there_is_named() -> None:
    for zone, reason in (
        (Zone(), "was not found: Name or service"),
        (Zone(login_example=[[]]), "has no address"),
    ):
        with pytest.raises(Unreachable, match=reason):
            await Web(zone).get(f"https://{NAME}/", insecure=False, most_bytes=MOST)


async def test_a_port_where_nobody_listens_is_named() -> None:
    async with serving(b"") as site:
        pass
    with pytest.raises(Unreachable, match="cannot be connected to"):
        await fetched(site)
