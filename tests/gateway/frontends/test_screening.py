"""Texts that take long to mask hold up their own tenant's calls and nothing else, and end when nobody waits for them."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from gateway.errors import Code, GatewayError
from gateway.frontends.screening import AT_ONCE_BYTES, AT_ONCE_DIGITS, Desk, beside, is_short
from gateway.frontends.turns import MOST_WAITING
from gateway.privacy.detect import warm
from gateway.privacy.looks import NotScreened
from gateway.privacy.mask import Screen
from tenants.privacy import KINDS, Privacy

LONG = b"a" * (AT_ONCE_BYTES + 1)
HOSTILE = ", ".join(f"+49 30 {number:07}" for number in range(1_000))


def screen() -> Screen:
    return Screen(Privacy("discreet", mask=KINDS))


@pytest.fixture
def go_on() -> Iterator[threading.Event]:
    """What holds the threads up; they go on at the end in any case."""
    event = threading.Event()
    yield event
    event.set()


def nothing() -> None:
    """Nobody is to be told."""


async def begun(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 5)


async def test_texts_that_take_long_leave_the_loops_own_threads_to_names_keys_and_files(
    go_on: threading.Event,
) -> None:
    warm()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for number in range(40):  # more than the threads that a loop has
            group.create_task(beside(f"tenant{number}", LONG, screen(), go_on.wait))
        await asyncio.sleep(0)  # all have begun
        here = await asyncio.to_thread(threading.current_thread)
        assert "masking" not in here.name
        go_on.set()


async def test_a_short_text_is_masked_at_once_and_one_that_is_made_to_take_long_is_not() -> None:
    warm()
    assert await beside("acme", LONG[1:], screen(), threading.get_ident) == threading.get_ident()
    digits = b"1" * (AT_ONCE_DIGITS + 1)
    assert await beside("acme", digits, screen(), threading.get_ident) != threading.get_ident()
    assert await beside("acme", None, screen(), threading.get_ident) != threading.get_ident()
    assert not is_short(LONG)


async def test_one_tenants_long_texts_leave_a_thread_to_the_others(go_on: threading.Event) -> None:
    desk = Desk(threads=2)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for _ in range(MOST_WAITING):
            group.create_task(desk.do("flood", go_on.wait, nothing))
        await asyncio.sleep(0)
        assert await desk.do("quiet", lambda: "served", nothing) == "served"
        go_on.set()


async def test_a_tenant_with_too_many_waiting_texts_is_told_to_let_some_finish(
    go_on: threading.Event,
) -> None:
    desk, has_begun = Desk(threads=2), threading.Event()

    def hold() -> None:
        has_begun.set()
        go_on.wait()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(desk.do("flood", hold, nothing))
        await begun(has_begun)
        for _ in range(MOST_WAITING):
            group.create_task(desk.do("flood", hold, nothing))
        await asyncio.sleep(0)
        with pytest.raises(GatewayError) as refused:
            await desk.do("flood", hold, nothing)
        assert refused.value.code is Code.TOO_MANY_AT_ONCE
        go_on.set()


async def test_what_was_cancelled_ends_within_a_step_and_its_tenants_next_begins() -> None:
    desk, has_begun, ended = Desk(threads=1), threading.Event(), threading.Event()
    one = screen()
    found: list[str] = []

    def mask() -> None:
        steps = one.steps.take

        def take(cost: int) -> None:
            has_begun.set()
            steps(cost)

        try:
            while True:  # only a stop ends it
                take(0)
        except NotScreened as fault:
            found.append(str(fault))
        ended.set()

    async with asyncio.timeout(5):
        task = asyncio.ensure_future(desk.do("acme", mask, one.steps.stop))
        await begun(has_begun)
        waiting = asyncio.ensure_future(desk.do("acme", partial(found.append, "it began"), nothing))
        await asyncio.sleep(0)
        waiting.cancel()
        task.cancel()
        await begun(ended)
        assert await desk.do("acme", lambda: "next", nothing) == "next"
    assert found == ["nobody waits for it any more"]


async def test_who_leaves_while_waiting_makes_room_for_the_tenants_next(go_on: threading.Event) -> None:
    desk, has_begun = Desk(threads=1), threading.Event()

    def hold() -> None:
        has_begun.set()
        go_on.wait()

    async with asyncio.timeout(5):
        under_way = asyncio.ensure_future(desk.do("acme", hold, nothing))
        await begun(has_begun)
        for _ in range(2):  # as many as may wait, and again
            waiting = [asyncio.ensure_future(desk.do("acme", hold, nothing)) for _ in range(MOST_WAITING)]
            await asyncio.sleep(0)
            assert not any(task.done() for task in waiting)
            for task in waiting:
                task.cancel()
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(it, asyncio.CancelledError) for it in ended)
        go_on.set()
        await under_way


async def test_a_fault_is_raised_where_it_is_waited_for() -> None:
    async def raised(act: Callable[[], object]) -> None:
        with pytest.raises(NotScreened, match="it is too much"):
            await Desk().do("acme", act, nothing)

    def fail() -> None:
        raise NotScreened("it is too much")

    await raised(fail)


def test_a_stopped_screen_ends_within_a_text() -> None:
    one = screen()
    one.steps.stop()
    with pytest.raises(NotScreened, match="nobody waits"):
        one.text(HOSTILE)
