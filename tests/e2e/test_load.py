"""The load sees what it is there to see: answers that are wrong, short, of another model, or not there."""

import asyncio
import json
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.e2e.load import Seen, Traffic, faults, latencies, loading, percentile, slept, statuses, times
from tests.e2e.world import until


def reply(data: list[float], *, model: str = "times03", status: str = "200 OK", head: str = "") -> bytes:
    output = {"name": "out", "datatype": "FP32", "shape": [len(data)], "data": data}
    return raw(json.dumps({"model_name": model, "outputs": [output]}), status, head)


def raw(body: str, status: str = "200 OK", head: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{head}content-length: {len(body)}\r\n\r\n{body}".encode()


@dataclass(frozen=True, slots=True)
class Scripted:
    """A server on one port that answers each request on a connection with the next of its replies, and then closes it."""

    host: str
    port: int
    key: str = "key"


@contextmanager
def scripted(*replies: bytes) -> Iterator[Scripted]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            for answer in replies:
                data = b""
                while not data.endswith(b"}]}"):
                    data += connection.recv(65536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Scripted("127.0.0.1", listener.getsockname()[1])
    finally:
        thread.join()


def seen(*replies: bytes) -> list[Seen]:
    """What one client makes of these replies to its requests for 3 times 1, 2, 3, 4."""
    fixed = times("times03")(random.Random(0))
    with (
        scripted(*replies) as server,
        loading(server, random.Random(0), Traffic(lambda _: fixed, 1, 0), most=len(replies)) as load,
    ):
        until(lambda: len(load.seen) == len(replies), 10)
    return load.seen


RIGHT = list(times("times03")(random.Random(0)).wanted)


def test_right_answers_have_no_fault_and_keep_the_connection() -> None:
    found = seen(reply(RIGHT), reply(RIGHT))
    assert (statuses(found), faults(found)) == ({200: 2}, [])
    assert found[0].ended <= found[1].sent


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (reply([RIGHT[0] + 1, *RIGHT[1:]]), "wrong"),
        (reply(RIGHT[:3]), "wrong"),
        (reply(RIGHT, model="times04"), "wrong"),
        (raw("{}"), "unreadable"),
        (raw("<html>", "502 Bad Gateway"), "unreadable"),
        (reply(RIGHT)[:-10], "no whole answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-", "no whole answer"),
        (b"", "no whole answer"),
    ],
    ids=["value", "fewer", "model", "no outputs", "no JSON", "short", "half a head", "nothing"],
)
def test_a_wrong_or_short_answer_is_a_fault(answer: bytes, fault: str) -> None:
    (found,) = seen(answer)
    assert found.fault.startswith(fault)
    assert found.status == (0 if fault == "no whole answer" else int(answer.split()[1]))


def test_a_refusal_is_no_fault_and_tells_when_to_come_again() -> None:
    refusal = raw('{"error": "full"}', "503 Service Unavailable", "retry-after: 3\r\nconnection: close\r\n")
    (found,) = seen(refusal)
    assert (found.status, found.fault, found.said) == (503, "", "full")
    assert (found.retry_after_seconds, found.closes) == (3.0, True)


def test_a_reset_connection_is_a_fault() -> None:
    """Another client of the same server has nothing to do with it."""

    async def meet() -> Seen:
        def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            door = Scripted(*server.sockets[0].getsockname())
            return await asyncio.to_thread(first, door)

    def first(door: Scripted) -> Seen:
        with loading(door, random.Random(0), Traffic(slept("slow", 1), 1, 0), most=1) as load:
            return until(lambda: load.seen, 10)[0]

    found = asyncio.run(meet())
    assert (found.status, found.fault.startswith("no whole answer")) == (0, True)


def test_percentiles_are_of_what_was_measured() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile(list(range(100)), 0.99) == 99
    assert percentile([1.0], 0.99) == 1.0
    sample = [Seen("a", 0, second / 1000, 200) for second in range(1, 101)]
    assert latencies(sample) == "p50 51.0 ms, p99 100.0 ms of 100"
    assert latencies([]) == "none"
