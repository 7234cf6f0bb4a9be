"""Every interleaving of a small world (draining_world.py) in which models make room for one another, breadth first.

No promise is broken in any state, and from each one all requests come to their end by steps that can be relied on. A variant that breaks
a promise is found, with a shortest transcript.

CHAOS=full    three requests, more pauses, more faults at once
"""

import gc
import os
from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.scaling.draining import Drain, Fence, Member, Spot, Watch
from tests.gateway.scaling.draining_states import ENDS, Asked, Broken, State
from tests.gateway.scaling.draining_world import World

FULL = os.environ.get("CHAOS") == "full"

WHOLE, STREAMED = Asked(gateway=1, model=0), Asked(gateway=1, model=0, kind="streamed")
OTHER = Asked(gateway=0, model=1)  # waits for the model that has to be loaded
SEQUENCE = Asked(gateway=1, model=0, kind="sequence")


@dataclass
class Explored:
    """All states of a world; `first` says from where and by which step each was first reached, `before` from where by a fair step."""

    world: World
    states: list[State] = field(default_factory=list)
    first: list[tuple[int, str]] = field(default_factory=list)
    before: list["array[int]"] = field(default_factory=list)

    def explore(self) -> None:
        """Raises Broken with the shortest transcript that leads there."""
        known: dict[State, int] = {}
        waiting = deque[int]()

        def number(state: State, source: int, name: str) -> int:
            found = known.setdefault(state, len(known))
            if found == len(self.states):
                self.states.append(state)
                self.first.append((source, name))
                self.before.append(array("I"))
                waiting.append(found)
            return found

        number(self.world.begin(), -1, "")
        while waiting:
            source = waiting.popleft()
            try:
                for step in self.world.steps(self.states[source]):
                    found = number(self.world.told_apart(step.state), source, step.name)
                    if step.is_fair:
                        self.before[found].append(source)
            except Broken as fault:
                raise Broken("\n".join([*self.transcript(source), str(fault)])) from fault

    def transcript(self, number: int) -> list[str]:
        steps = []
        while number:
            number, name = self.first[number]
            steps.append(name)
        return steps[::-1]

    def unending(self) -> list[str]:
        """A shortest transcript after which some request can have no end; none where there is no such state."""
        is_good = bytearray(len(self.states))
        good = [number for number, state in enumerate(self.states) if _is_over(state)]
        while good:
            number = good.pop()
            if not is_good[number]:
                is_good[number] = 1
                good.extend(self.before[number])
        return next((self.transcript(number) for number, found in enumerate(is_good) if not found), [])


def _is_over(state: State) -> bool:
    return all(call.at in ENDS for call in state.calls)


def _world(*asked: Asked, **of_it: Any) -> World:
    """With no fault but those that are named."""
    return World(asked, **{**dict.fromkeys(("pauses", "whims", "usurpers", "crashes", "breaks"), 0), **of_it})


def explored(world: World) -> Explored:
    found = Explored(world)
    gc.disable()  # nothing of it is garbage, and it would be looked through again and again
    try:
        found.explore()
    finally:
        gc.enable()
    return found


# Each with how its requests can end: all else would be a surprise, and so would it be if one of these could not.
SMALL = {
    "pauses": (_world(STREAMED, OTHER, pauses=2), "answered refused"),
    "a drain called off": (_world(STREAMED, OTHER, whims=1), "answered"),
    "two leaders": (_world(STREAMED, OTHER, usurpers=1), "answered"),
    "a crash": (_world(STREAMED, OTHER, crashes=1, certified=True), "answered unknown"),
    "a member comes": (_world(STREAMED, OTHER, joins=True), "answered"),
    "a sequence": (_world(SEQUENCE, OTHER), "answered"),
    "a place that breaks": (_world(STREAMED, WHOLE, breaks=1), "answered failed refused"),
    "a sequence on a place that breaks": (_world(SEQUENCE, breaks=1), "answered failed lost"),
}
LARGE = {
    "three requests": (_world(STREAMED, WHOLE, OTHER, pauses=2), "answered refused"),
    "more pauses": (_world(STREAMED, OTHER, pauses=3), "answered refused"),
    "pauses, a drain called off": (_world(STREAMED, pauses=2, whims=1), "answered refused"),
    "a pause and two leaders": (_world(STREAMED, OTHER, pauses=1, usurpers=1), "answered"),
    "a crash that silence tells": (_world(STREAMED, OTHER, crashes=1), "answered unknown"),
    "a sequence on a place that breaks, and another call": (
        _world(SEQUENCE, OTHER, breaks=1),
        "answered failed lost",
    ),
    "a sequence, and pauses": (_world(SEQUENCE, pauses=3, whims=1, lasts=2), "answered lost"),
}


WORLDS = SMALL | LARGE if FULL else SMALL


@pytest.mark.chaos
@pytest.mark.parametrize("name", WORLDS)
def test_no_request_is_lost_or_run_twice_and_every_one_ends_whatever_comes_between(name: str) -> None:
    world, expected = WORLDS[name]
    found = explored(world)
    assert found.unending() == []
    ends = {call.at for state in found.states if _is_over(state) for call in state.calls}
    print(f"{name}: {len(found.states)} states")
    assert ends == set(expected.split())


class LocalCount(Watch):
    """The leader asks nobody but its own process."""

    def is_drained(self, drain: Drain) -> bool:
        return self.version >= drain.generation and drain in self.heard["0"].acknowledged


class NoGeneration(Watch):
    """An acknowledgement of any drain of the place will do."""

    def is_drained(self, drain: Drain) -> bool:
        return self.version >= drain.generation and all(
            it.is_out or drain.spot in {each.spot for each in it.acknowledged} for it in self.heard.values()
        )


class HeardBefore(Watch):
    """What was heard before the mark will do."""

    def is_drained(self, drain: Drain) -> bool:
        return bool(self.heard) and all(it.is_out or drain in it.acknowledged for it in self.heard.values())


class NoCheck(Member):
    """A member looks at no clock before it sends."""

    def _is_current(self, now: float) -> bool:
        return True


class NoLapse(Member):
    """A sequence goes on after a silence as if the drain were still waiting for it."""

    def has(self, spot: Spot, loaded: int) -> bool:
        self.lapsed = frozenset()
        return super().has(spot, loaded)


class NoFence(Fence):
    """A replica takes what it is told, however old."""

    def passes(self, version: int) -> bool:
        self.version = version
        return True


BROKEN = {
    "local count": _world(STREAMED, whims=1, watch=LocalCount),
    "no generation": _world(STREAMED, whims=3, watch=NoGeneration),
    "heard before the mark": _world(STREAMED, pauses=2, whims=1, watch=HeardBefore, forgets=False),
    "no check of the deadline": _world(STREAMED, OTHER, pauses=2, member=NoCheck),
    "read before the beat": _world(STREAMED, pauses=2, whims=1, reads_first=True),
    "a sequence after a silence": _world(SEQUENCE, pauses=2, whims=1, member=NoLapse),
    "no fence": _world(WHOLE, whims=1, usurpers=1, fence=NoFence),
} | ({"no fence, and memory": _world(whims=3, usurpers=1, fence=NoFence)} if FULL else {})


@pytest.mark.parametrize("name", BROKEN)
def test_a_variant_that_breaks_the_promise_is_found(name: str) -> None:
    with pytest.raises(Broken, match=r"is sent to where|is unloaded under|memory") as found:
        explored(BROKEN[name])
    print(f"{name}:\n  " + str(found.value).replace("\n", "\n  "))
