"""A supervisor and its children, which are played: when each is started, when it is asked to end, and what follows when it ends."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import msgspec
import pytest

from gateway.loops import running
from gateway.supervision.child import BEAT, Child
from gateway.supervision.plan import HAND_OVER, Part, Ready, Role, Stage
from gateway.supervision.supervisor import BEAT_SECONDS, READY_SECONDS, StartFailed, Supervisor
from tests.worlds.jumping import jumping


@dataclass(slots=True)
class Orders:
    """Its standard input."""

    process: "Played"

    def write(self, data: bytes) -> None:
        self.process.told += data

    def close(self) -> None:
        if self.process.code.done():
            return
        self.process.world.say(
            f"{self.process.name} is to {'hand over' if self.process.told == HAND_OVER else 'end'}"
        )
        if self.process.world.obeys:
            self.process.end(0)


@dataclass(slots=True)
class Played:
    """What a Child takes for its process: it follows orders at once, and ends as the kernel would have it."""

    name: str
    world: "Hosted"
    pid: int = 7
    told: bytes = b""
    stdout: asyncio.StreamReader = field(default_factory=asyncio.StreamReader)
    code: "asyncio.Future[int]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def stdin(self) -> Orders:
        return Orders(self)

    async def wait(self) -> int:
        return await self.code

    def send_signal(self, number: signal.Signals) -> None:
        self.world.say(f"{self.name} gets {number.name}")
        self.end(-number)

    def serve(self) -> None:
        self.stdout.feed_data(msgspec.json.encode(Ready(f"at {self.name}")) + b"\n")

    def beat(self) -> None:
        self.stdout.feed_data(BEAT)

    def end(self, code: int) -> None:
        if not self.code.done():
            self.code.set_result(code)
            self.stdout.feed_eof()


@dataclass(slots=True)
class Hosted:
    """`story` is what happened, in order; `fates` what becomes of each child as it is started: by default it serves."""

    fates: dict[str, Callable[[Played], None]] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)
    children: dict[str, Played] = field(default_factory=dict)
    started_at: dict[str, float] = field(default_factory=dict)
    obeys: bool = True
    dead: list[str] = field(default_factory=list)
    _lives: dict[str, int] = field(default_factory=dict)

    def say(self, what: str) -> None:
        self.story.append(what)

    async def start(self, role: Role, slot: str, stage: Stage) -> Child:
        life = self._lives[slot] = self._lives.get(slot, 0) + 1
        played = self.children[f"{slot}.{life}"] = Played(f"{slot}.{life}", self)
        self.say(f"{played.name} starts")
        clock = asyncio.get_running_loop().time
        self.started_at[played.name] = clock()
        process = cast("asyncio.subprocess.Process", played)
        self.fates.get(played.name, Played.serve)(played)
        return Child(Part(role, played.name, "host", 0, 2), process, None, clock, stage, born=clock())

    async def certify(self, child: Child) -> None:
        self.dead.append(child.name)


def played(
    world: Hosted, act: Callable[[Supervisor], Coroutine[Any, Any, None]], workers: int = 2
) -> list[str]:
    """What happened until the act was over and all had ended; the side beats meanwhile."""

    async def story() -> None:
        supervisor = Supervisor(
            world.start, world.certify, asyncio.get_running_loop().time, workers, 10.0, 40.0
        )
        all_serve = asyncio.Event()

        def started(said: list[Ready]) -> None:
            world.say("all serve: " + ", ".join(it.address for it in said))
            all_serve.set()

        async def acting() -> None:
            await all_serve.wait()
            await act(supervisor)
            supervisor.stop()

        async def beating() -> None:
            while True:
                for child in world.children.values():
                    if not child.code.done() and child.told != b"hangs":
                        child.beat()
                await asyncio.sleep(1)

        async with running(beats=beating(), acts=acting()):
            await supervisor.run(started, lambda: world.say("closes"))

    jumping(story())
    return world.story


STARTED = [
    "side.1 starts",
    "worker1.1 starts",
    "worker2.1 starts",
    "all serve: at side.1, at worker1.1, at worker2.1",
]
ENDED = ["closes", "worker1.1 is to end", "worker2.1 is to end", "side.1 is to end"]


async def nothing(_: Supervisor) -> None:
    pass


def test_the_side_is_there_before_the_workers_and_until_after_them() -> None:
    world = Hosted()
    story = played(world, nothing)
    assert story[:4] == STARTED
    assert (story[4], sorted(story[5:7]), story[7:]) == (ENDED[0], ENDED[1:3], ENDED[3:])
    assert sorted(world.dead) == ["side.1", "worker1.1", "worker2.1"]


def test_a_first_start_that_fails_ends_all_with_its_code_and_is_not_tried_again() -> None:
    world = Hosted(fates={"worker1.1": lambda it: it.end(3)})
    with pytest.raises(StartFailed) as failed:
        played(world, nothing)
    assert failed.value.code == 3
    assert not any(name.endswith(".2") for name in world.children)
    assert world.story[-1] == "side.1 is to end"


def test_a_worker_that_ends_again_and_again_is_started_ever_later_and_the_others_serve_on() -> None:
    world = Hosted(fates={f"worker1.{life}": lambda it: it.end(1) for life in range(2, 6)})

    async def act(_: Supervisor) -> None:
        world.children["worker1.1"].end(-9)
        await asyncio.sleep(30)

    played(world, act)
    at = [world.started_at[f"worker1.{life}"] for life in range(2, 7)]
    assert [round(late - soon) for soon, late in pairwise(at)] == [1, 2, 4, 8]
    assert "worker2.2" not in world.children


def test_who_is_renewed_is_asked_to_end_only_once_the_next_one_serves_and_one_after_the_other() -> None:
    world = Hosted()

    async def act(supervisor: Supervisor) -> None:
        supervisor.renew()
        await asyncio.sleep(5)

    story = played(world, act)
    assert story[4:10] == [
        "worker1.2 starts",
        "worker1.1 is to hand over",
        "worker2.2 starts",
        "worker2.1 is to hand over",
        "side.2 starts",
        "side.1 is to hand over",
    ]


def test_a_renewal_that_does_not_start_leaves_the_old_one_and_all_others_as_they_are() -> None:
    world = Hosted(fates={"worker1.2": lambda it: it.end(1)})

    async def act(supervisor: Supervisor) -> None:
        supervisor.renew()
        await asyncio.sleep(100)

    story = played(world, act)
    assert story[4:6] == ["worker1.2 starts", "closes"]
    assert "worker1.1 is to end" in story


def test_an_old_one_that_dies_while_the_next_one_starts_is_not_replaced_twice() -> None:
    world = Hosted()

    async def act(supervisor: Supervisor) -> None:
        world.fates["worker1.2"] = lambda _: world.children["worker1.1"].end(-9)
        supervisor.renew()
        await asyncio.sleep(3)
        world.children["worker1.2"].serve()
        await asyncio.sleep(3)

    played(world, act)
    lives = [name for name in world.children if name.startswith("worker1")]
    ended_by_order = [name for name in lives if f"{name} is to end" in world.story]
    assert len(ended_by_order) == 1  # at the stop: who else was started had handed over by then


def test_a_side_that_does_not_beat_is_killed_and_replaced_and_a_worker_is_not() -> None:
    world = Hosted()

    async def act(_: Supervisor) -> None:
        for name in ("side.1", "worker1.1"):
            world.children[name].told = b"hangs"
        await asyncio.sleep(BEAT_SECONDS + 3)

    story = played(world, act)
    assert story[4:6] == ["side.1 gets SIGKILL", "side.2 starts"]
    assert "worker1.1 gets SIGKILL" not in story


def test_a_start_that_hangs_is_killed() -> None:
    world = Hosted(fates={"worker1.2": lambda _: None})

    async def act(_: Supervisor) -> None:
        world.children["worker1.1"].end(1)
        await asyncio.sleep(READY_SECONDS + 3)

    assert "worker1.2 gets SIGKILL" in played(world, act)


def test_who_does_not_end_in_time_is_killed_and_a_second_stop_waits_for_nobody() -> None:
    world = Hosted(obeys=False)
    story = played(world, nothing)
    assert [it for it in story if "SIG" in it][-1] == "side.1 gets SIGKILL"
    hurried = Hosted(obeys=False)

    async def act(supervisor: Supervisor) -> None:
        supervisor.stop()
        await asyncio.sleep(1)

    story = played(hurried, act)
    assert sorted(it for it in story if "SIG" in it) == [
        "side.1 gets SIGTERM",
        "worker1.1 gets SIGTERM",
        "worker2.1 gets SIGTERM",
    ]


def test_a_supervisor_that_fails_at_something_unforeseen_ends_and_leaves_nobody_behind() -> None:
    class Unforeseen(Hosted):
        async def certify(self, child: Child) -> None:
            raise RuntimeError(child.name)

    world = Unforeseen()

    async def act(_: Supervisor) -> None:
        world.children["worker1.1"].end(1)
        await asyncio.sleep(100)

    with pytest.raises(RuntimeError, match=r"worker1\.1"):
        played(world, act)
    assert all(it.code.done() for it in world.children.values())
