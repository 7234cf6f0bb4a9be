"""One of several gateways leads, whoever dies or stands still: told by what operators read of each."""

import http.client
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from gateway.state import clock
from tests.e2e.many import Many, many
from tests.e2e.test_operator import get
from tests.e2e.world import Demo, until

pytestmark = pytest.mark.chaos

Record = Callable[[str, object], None]
PROMISED_SECONDS: Final = 10.0
_FIGURE: Final = re.compile(
    r'^gateway_(leads|leadership_term|members)(?:\{gateway_standing="(\w+)"\})? (\S+)$', re.M
)


def figures(demo: Demo) -> dict[str, int]:
    """`leads`, `leadership_term`, `live`, `silent` and `dead`, as that process tells them."""
    _, text = get(demo.operator, "/metrics")
    return {standing or name: int(float(value)) for name, standing, value in _FIGURE.findall(text.decode())}


def leaders(world: Many, among: set[int]) -> list[int]:
    """Who of these says that it leads. Asked one after another, so of two one may have led before the other."""
    found = []
    for number in among:
        try:
            if figures(world.demos[number])["leads"]:
                found.append(number)
        except (OSError, http.client.HTTPException):
            continue
    return found


def led(world: Many, among: set[int]) -> int:
    (found,) = until(lambda: leaders(world, among), PROMISED_SECONDS, "nobody leads")
    return found


def test_another_one_leads_soon_after_the_leader_is_killed_or_stands_still_or_ends(
    state: Path, record_property: Record
) -> None:
    everybody, took = {0, 1, 2, 3}, {}
    with many(state, len(everybody)) as world:
        until(lambda: all(figures(it).get("live") == 4 for it in world.demos), 10, "not all are seen")
        first = led(world, everybody)
        term = figures(world.demos[first])["leadership_term"]

        began = clock()
        world.demos[first].kill()
        living = everybody - {first}
        second = led(world, living)
        took["killed"] = clock() - began
        assert figures(world.demos[second])["leadership_term"] == term + 1
        until(
            lambda: all(figures(world.demos[it])["dead"] == 1 for it in living), 5, "it is not known as dead"
        )

        began = clock()
        world.demos[second].kill(signal.SIGSTOP)
        others = living - {second}
        third = led(world, others)
        took["stopped"] = clock() - began
        world.demos[second].kill(signal.SIGCONT)
        assert leaders(world, living) == [third], "who was stopped leads no more"
        until(lambda: all(figures(world.demos[it])["live"] == 3 for it in living), 10, "it is not back")

        began = clock()
        assert world.demos[third].stop() == 0
        fourth = led(world, living - {third})
        took["ended"] = clock() - began
        assert figures(world.demos[fourth])["leadership_term"] == term + 3
    record_property("seconds until another one led", {why: round(it, 1) for why, it in took.items()})
    assert max(took.values()) < PROMISED_SECONDS
