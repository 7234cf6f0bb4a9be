"""Many clients at once, each over a kept-alive connection, each sending after the answer before; every answer is checked.

A load runs on a loop and a thread of its own, beside a test that breaks things meanwhile. It is bounded in time and in
count, and tells afterwards what each request saw and when.

CHAOS=full    the tests that load take the long form
CHAOS_SEED=N  the same moments and requests again
"""

import asyncio
import json
import os
import random
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import uvloop

from gateway.state import clock
from tests.e2e.world import fp32, milliseconds

FULL = os.environ.get("CHAOS") == "full"
ANSWER_SECONDS = 60.0  # a request without an answer for so long is lost
MOST = 100_000
_RECONNECT_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and the data of the one output that its answer must have."""

    model: str
    body: bytes
    wanted: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of one request; `sent` and `ended` are seconds of `clock`.

    `status` 0 means that the connection ended, or time ran out, before there was a whole answer. `fault` says what is wrong
    with an answer, of whatever status; most often nothing.
    """

    model: str
    sent: float
    ended: float
    status: int
    fault: str = ""
    said: str = ""
    closes: bool = False
    retry_after_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        return self.ended - self.sent

    def under_way(self, moment: float) -> bool:
        return self.sent <= moment <= self.ended


Asks = Callable[[random.Random], Ask]


@dataclass(frozen=True, slots=True)
class Traffic:
    """So many clients, which rest for about `pause_seconds` between an answer and their next request."""

    asks: Asks
    clients: int = 8
    pause_seconds: float = 0.02


Record = Callable[[str, object], None]  # the fixture record_property: figures are printed at the end


def seeded(record: Record) -> random.Random:
    """What a test draws its moments and its load from; the seed is printed."""
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbits(32))
    record("seed (CHAOS_SEED)", seed)
    return random.Random(seed)


# What is asked


def times(model: str, count: int = 4) -> Asks:
    """Small whole numbers to the model of that name, so that the answer is exact."""
    number = int(model.removeprefix("times") or 1)

    def ask(rng: random.Random) -> Ask:
        values = [float(rng.randint(1, 1000)) for _ in range(count)]
        return Ask(model, json.dumps(fp32(*values)).encode(), tuple(value * number for value in values))

    return ask


def slept(model: str, sleep_milliseconds: int) -> Asks:
    """So long a computation of the model `slow`."""
    asked = Ask(model, json.dumps(milliseconds(sleep_milliseconds)).encode(), (sleep_milliseconds,))
    return lambda _: asked


def zipf(choices: Sequence[Asks], exponent: float = 1.0) -> Asks:
    """The n-th of them 1/n^exponent times as often as the first."""
    weights = [1 / rank**exponent for rank in range(1, len(choices) + 1)]
    return lambda rng: rng.choices(choices, weights)[0](rng)


# Who asks


class Door(Protocol):
    """Where requests go, and with which key."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def key(self) -> str: ...


@dataclass(slots=True)
class Load:
    """`seen` grows while it runs; `refused` counts connections that were not accepted, on which nothing was sent."""

    door: Door
    rng: random.Random
    most: int
    until: float
    seen: list[Seen] = field(default_factory=list)
    refused: int = 0
    _begun: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)

    async def run(self, traffic: Sequence[Traffic]) -> None:
        seeded = [(kind, random.Random(self.rng.random())) for kind in traffic for _ in range(kind.clients)]
        await asyncio.gather(*(self._client(kind, rng) for kind, rng in seeded))

    def stop(self) -> None:
        """What is under way is answered still; nothing new is sent."""
        self._stopped.set()

    def answered(self, model: str, since: float) -> bool:
        """Whether a request for it that was sent since then has its answer."""
        return any(s.model == model and s.sent >= since and s.status == 200 for s in reversed(self.seen))

    def _goes_on(self) -> bool:
        return not self._stopped.is_set() and self._begun < self.most and clock() < self.until

    async def _client(self, traffic: Traffic, rng: random.Random) -> None:
        while self._goes_on():
            try:
                reader, writer = await asyncio.open_connection(self.door.host, self.door.port)
            except ConnectionRefusedError:
                self.refused += 1
                await asyncio.sleep(_RECONNECT_SECONDS)
                continue
            try:
                closes = False
                while not closes and self._goes_on():
                    closes = await self._one(reader, writer, traffic.asks(rng))
                    await asyncio.sleep(traffic.pause_seconds * rng.uniform(0.5, 1.5))
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ask: Ask) -> bool:
        """Whether the connection is closed after this request."""
        self._begun += 1
        sent = clock()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(_request(ask, self.door.key))
                await writer.drain()
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                status, headers = _parsed(head)
                body = await reader.readexactly(int(headers["content-length"]))
        except (OSError, EOFError, TimeoutError) as why:
            self.seen.append(Seen(ask.model, sent, clock(), 0, f"no whole answer: {why!r}"))
            return True
        closes = headers.get("connection") == "close"
        wait = float(headers.get("retry-after", "0"))
        fault, said = _judged(ask, status, body)
        self.seen.append(Seen(ask.model, sent, clock(), status, fault, said, closes, wait))
        return closes


def _request(ask: Ask, key: str) -> bytes:
    head = f"POST /v2/models/{ask.model}/infer HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(ask.body) + ask.body


def _parsed(head: str) -> tuple[int, dict[str, str]]:
    first, *lines = head.strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}


def _judged(ask: Ask, status: int, body: bytes) -> tuple[str, str]:
    """What is wrong with a whole answer, and what it says if it is an error."""
    try:
        answer: Any = json.loads(body)
        if status != 200:
            return "", str(answer["error"])
        (output,) = answer["outputs"]
        right = (answer["model_name"], tuple(output["data"])) == (ask.model, ask.wanted)
        return "" if right else f"wrong: {body[:300]!r}", ""
    except (ValueError, KeyError, TypeError) as fault:
        return f"unreadable: {fault!r} in {body[:300]!r}", ""


@contextmanager
def loading(
    door: Door, rng: random.Random, *traffic: Traffic, most: int = MOST, seconds: float = 300.0
) -> Iterator[Load]:
    """The load runs while the block does; when the block has ended, so have all its requests."""
    load = Load(door, rng, most, clock() + seconds)
    thread = threading.Thread(target=lambda: uvloop.run(load.run(traffic)))
    thread.start()
    try:
        yield load
    finally:
        load.stop()
        thread.join()


# What was seen


def statuses(seen: Sequence[Seen]) -> Counter[int]:
    return Counter(one.status for one in seen)


def faults(seen: Sequence[Seen]) -> list[Seen]:
    """Answers that are wrong, short or not there."""
    return [one for one in seen if one.fault]


def of(seen: Sequence[Seen], model: str, since: float = 0.0, until: float = float("inf")) -> list[Seen]:
    """The requests for that model that were sent in this time."""
    return [one for one in seen if one.model == model and since <= one.sent < until]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def latencies(seen: Sequence[Seen]) -> str:
    """p50 and p99, for people."""
    seconds = [one.seconds for one in seen]
    if not seconds:
        return "none"
    return f"p50 {percentile(seconds, 0.5) * 1e3:.1f} ms, p99 {percentile(seconds, 0.99) * 1e3:.1f} ms of {len(seconds):,}"
