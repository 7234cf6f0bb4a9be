"""Some processes with their keyrings and caretakers, over tables and a KeyService that come and go, while people rotate, destroy, keep and
rewrap, and processes stop in the middle of what they do. Whatever the order, what the keyring promises holds.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, get_args

import pytest

from gateway.audit.record import Sealer
from gateway.audit.sealing import Sealers
from gateway.envelope import wrapped
from gateway.envelope.caretaker import ORPHAN_SECONDS, SWEEP_SECONDS, Caretaker
from gateway.envelope.keyring import CONFIRM_SECONDS, KeyDestroyed, Keyring, Knobs
from gateway.envelope.keys import DataKey, Purpose
from gateway.envelope.ports import KeyRefused, KeysUnavailable
from gateway.envelope.series import Series
from gateway.envelope.wrapped import wrapped_at
from tenants import data_keys
from tenants.data_keys import DataKeyRecord
from tenants.directory import Directory
from tenants.errors import TenantsError
from tenants.rows import HEAD_AT, read
from tests.gateway.envelope.world import World, made, secret, tenant_id
from tests.worlds.kms import arn
from tests.worlds.table import Fault

PURPOSES = get_args(Purpose)
DAY = 86_400
STEPS = 200


@dataclass
class Process:
    """What it hears by its feed it knows as of `confirmed`; its `jobs` end with it. `calls` are open, each with what sealed its intent."""

    keyring: Keyring
    sealers: Sealers
    caretaker: Caretaker
    jobs: list["asyncio.Task[None]"]
    confirmed: float = -1.0
    seen: int = 0
    calls: list[Series] = field(default_factory=list)


@dataclass
class Simulation:
    world: World
    acme: str
    random: Random
    processes: list[Process] = field(default_factory=list)
    secrets: dict[str, bytes] = field(default_factory=dict)
    retired_at: dict[str, float] = field(default_factory=dict)
    sealed: int = 0
    opened: int = 0
    settled: int = 0
    faulty: bool = True

    def start(self) -> Process:
        entropy, jobs = Random(f"{self.random.random()}").randbytes, list["asyncio.Task[None]"]()
        world, keys = self.world, Directory(self.world.rows, entropy).data_keys

        def now_us() -> int:
            return int(world.now * 1_000_000)

        def spawn(_: str, job: Coroutine[Any, Any, None]) -> None:
            jobs.append(asyncio.create_task(job))

        keyring = Keyring(
            keys, world.wrapped, world.service, clock=lambda: world.now, confirmed_at=lambda: process.confirmed,
            now_us=now_us, entropy=entropy, spawn=spawn, knobs=Knobs(most_uses=40),
        )  # fmt: skip
        sealers = Sealers(keyring, lambda: "s1")
        process = Process(keyring, sealers, Caretaker(keys, world.wrapped, world.service, now_us), jobs)
        return process

    # What is true

    def records(self) -> dict[str, DataKeyRecord]:
        rows = self.world.rows.rows.items()
        return {
            at.sort.removeprefix("datakey/"): read(row, DataKeyRecord)
            for at, row in rows
            if at.sort.startswith("datakey/")
        }

    def is_destroyed_for(self, record: DataKeyRecord) -> float:
        """Seconds since then; below 0: it is not."""
        now_us = int(self.world.now * 1_000_000)
        if data_keys.state(record, now_us) != "destroyed" or record.destroys_us is None:
            return -1.0
        return (now_us - record.destroys_us) / 1_000_000

    def check(self, key: DataKey) -> DataKeyRecord:
        record = self.records()[key.id]
        assert self.is_destroyed_for(record) < CONFIRM_SECONDS, "a key outlived its destruction"
        assert self.secrets.setdefault(key.id, secret(key)) == secret(key), "one key, two secrets"
        return record

    def note_retired(self) -> None:
        for key_id, record in self.records().items():
            if record.state != "active":
                self.retired_at.setdefault(key_id, self.world.now)

    # What is done

    async def seal(self, process: Process, purpose: Purpose) -> None:
        with suppress(KeysUnavailable, KeyRefused):
            key = await process.keyring.key(self.acme, purpose)
            record = self.check(key)
            assert record.purpose == purpose
            is_there = wrapped_at(self.acme, key.id) in self.world.wrapped.rows
            assert is_there or self.is_destroyed_for(record) >= 0, "sealed with a key that nobody can unwrap"
            self.note_retired()
            retired_at = self.retired_at.get(key.id, self.world.now + 1)
            assert self.world.now - retired_at < CONFIRM_SECONDS, "an old key still seals"
            assert process.confirmed <= retired_at or process.seen < self.head(), (
                "the feed told, and it seals"
            )
            self.sealed += 1

    async def open(self, process: Process, key_id: str) -> None:
        try:
            self.check(await process.keyring.opening(self.acme, key_id))
            self.opened += 1
        except KeyDestroyed:
            assert self.is_destroyed_for(self.records()[key_id]) >= 0, "a key is lost that nobody destroyed"
        except KeysUnavailable:
            assert self.faulty, "no key, and no fault"

    async def begin(self, process: Process) -> None:
        with suppress(KeysUnavailable, KeyRefused):
            process.calls.append(await process.sealers.fetched(self.acme))

    def settle(self, process: Process) -> None:
        """A call ends, however long ago it began."""
        if process.calls:
            given = process.calls.pop(self.random.randrange(len(process.calls)))
            found = process.sealers.now(self.acme, given)
            assert found is given or not given.is_closed or self.is_gone(given), "closed, and not destroyed"
            self.check_sealer(found)
            self.settled += found is given

    def is_gone(self, series: Series) -> bool:
        return self.is_destroyed_for(self.records()[series.data_key]) >= 0

    def check_sealer(self, found: Sealer | None) -> None:
        if found is not None:
            assert isinstance(found, Series)
            gone_for = self.is_destroyed_for(self.records()[found.data_key])
            assert gone_for < CONFIRM_SECONDS, "a body is sealed under a destroyed key"
            assert found.seal("r", b"{}")

    async def close_destroyed(self, process: Process) -> None:
        """As far as the directory answers, nothing is left in memory that opens old bodies, an open call's neither."""
        was_gone = [
            it
            for it in process.calls
            if self.is_destroyed_for(self.records()[it.data_key]) >= CONFIRM_SECONDS
        ]
        is_heard = not self.world.rows.gone
        await process.sealers.look()
        is_heard = is_heard and not self.world.rows.gone
        assert not is_heard or all(it.is_closed for it in was_gone), "a destroyed key is still in memory"

    def head(self) -> int:
        return self.world.rows.rows[HEAD_AT].version

    def feed(self, process: Process) -> None:
        if not self.world.rows.gone:
            if process.seen < self.head():
                process.seen = self.head()
                process.keyring.changed([self.acme])
            process.confirmed = self.world.now

    async def people(self) -> None:
        keys, act, ids = self.world.directory.data_keys, self.world.act(), sorted(self.secrets)
        key_id = self.random.choice(ids) if ids else "d_none"
        with suppress(TenantsError):
            match self.random.choice(["rotate", "destroy", "keep", "rewrap", "kms key"]):
                case "rotate":
                    await keys.rotate("acme", act, purpose=self.random.choice(PURPOSES))
                case "destroy":
                    wait = self.random.choice([0, 30, DAY])
                    await keys.destroy("acme", key_id, act, wait_seconds=wait, backup_days=7)
                case "keep":
                    await keys.keep("acme", key_id, act)
                case "kms key":
                    own = self.random.choice([None, arn(1), arn(2)])
                    await self.world.directory.tenants.change("acme", act, kms_key=own)
                case _:
                    await keys.rewrap("acme", key_id, act)

    def fault(self) -> None:
        world, kind = self.world, self.random.choice(["service", "rows", "wrapped", "slow", "lost"])
        match kind:
            case "service":
                world.service.gone = not world.service.gone
            case "rows":
                world.rows.gone = not world.rows.gone
            case "wrapped":
                world.wrapped.gone = not world.wrapped.gone
            case "slow":
                world.service.go.clear()
            case _:
                self.random.choice([world.rows, world.wrapped]).write_faults.append(
                    self.random.choice(list(Fault))
                )

    def heal(self) -> None:
        world = self.world
        world.service.gone = world.rows.gone = world.wrapped.gone = False
        world.service.go.set()
        for table in (world.rows, world.wrapped):
            table.write_faults.clear()

    async def stop(self, process: Process) -> None:
        for job in process.jobs:
            job.cancel()
        for done in await asyncio.gather(*process.jobs, return_exceptions=True):
            if isinstance(done, Exception):
                raise done
        self.processes[self.processes.index(process)] = self.start()

    def drawn(self, process: Process) -> Coroutine[Any, Any, None] | None:
        """What somebody starts now, if it is that."""
        kinds = ["seal", "open", "people", "look", "refresh", "begin", "close"]
        match self.random.choices(kinds, [30, 30, 8, 5, 8, 8, 8])[0]:
            case "seal":
                return self.seal(process, self.random.choice(PURPOSES))
            case "open":
                return self.open(process, self.random.choice(sorted(self.secrets))) if self.secrets else None
            case "people":
                return self.people()
            case "look":
                return process.caretaker.look()
            case "begin":
                return self.begin(process)
            case "close":
                return self.close_destroyed(process)
            case _:
                return process.keyring.refresh()

    async def step(self) -> None:
        process = self.random.choice(self.processes)
        kinds = ["start", "wait", "feed", "fault", "heal", "stop", "long", "settle"]
        weights = [80, 15, 15, 6, 8, 2, 1, 8]
        match self.random.choices(kinds, weights)[0]:
            case "wait":
                self.world.now += self.random.uniform(0, 40)
            case "long":
                self.world.now += self.random.choice([DAY, 3600])
            case "feed":
                self.feed(process)
            case "fault":
                self.fault()
            case "heal":
                self.heal()
            case "stop":
                await self.stop(process)
            case "settle":
                self.settle(process)
            case _ if (job := self.drawn(process)) is not None:
                process.jobs.append(asyncio.create_task(job))
        for _ in range(40):
            await asyncio.sleep(0)
            self.note_retired()
        for done in [it for it in process.jobs if it.done() and not it.cancelled()]:
            process.jobs.remove(done)
            done.result()

    async def end(self) -> None:
        """With nothing in the way, everything comes to what the directory says."""
        self.heal()
        for process in self.processes:
            await asyncio.gather(*process.jobs)
            process.jobs.clear()
        self.world.now += CONFIRM_SECONDS + DAY
        for seconds in (SWEEP_SECONDS, ORPHAN_SECONDS, SWEEP_SECONDS):
            for process in self.processes:
                await process.caretaker.look()
            self.world.now += seconds
        self.faulty = False
        for process in self.processes:
            for key_id in sorted(self.secrets):
                await self.open(process, key_id)
            await process.sealers.look()
            assert all(it.is_closed == self.is_gone(it) for it in process.calls), (
                "closed exactly where destroyed"
            )
        records = self.records()
        assert not await self.world.directory.data_keys.due()
        alive = {key_id for key_id, it in records.items() if it.state != "destroyed"}
        rows = self.world.wrapped.rows
        assert {at.sort for at in rows} == alive
        own = (await self.world.directory.tenants.show("acme")).kms_key
        living = {key_id for key_id in alive if records[key_id].state != "destroying"}
        assert {wrapped.read(row).with_key for at, row in rows.items() if at.sort in living} <= {own}


@pytest.mark.parametrize("seed", range(10))
async def test_whatever_happens_no_key_outlives_its_end_and_none_is_lost_that_was_not_destroyed(
    seed: int,
) -> None:
    print("seed", seed)
    world = await made(lambda _, job: job.close())
    simulation = Simulation(world, await tenant_id(world), Random(seed))
    simulation.processes = [simulation.start() for _ in range(3)]
    try:
        for _ in range(STEPS):
            await simulation.step()
        await simulation.end()
    finally:
        for process in list(simulation.processes):
            await simulation.stop(process)
    assert simulation.sealed > STEPS / 20
    assert simulation.opened > STEPS / 20
