"""Gateways, nannies and servers are killed in any order, at any step of a start too. While any gateway lives every server that was neither
killed nor stopped lives, as the same process, and who has charge has all of them in hand; with the last gateway all are gone."""

import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.scaling.scalers.wheel import Wheel
from tests.gateway.scaling.gateways import Gateway, idle_wheel, kill, left, living, nothing_left, runs
from tests.seeds import FULL, seeds
from tests.worlds.host import eventually, processes_of

pytestmark = pytest.mark.chaos

STEPS = 60 if FULL else 16
GATEWAYS, SERVERS = 3, 4
CUTS = ("before the nanny", "before the record", "after the record", "after the word")


@dataclass
class Host:
    """What has to be there. The first of the gateways has charge."""

    folder: Path
    wheel: Wheel
    rng: random.Random
    stack: AsyncExitStack
    gateways: list[Gateway] = field(default_factory=list)
    servers: dict[str, int] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    @property
    def charged(self) -> Gateway:
        return self.gateways[0]

    async def comes(self) -> None:
        await self._come()
        if len(self.gateways) == 1:
            await self.taken_over()

    async def _come(self) -> None:
        self.gateways.append(await self.stack.enter_async_context(living(self.folder, self.wheel)))

    async def taken_over(self) -> None:
        """By the next one, if there is any; with the last all servers are gone."""
        if not self.gateways:
            self.servers.clear()
            await nothing_runs(self.folder)
            return
        await self.charged.does("charge")
        found = set(await self.charged.does("adopt"))
        assert self.servers.keys() <= found
        for number in found - self.servers.keys():
            if self.done[-1] == "cut after the word":
                self.servers[number] = await runs(number)
            else:
                assert self.done[-1] == "cut after the record"
                await self.charged.does("gone", number)

    # What may happen

    async def starts(self) -> None:
        replica = await self.charged.starts()
        self.servers[replica.id] = await runs(replica.id)

    async def cut(self) -> None:
        where = self.rng.choice(CUTS)
        self.done[-1] += f" {where}"
        await self.charged.does("die", *where.split())
        with pytest.raises(ConnectionError):
            await self.charged.does("start")
        self.gateways.pop(0)
        await self.taken_over()

    async def charged_is_killed(self) -> None:
        kill(self.gateways.pop(0).process.pid)
        await self.taken_over()

    async def charged_ends(self) -> None:
        ending = self.gateways.pop(0)
        assert await ending.does("last") is not bool(self.gateways)
        await ending.does("leave")
        await ending.ends()
        await self.taken_over()

    async def another_is_killed(self) -> None:
        await self.gateways.pop().killed()
        if not self.gateways:
            await self.taken_over()

    async def all_are_killed_and_another_comes_at_once(self) -> None:
        """It goes on with those whose nannies have not noticed; the others are gone, and none is taken that is about to end."""
        for gateway in self.gateways:
            kill(gateway.process.pid)
        self.gateways.clear()
        await self._come()
        await self.charged.does("charge")
        found = set(await self.charged.does("adopt"))
        assert found <= self.servers.keys()
        for number in self.servers.keys() - found:
            await gone(self.servers.pop(number))

    async def server_is_killed(self) -> None:
        number = self.rng.choice(list(self.servers))
        kill(self.servers.pop(number))
        await self.charged.does("gone", number)

    async def nanny_is_killed(self) -> None:
        number = self.rng.choice(list(self.servers))
        (nanny,) = (
            pid for pid, line in processes_of(f"--id={number}") if any("nanny.py" in word for word in line)
        )
        del self.servers[number]
        kill(nanny)
        await self.charged.does("gone", number)

    async def stops(self) -> None:
        number = self.rng.choice(list(self.servers))
        del self.servers[number]
        await self.charged.does("stop", number)

    def may(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        if not self.gateways:
            return [("comes", self.comes)]
        acts: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("killed", self.charged_is_killed),
            ("ends", self.charged_ends),
            ("another", self.another_is_killed),
        ]
        acts.append(("all", self.all_are_killed_and_another_comes_at_once))
        if len(self.gateways) < GATEWAYS:
            acts += 2 * [("comes", self.comes)]
        if len(self.servers) < SERVERS:
            acts += [*(2 * [("starts", self.starts)]), ("cut", self.cut)]
        if self.servers:
            acts += [
                ("server", self.server_is_killed),
                ("nanny", self.nanny_is_killed),
                ("stops", self.stops),
            ]
        return acts

    async def step(self) -> None:
        name, act = self.rng.choice(self.may())
        self.done.append(name)
        await act()
        for number, pid in self.servers.items():
            assert await runs(number) == pid


async def gone(pid: int) -> None:
    async def is_so() -> bool:
        try:
            return not Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return True

    await eventually(is_so, seconds=2)


async def nothing_runs(folder: Path) -> None:
    async def is_so() -> bool:
        return processes_of(f"{folder}/") == []

    await eventually(is_so, seconds=2)


@pytest.mark.parametrize("seed", seeds(1, 40))
async def test_every_server_lives_while_any_gateway_does_and_none_after_the_last(
    tmp_path: Path, seed: int
) -> None:
    folder = tmp_path / "triton"
    async with AsyncExitStack() as stack:
        host = Host(folder, idle_wheel(tmp_path / "wheel"), random.Random(seed), stack)
        try:
            for _ in range(STEPS):
                await host.step()
            while host.gateways:
                await host.another_is_killed()
            host.done.append("comes")
            await host.comes()
            await nothing_left(folder, seconds=2)
            assert left(folder) == []
        except BaseException as fault:
            fault.add_note(f"seed {seed}: {host.done}")
            raise
