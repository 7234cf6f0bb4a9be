"""Explicit model control as Triton keeps it: which model is in which state, and what it takes. The half of TritonWorld behind its HTTP."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

# The last two are a model's own: a stub that is dead, and one that hangs. They befall canaries too; the others befall calls only.
Mood = Literal[
    "answers",
    "holds",
    "closes before",
    "closes within",
    "stops within",
    "cannot read",
    "closes within an error",
    "finds nothing",
    "raises",
    "crashes",
    "silent",
]
State = Literal["", "LOADING", "READY", "UNLOADING", "UNAVAILABLE"]


class Refused(Exception):
    """An answer that is no 200."""

    def __init__(self, status: int, body: bytes, kind: str = "application/json") -> None:
        super().__init__(body)
        self.reply = reply(status, body, kind)


@dataclass(slots=True, eq=False)
class Place:
    """A model as the server sees it."""

    state: State = ""
    reason: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class Loading:
    """`provided` are the models whose files are in the server's repository: these it can load, as version 3.

    One of `moods` that crashes or is silent never finishes its unload once a request has met it, and is repaired by a load behind that.
    `broken` are models that fail to load, and with what words. A load or unload takes its seconds and, where `gates` has an event for
    it ("load digits"), until that is set. `sizes` are bytes: they are taken from the load until UNAVAILABLE, and `peak_bytes` is the
    most that was ever taken at once. `misuses` is what its caller must never do.
    """

    provided: set[str] = field(default_factory=set)
    moods: dict[str, Mood] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    load_seconds: float = 0.0
    unload_seconds: float = 0.0
    loads: list[str] = field(default_factory=list)
    unloads: list[str] = field(default_factory=list)
    misuses: list[str] = field(default_factory=list)
    peak_bytes: int = 0
    in_flight: Counter[str] = field(default_factory=Counter)
    _places: dict[str, Place] = field(default_factory=dict)
    _wedged: set[str] = field(default_factory=set)
    _work: set[asyncio.Task[None]] = field(default_factory=set)

    def state(self, model: str) -> State:
        return self._place(model).state

    async def reached(self, model: str, state: State) -> None:
        """Return once the model is in that state."""
        place = self._place(model)
        while place.state != state:
            place.changed.clear()
            await place.changed.wait()

    @property
    def taken_bytes(self) -> int:
        held = [model for model, place in self._places.items() if place.state not in ("", "UNAVAILABLE")]
        return sum(self.sizes.get(model, 0) for model in held)

    def index(self) -> list[dict[str, str]]:
        return [self._indexed(model) for model in sorted(self.provided | set(self._places))]

    def _indexed(self, model: str) -> dict[str, str]:
        place = self._place(model)
        if not place.state:
            return {"name": model}
        reason = {"reason": place.reason} if place.reason else {}
        return {"name": model, "version": "3", "state": place.state} | reason

    def serves(self, model: str, kind: str = "application/json") -> None:
        """Raise what Triton answers to who asks for a model that is not ready."""
        state = self.state(model)
        if state != "READY":
            why = "has no available versions" if state else "is not found"
            raise Refused(404, f'{{"error":"Request for unknown model: \'{model}\' {why}"}}'.encode(), kind)

    async def load(self, model: str) -> None:
        """Goes on also when its caller leaves. Raises Refused."""
        if model not in self.provided:
            text = f"failed to load '{model}', failed to poll from model repository"
            raise Refused(500, msgspec.json.encode({"error": text}))
        state = self.state(model)
        if state == "READY":
            return  # a no-op, also for one that crashed
        if state in ("LOADING", "UNLOADING") and model not in self._wedged:
            self.misuses.append(f"{model} was loaded while {state}")
        self.loads.append(model)
        self._enter(model, "LOADING")
        self.peak_bytes = max(self.peak_bytes, self.taken_bytes)
        await asyncio.shield(self._spawn(self._loading(model)))
        if model in self.broken:
            text = (
                f"load failed for model '{model}': version 3 is at UNAVAILABLE state: {self.broken[model]};\n"
            )
            raise Refused(400, msgspec.json.encode({"error": text}))

    async def _loading(self, model: str) -> None:
        await self._passes(f"load {model}", self.load_seconds)
        if model in self.broken:
            self._enter(model, "UNAVAILABLE", self.broken[model])
            return
        if self.moods.get(model) in ("crashes", "silent"):
            del self.moods[model]
            self._wedged.discard(model)
        self._enter(model, "READY")

    def unload(self, model: str) -> None:
        if self.state(model) == "READY":
            self.unloads.append(model)
            self._enter(model, "UNLOADING")
            if model not in self._wedged:
                self._spawn(self._unloading(model))
        elif self.state(model) == "LOADING":
            self.misuses.append(f"{model} was unloaded while it was loaded")

    async def _unloading(self, model: str) -> None:
        """What it has is finished first."""
        place = self._place(model)
        await self._passes(f"unload {model}", self.unload_seconds)
        while self.in_flight[model]:
            place.changed.clear()
            await place.changed.wait()
        self._enter(model, "UNAVAILABLE", "unloaded")

    def begin(self, model: str) -> None:
        """An inference is under way."""
        self.in_flight[model] += 1

    def finish(self, model: str) -> None:
        self.in_flight[model] -= 1
        self._place(model).changed.set()

    def wedge(self, model: str) -> None:
        """A request has met a stub that is dead or hangs."""
        self._wedged.add(model)

    def forget(self) -> None:
        """The process is gone, and all that it did."""
        for work in self._work:
            work.cancel()
        self._places.clear()
        self._wedged.clear()

    def _place(self, model: str) -> Place:
        return self._places.setdefault(model, Place())

    def _enter(self, model: str, state: State, reason: str = "") -> None:
        place = self._place(model)
        place.state, place.reason = state, reason
        place.changed.set()

    async def _passes(self, gate: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if gate in self.gates:
            await self.gates[gate].wait()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task


def reply(status: int, body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
