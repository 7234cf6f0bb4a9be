"""The judge of limits finds a window that is over by one, and only such; what could have been used was offered to those that run."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.limits_judge import WINDOWS, Decided, Held, Offer, Outage, Used, decisions, excess, used
from tests.e2e.offering import offering

RATE, BURST = 200.0, 100


def even(count: int, seconds: float, start: float = 0.0) -> list[Decided]:
    """So many decisions at so many moments, the first as it starts and the last as that time is over."""
    moments = (start + seconds * number / (count - 1) for number in range(count))
    return [Decided(at, at) for at in moments]


@pytest.mark.parametrize("width", WINDOWS)
def test_a_window_that_is_over_by_one_is_found_and_one_that_is_full_is_not(width: float) -> None:
    most = round(BURST + RATE * width)
    assert excess(even(most, width, 7.0), RATE, BURST) == []
    shown = f"{most + 1} in {width:g} s from 7.000, at most {most}"
    assert shown in excess(even(most + 1, width, 7.0), RATE, BURST)


def test_a_full_burst_and_then_the_rate_is_allowed_and_a_second_burst_is_not() -> None:
    allowed = [Decided(0.0, 0.0)] * BURST + [Decided(n / RATE, n / RATE) for n in range(1, 3000)]
    assert excess(allowed, RATE, BURST) == []
    late = [Decided(10.0, 10.0)] * BURST
    assert excess([*allowed, *late], RATE, BURST)


def test_what_may_have_been_decided_outside_of_a_window_is_not_held_against_it() -> None:
    """Four times a burst, each sent or heard within 0.1 s, but over a second between the two."""
    unclear = [Decided(n / 4000, 1.0 + n / 4000) for n in range(400)]
    assert not [it for it in excess(unclear, RATE, BURST) if "0.1 s" in it]
    assert excess([Decided(0.5, 0.5)] * 301 + unclear, RATE, BURST)


def test_what_was_sent_to_a_stopped_process_was_decided_behind_its_end() -> None:
    stopped = [Outage(0, "stopped", 10.0, 20.0)]
    offers = [Offer(0, 15.0, 20.01, 200)] * 200
    assert excess(decisions(offers, []), RATE, BURST) == []
    assert excess(decisions(offers, stopped), RATE, BURST)
    elsewhere = [Offer(1, 15.0, 20.01, 200)]
    refused = [Offer(0, 15.0, 20.01, 429)]
    assert decisions([*elsewhere, *refused], stopped) == [Decided(15.0, 20.01)]


def paced(process: int, pace: float, admitted: float, start: float, end: float) -> Iterator[Offer]:
    """Of `pace` requests a second that part is admitted, evenly."""
    owed = 0.0
    for number in range(int((end - start) * pace)):
        at = start + number / pace
        owed += admitted
        status = 200 if owed >= 1 else 429
        owed -= status == 200
        yield Offer(process, at, at, status)


def test_all_of_the_rate_can_be_used_where_more_is_offered_and_else_what_is_offered() -> None:
    plenty = list(paced(0, 800, 0.25, 0, 10))
    assert used(plenty, [], RATE, since=0, until=10).part == pytest.approx(1, abs=0.01)
    half = list(paced(0, 800, 0.125, 0, 10))
    assert used(half, [], RATE, since=0, until=10).part == pytest.approx(0.5, abs=0.01)
    few = list(paced(0, 50, 1, 0, 10))
    assert used(few, [], RATE, since=0, until=10).part == pytest.approx(1, abs=0.01)


def test_while_a_process_is_away_what_was_offered_to_it_could_not_be_used() -> None:
    offers = [*paced(0, 776, 0.25, 0, 10), *paced(1, 24, 1, 10, 20), *paced(0, 776, 0, 10, 20)]
    found = used(offers, [Outage(0, "killed", 10, 20)], RATE, since=0, until=20)
    assert found.part == pytest.approx(0.97, abs=0.03)
    assert used(offers, [], RATE, since=0, until=20).part < 0.6


def test_while_a_process_is_stopped_its_share_is_not_there_for_others() -> None:
    offers = [*paced(0, 100, 1, 0, 20), *paced(1, 100, 0.2, 0, 20)]
    stopped = [Outage(0, "stopped", 0, 20)]
    held = [Held(0.0, (180.0, 20.0)), Held(30.0, (0.0, 200.0))]
    offers = [it for it in offers if it.process == 1]
    assert used(offers, stopped, RATE, since=1, until=20, held=held[:1]).part == pytest.approx(1, abs=0.01)
    assert used(offers, stopped, RATE, since=1, until=20).part == pytest.approx(0.2, abs=0.01)


def test_nothing_is_judged_around_a_kill_and_a_start() -> None:
    offers = list(paced(0, 800, 0.25, 0, 4))
    assert used(offers, [Outage(0, "killed", 4, 5)], RATE, since=4, until=6) == Used(0, 0)


# The load


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """The port of a server that gives this answer to whatever comes on its one connection, which it then closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as connection:
                while connection.recv(65536):
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_an_offering_asks_at_its_pace_tells_what_it_saw_and_ends_by_itself() -> None:
    request, refusal = b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 429 Too Many\r\ncontent-length: 2\r\n\r\n{}"
    with answering(refusal) as port, offering(request, random.Random(1), [port], [100], seconds=0.5) as load:
        load.thread.join(10)
    assert 429 in {it.status for it in load.seen} <= {429, 0}, "a second connection has no answer"
    assert 20 < len(load.seen) + load.unsent < 100
    assert all(it.sent <= it.ended for it in load.seen)
