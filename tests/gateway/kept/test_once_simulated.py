"""Two processes whose clocks differ, over one table and one place of blobs that lose writes and answers and make some of them late, while
calls repeat under a few keys, processes die at any step, data keys are destroyed and what is over is swept. Whatever the order, nothing
runs twice under a key in 24 hours, and what was answered is answered again.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any

import pytest

from gateway.errors import Code, GatewayError
from gateway.kept.answer import Answer
from gateway.kept.claims import answer_name
from gateway.kept.expiry import Expiry
from gateway.kept.once import Claim, Once
from gateway.kept.ports import BlobsUnavailable
from gateway.kept.sweep import Sweep
from tenants.errors import Conflict, TableUnavailable
from tenants.ports import Item, Key, Page, Row
from tests.worlds.blobs import BlobWorld
from tests.worlds.blobs import Fault as BlobFault
from tests.worlds.keyring import KeyringWorld
from tests.worlds.table import Fault, MemoryTable

TENANT = "t_1"
SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US
KEYS = ("one", "two")
BODIES = (b"a", b"a", b"a", b"b")  # most repeat what was asked
STEPS = 500
APART_US = 240 * SECOND_US


@dataclass(slots=True)
class SteppedTable(MemoryTable):
    """Each call lets others run before it and after it. A write may be late: it has no answer and is made by `catch_up`, if ever."""

    random: Random = field(default_factory=Random)
    late: list[tuple[Item, ...]] = field(default_factory=list)
    lateness: float = 0.0

    async def get(self, key: Key) -> Row | None:
        await _others(self.random)
        return await MemoryTable.get(self, key)

    async def transact(self, *items: Item) -> None:
        await _others(self.random)
        if self.random.random() < self.lateness:
            self.late.append(items)
            raise TableUnavailable("late")
        await MemoryTable.transact(self, *items)
        await _others(self.random)

    async def list(
        self, partition: str, prefix: str = "", after: str | None = None, limit: int = 100
    ) -> Page:
        await _others(self.random)
        return await MemoryTable.list(self, partition, prefix, after, limit)

    async def catch_up(self) -> None:
        with suppress(Conflict, TableUnavailable):
            await MemoryTable.transact(self, *self.late.pop(self.random.randrange(len(self.late))))


@dataclass
class SteppedBlobs(BlobWorld):
    random: Random = field(default_factory=Random)

    async def put(self, name: str, data: bytes) -> bool:
        await _others(self.random)
        found = await super().put(name, data)
        await _others(self.random)
        return found


@dataclass
class Process:
    """`lost` are the calls whose answers it could not keep."""

    once: Once = field(init=False)
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    is_dead: bool = False

    def spawn(self, name: str, job: Coroutine[Any, Any, None]) -> None:
        if name.endswith("is lost"):
            self.lost.add(name.split()[2])
        if self.is_dead:
            job.close()
        else:
            self.start(job)

    def start(self, job: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(job))

    async def die(self) -> None:
        self.is_dead = True
        for task in self.tasks:
            task.cancel()
        for fault in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(fault, Exception):
                raise fault

    async def rest(self) -> None:
        while self.tasks:
            await self.tasks.pop()


@dataclass
class Told:
    """What a client heard: when its call ran, what it asked, and whether the data key is still there."""

    at_us: int
    body: bytes
    answer: Answer
    is_readable: bool = True


@dataclass
class Simulation:
    seed: int
    kind: type[Once] = Once
    apart_us: int = APART_US
    now_us: int = 1_700_000_000 * SECOND_US
    ran: dict[str, int] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=dict)
    requests: int = 0
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.table, self.blobs = SteppedTable(random=self.random), SteppedBlobs(random=self.random)
        self.keyring = KeyringWorld()
        self.processes = [self.started(0), self.started(self.apart_us)]

    def started(self, ahead_us: int) -> Process:
        process = Process()
        process.once = self.kind(
            self.table,
            self.blobs,
            self.keyring,
            lambda: self.now_us + ahead_us,
            Random(self.random.random()).randbytes,
            process.spawn,
        )
        return process

    async def call(self, process: Process) -> None:
        key, body = self.random.choice(KEYS), self.random.choice(BODIES)
        self.requests += 1
        request = f"r{self.requests}"
        before = self.told.get(key)
        try:
            found = await process.once.claim(TENANT, key, sha256(body).digest(), request, 30)
        except GatewayError as error:
            self.refused(before, body, error)
            return
        if isinstance(found, Answer):
            self.seen.add("replayed")
            told = self.told.get(key)
            assert found.body.startswith(body + b"/"), "the answer of another request"
            assert told is None or self.is_void(told) or found == told.answer, "another answer than was told"
            return
        await _others(self.random)
        if self.random.random() < 0.2:
            await process.once.release(found)
            return
        await self.run(process, key, body, found)

    async def run(self, process: Process, key: str, body: bytes, claim: Claim) -> None:
        assert self.now_us - self.ran.get(key, -DAY_US) >= DAY_US, "it ran twice"
        self.ran[key] = at_us = self.now_us
        self.told.pop(key, None)
        self.seen.add("ran")
        request = claim.claimed.request
        answer = Answer(200, (), body + b"/" + request.encode())
        await _others(self.random)
        if self.random.random() < 0.2:
            await process.once.lose(claim, self.random.choice(["streamed", "large", "unknown"]))
            return
        await process.once.keep(claim, answer)
        if request not in process.lost and not process.is_dead:
            number = answer_name(claim.digest, claim.claimed) in self.blobs.held
            self.told[key] = Told(at_us, body, answer, is_readable=number)

    def refused(self, before: Told | None, body: bytes, error: GatewayError) -> None:
        self.seen.add(error.code.value)
        if error.rendering.http == 503:
            return
        assert error.code in (Code.ALREADY_RUN, Code.IDEMPOTENCY_KEY_REUSED)
        if before is not None and before.is_readable and before.body == body and not self.is_void(before):
            raise AssertionError(f"what was told is not told again, but {error.sentence}")

    def is_void(self, told: Told) -> bool:
        return self.now_us - told.at_us >= DAY_US - 2 * self.apart_us

    def trouble(self) -> None:
        match self.random.randrange(5):
            case 0:
                self.table.write_faults.append(self.random.choice(list(Fault)))
            case 1:
                self.blobs.faults.append(self.random.choice(list(BlobFault)))
            case 2:
                self.table.throttled = self.random.randrange(4)
            case _:
                self.table.lateness = self.random.choice([0, 0, 0.2])

    async def crash(self) -> None:
        place = self.random.randrange(2)
        await self.processes[place].die()
        self.processes[place] = self.started(self.apart_us if place else 0)
        self.seen.add("died")

    async def pass_time(self) -> None:
        """A call is over long before hours have passed, and so is what goes on beside it."""
        for process in self.processes:
            await process.rest()
        self.now_us += self.random.choice([HOUR_US, 8 * HOUR_US, 12 * HOUR_US, 25 * HOUR_US])
        ahead_us = self.random.choice([0, self.apart_us])
        with suppress(TableUnavailable, BlobsUnavailable):
            await Sweep(self.table, lambda: self.now_us + ahead_us).look()
            await Expiry(self.blobs, _no_days, 25, lambda: (self.now_us + ahead_us) / 1e6).look()

    async def destroy(self) -> None:
        for process in self.processes:
            await process.rest()
        self.keyring.destroyed.add(self.keyring.made(TENANT, "replies").id)
        self.keyring.number += 1
        for told in self.told.values():
            told.is_readable = False

    async def step(self) -> None:
        chance = self.random.random()
        if chance < 0.5:
            process = self.random.choice(self.processes)
            process.start(self.call(process))
        elif chance < 0.6:
            self.trouble()
        elif chance < 0.64:
            await self.crash()
        elif chance < 0.7:
            await self.pass_time()
        elif chance < 0.71:
            await self.destroy()
        elif chance < 0.75 and self.table.late:
            await self.table.catch_up()
        self.now_us += self.random.randrange(SECOND_US)
        for _ in range(self.random.randrange(6)):
            await asyncio.sleep(0)

    async def play(self) -> None:
        for _ in range(STEPS):
            await self.step()
            for process in self.processes:
                for task in process.tasks:
                    if task.done():
                        task.result()
        for process in self.processes:
            await process.rest()


async def _no_days(_: str) -> int:
    return 1


async def _others(random: Random) -> None:
    for _ in range(random.randrange(3)):
        await asyncio.sleep(0)


class ByBlobsAlone(Once):
    """Who takes an answer in Blobs for the only sign that a call ran."""

    async def claim(
        self, tenant_id: str, key: str, fingerprint: bytes, request_id: str, seconds: float = 0.0
    ) -> Claim | Answer:
        try:
            return await super().claim(tenant_id, key, fingerprint, request_id, seconds)
        except GatewayError as error:
            if error.code is not Code.ALREADY_RUN:
                raise
            self.table.rows.clear()  # type: ignore[attr-defined]
            return await super().claim(tenant_id, key, fingerprint, request_id, seconds)


@pytest.mark.parametrize("seed", range(40))
async def test_nothing_runs_twice_and_what_was_answered_is_answered_again(seed: int) -> None:
    simulation = Simulation(seed)
    await simulation.play()
    assert simulation.seen >= {"replayed", "ran", "died", "already_run", "idempotency_key_reused"}


async def caught(simulation: Simulation) -> bool:
    try:
        await simulation.play()
    except AssertionError as fault:
        assert "twice" in str(fault)  # noqa: PT017 - that and nothing else is what it looks for
        for process in simulation.processes:  # another call may have found it too
            with suppress(AssertionError):
                await process.die()
        return True
    return False


async def test_the_simulation_catches_who_takes_an_answer_in_blobs_for_the_only_sign() -> None:
    assert all([await caught(Simulation(seed, kind=ByBlobsAlone)) for seed in range(5)])


async def test_the_simulation_catches_clocks_that_differ_by_more_than_they_may() -> None:
    assert any([await caught(Simulation(seed, apart_us=3 * DAY_US)) for seed in range(5)])
