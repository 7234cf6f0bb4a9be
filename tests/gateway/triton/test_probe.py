"""Whether what answers is the server that was started."""

import pytest

from gateway.triton.client import Client
from gateway.triton.probe import is_ready
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


async def test_a_server_that_does_not_answer_in_time_is_not_ready() -> None:
    async with served(parts(b"")) as server:
        client = Client("127.0.0.1", server.port)
        assert not await is_ready(client, "mine", seconds=0.05)
        client.close()
