"""The deadlines of calls: each is kept, and nothing but the block is ended by it. What starts tasks ends them."""

import asyncio

import pytest

from gateway.loops import Deadlines, at_once, jobs


async def test_a_block_that_takes_too_long_ends_in_a_timeout() -> None:
    deadlines = Deadlines(tick_seconds=0.01)
    loop = asyncio.get_running_loop()
    due = loop.time() + 0.03
    with pytest.raises(TimeoutError), deadlines.within(0.03):
        await asyncio.Event().wait()
    assert loop.time() >= due
    await asyncio.sleep(0)  # the task itself was not cancelled


async def test_deadlines_end_what_they_are_of_and_not_one_another() -> None:
    deadlines = Deadlines(tick_seconds=0.01)

    async def waits(seconds: float) -> str:
        try:
            with deadlines.within(seconds):
                await asyncio.Event().wait()
        except TimeoutError:
            return f"{seconds}"
        return ""

    async with asyncio.timeout(5):
        patient = asyncio.ensure_future(waits(60))
        assert list(await asyncio.gather(waits(0.05), waits(0.01))) == ["0.05", "0.01"]
        assert not patient.done()
        patient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await patient


async def test_a_block_that_ended_in_time_is_forgotten_and_so_is_the_timer() -> None:
    deadlines = Deadlines(tick_seconds=0.01)
    with deadlines.within(0.02):
        pass
    async with asyncio.timeout(5):
        while deadlines._timer is not None:
            await asyncio.sleep(0)


async def test_a_cancellation_from_outside_is_no_timeout_even_when_both_come() -> None:
    deadlines = Deadlines(tick_seconds=0.01)
    passed = asyncio.Event()

    async def waits() -> None:
        with deadlines.within(0):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                passed.set()
                await asyncio.Event().wait()

    async with asyncio.timeout(5):
        task = asyncio.ensure_future(waits())
        await passed.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_deadline_that_is_put_off_is_kept_later() -> None:
    deadlines = Deadlines(tick_seconds=0.01)
    loop = asyncio.get_running_loop()
    due = loop.time() + 0.05

    async def waits() -> None:
        with deadlines.within(60) as deadline:
            deadline.put_off(0.05)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await waits()
    assert loop.time() >= due


async def test_of_two_deadlines_that_pass_together_the_outer_one_ends_its_block() -> None:
    deadlines = Deadlines(tick_seconds=0.01)
    passed: list[str] = []

    async def waits() -> None:
        with deadlines.within(0):
            await asyncio.Event().wait()

    async def outer() -> None:
        with deadlines.within(0):
            try:
                await waits()
            except TimeoutError:
                passed.append("inner")

    with pytest.raises(TimeoutError):
        await outer()
    assert passed == []
    await asyncio.sleep(0)  # the task itself was not cancelled


async def test_of_many_acts_so_many_are_done_at_once_in_their_order_and_one_that_fails_ends_all() -> None:
    begun: list[int] = []
    gates = [asyncio.Event() for _ in range(6)]

    async def act(number: int) -> None:
        begun.append(number)
        await gates[number].wait()
        if number == 3:
            raise ValueError(number)

    doing = asyncio.create_task(at_once(2, (act(number) for number in range(6))))
    for opened, expected in ((None, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2, 3])):
        if opened is not None:
            gates[opened].set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert begun == expected
    gates[3].set()
    with pytest.raises(ValueError, match="3"):
        await doing
    assert begun == [0, 1, 2, 3]


async def test_a_job_that_comes_when_all_is_over_is_dropped_and_nobody_is_told_of_an_error() -> None:
    """A call is settled by a plain function, whenever that is."""
    done: list[str] = []

    async def job(name: str) -> None:
        done.append(name)

    async with jobs() as spawn:
        spawn("in time", job("in time"))
        await asyncio.sleep(0)
    spawn("late", job("late"))
    await asyncio.sleep(0)
    assert done == ["in time"]
