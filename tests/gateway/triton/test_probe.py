"""What a server is asked before it is used, and what its answers are worth."""

import pytest

from gateway.triton.client import Client, UpstreamFailed
from gateway.triton.probe import is_ready, loaded
from tests.gateway.triton.worlds import HEAD, Script, answers, parts, served


def named(body: bytes, status: bytes = b"200 OK") -> Script:
    return answers(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


@pytest.mark.parametrize(
    ("script", "ready"),
    [
        (named(b'{"name":"mine"}'), True),
        (named(b'{"name":"yours"}'), False),
        (named(b'{"name":"mine"}', b"503 Unavailable"), False),
        (named(b"<html>"), False),
        (named(b'{"name":"\xff"}'), False),
    ],
    ids=["mine", "another's", "not yet", "no triton", "no text"],
)
async def test_a_server_is_ready_when_the_one_that_was_started_says_so(
    script: Script, *, ready: bool
) -> None:
    async with served(script) as server:
        client = Client("127.0.0.1", server.port)
        assert await is_ready(client, "mine") is ready
        client.close()


async def test_a_server_that_is_not_there_or_breaks_off_is_not_ready() -> None:
    async with served(parts(HEAD, None)) as server:
        assert not await is_ready(Client("127.0.0.1", server.port), "mine")
    assert not await is_ready(Client("127.0.0.1", server.port), "mine")


def metadata(body: bytes, status: bytes = b"200 OK") -> Script:
    return answers(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (metadata(b'{"name":"digits","versions":["1","10","9"]}'), {"digits": ("1", "10", "9")}),
        (metadata(b'{"name":"digits"}'), {"digits": ()}),
        (metadata(b'{"error":"unknown"}', b"404 Not Found"), {}),
    ],
)
async def test_the_versions_of_what_is_served_are_found(
    reply: Script, found: dict[str, tuple[str, ...]]
) -> None:
    async with served(reply) as server:
        client = Client("127.0.0.1", server.port)
        assert await loaded(client, ["digits"]) == found
        client.close()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"versions":1}', b'{"versions":["one"]}', b""])
async def test_what_is_no_metadata_is_a_failure_of_the_server(body: bytes) -> None:
    async with served(metadata(body)) as server:
        client = Client("127.0.0.1", server.port)
        with pytest.raises(UpstreamFailed):
            await loaded(client, ["digits"])
        client.close()
