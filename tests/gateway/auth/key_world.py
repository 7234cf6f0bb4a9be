"""Identity providers that rotate their keys and fail, a time that is driven by hand, and the key sets of a gateway over both."""

import asyncio
import heapq
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Any, Literal

from gateway.auth.key_sets import KeySets, KeysUnavailable, Source, Unreachable
from gateway.loops import jobs

Fault = Literal["lost before", "lost after", "hangs", "not readable", "of another issuer"]
ISSUER = "https://login.example"
HANG_SECONDS = 5.0  # as long as a fetch may take


class NotReadable(Exception):
    """What the reading functions raise."""


@dataclass(frozen=True, slots=True)
class Keys:
    kids: tuple[str, ...]

    @property
    def digest(self) -> str:
        return " ".join(self.kids)


def read(content: bytes) -> Keys:
    match json.loads(content):
        case {"kids": kids}:
            return Keys(tuple(kids))
    raise NotReadable("no keys are in it")


def discover(content: bytes) -> tuple[str, str]:
    match json.loads(content):
        case {"issuer": issuer, "jwks_uri": url}:
            return issuer, url
    raise NotReadable("no document of an issuer")


class Time:
    """Stands still, but for `pass_`; who sleeps on it is woken in order."""

    def __init__(self) -> None:
        self.now = 10_000.0
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), woken))
        await woken

    async def pass_(self, seconds: float) -> None:
        """Everything that is due meanwhile happens, at its time."""
        await settle()
        end = self.now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, woken = heapq.heappop(self._sleepers)
            self.now = at
            if not woken.done():
                woken.set_result(None)
                await settle()
        self.now = end


async def settle() -> None:
    """Whatever can happen without time passing has happened."""
    for _ in range(12):
        await asyncio.sleep(0)


@dataclass(slots=True)
class Provider:
    """Answers `latency` after it was asked, with its keys as they are when the request reaches it, half-way."""

    source: Source
    time: Time
    kids: list[str] = field(default_factory=lambda: ["kid-0"])
    latency: Callable[[], float] = lambda: 0.0
    fault: Fault | None = None
    fault_at: Literal["discovery", "keys"] = "keys"
    asked: list[str] = field(default_factory=list)
    served_at: dict[str, float] = field(default_factory=dict)
    """When each set was last taken from here."""
    failed_at: float = -1.0
    _under_way: int = 0

    @property
    def keys_url(self) -> str:
        return self.source.jwks_url or f"{self.source.issuer.rstrip('/')}/keys"

    async def get(self, url: str) -> bytes:
        assert not self._under_way, "two fetches of one source at once"
        self._under_way += 1
        try:
            return await self._answer(url)
        finally:
            self._under_way -= 1

    async def _answer(self, url: str) -> bytes:
        self.asked.append(url)
        latency = self.latency()
        is_keys = url == self.keys_url
        fault = self.fault if is_keys == (self.fault_at == "keys") else None
        if fault == "lost before":
            self._fail("no route")
        await self.time.sleep(HANG_SECONDS if fault == "hangs" else latency / 2)
        document = (
            {"kids": list(self.kids)}
            if is_keys
            else {"issuer": self.source.issuer, "jwks_uri": self.keys_url}
        )
        made_at = self.time.now
        if fault == "hangs":
            self._fail("no answer")
        await self.time.sleep(latency / 2)
        if fault == "lost after":
            self._fail("reset")
        if fault is not None:
            self.failed_at = self.time.now
            document = (
                {}
                if fault == "not readable"
                else {"issuer": "https://evil.example", "jwks_uri": self.keys_url}
            )
        elif is_keys:
            self.served_at[" ".join(document["kids"])] = made_at
        return json.dumps(document).encode()

    def _fail(self, reason: str) -> None:
        self.failed_at = self.time.now
        raise Unreachable(reason)


@dataclass(slots=True)
class Gateway:
    """Its key sets, and what they did: `starts` are the moments of fetches, `changes` the sources whose sets became others."""

    time: Time
    providers: dict[Source, Provider]
    sets: KeySets[Keys] = field(init=False)
    asked_for: list[tuple[str, bool, int]] = field(default_factory=list)
    starts: dict[Literal["asked", "refresh"], list[tuple[str, float]]] = field(
        default_factory=lambda: {"asked": [], "refresh": []}
    )
    changes: Counter[Source] = field(default_factory=Counter)
    _is_refreshing: bool = False

    async def get(self, url: str, *, insecure: bool, most_bytes: int) -> bytes:
        self.asked_for.append((url, insecure, most_bytes))
        for provider in self.providers.values():
            if url.startswith(provider.source.issuer.rstrip("/") + "/"):
                return await provider.get(url)
        raise Unreachable("no such host")

    async def refresh(self) -> None:
        self._is_refreshing = True
        await self.sets.refresh()
        self._is_refreshing = False

    async def authenticate(self, source: Source, kid: str) -> str:
        """What becomes of a token with this kid, as requests use key sets: "accepted", "unknown" (401) or "unavailable" (503)."""
        try:
            keys: Keys | None = self.sets.held(source) or await self.sets.current(source)
            while keys is not None and kid not in keys.kids:
                keys = await self.sets.newer(source, keys)
        except KeysUnavailable:
            return "unavailable"
        return "unknown" if keys is None else "accepted"


@asynccontextmanager
async def gateway(
    *issuers: str, jwks: bool = True, knobs: Mapping[str, Any] = MappingProxyType({})
) -> AsyncIterator[Gateway]:
    """A gateway over a provider for each issuer, whose keys' URL is configured, or to be discovered."""
    time = Time()
    sources = [Source(issuer, f"{issuer}/jwks" if jwks else None, insecure=False) for issuer in issuers]
    world = Gateway(time, {source: Provider(source, time) for source in sources})
    async with jobs() as start:

        def spawn(name: str, job: Coroutine[Any, Any, None]) -> None:
            issuer = name.removeprefix("keys of ")
            world.starts["refresh" if world._is_refreshing else "asked"].append((issuer, time.now))
            start(name, job)

        world.sets = KeySets(
            world, read, discover, NotReadable, time, spawn, lambda source: world.changes.update([source]),
            **knobs,
        )  # fmt: skip
        yield world


def only(world: Gateway) -> tuple[Source, Provider]:
    [(source, provider)] = world.providers.items()
    return source, provider


async def done(world: Gateway, *asking: Coroutine[Any, Any, str], seconds: float = 20) -> list[str]:
    """What became of them, all at once, once so much time has passed."""
    tasks = [asyncio.ensure_future(one) for one in asking]
    await world.time.pass_(seconds)
    assert all(task.done() for task in tasks), "somebody waits for ever"
    return [task.result() for task in tasks]
