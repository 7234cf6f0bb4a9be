"""Every interleaving of a small world (draining_world.py) in which models make room for one another, breadth first: no promise is broken in
any state, and from each one all requests come to their end, by steps that can be relied on. A variant that breaks a promise is found, with a
shortest transcript.

CHAOS=full    three requests, more pauses, more faults at once
"""

import os
from array import array
from collections import deque
from dataclasses import dataclass, field

import pytest

from gateway.scaling.draining import Drain, Fence, Member, Watch
from tests.gateway.scaling.draining_world import ENDS, Asked, Broken, State, World

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


def explored(world: World) -> Explored:
    found = Explored(world)
    found.explore()
    return found


SMALL = {
    "pauses": World((STREAMED, OTHER), pauses=2, whims=0, usurpers=0, crashes=0),
    "a drain that is called off": World((STREAMED, OTHER), pauses=0, whims=1, usurpers=0, crashes=0),
    "two leaders": World((STREAMED, OTHER), pauses=0, whims=0, usurpers=1, crashes=0),
    "a crash": World((WHOLE,), pauses=0, whims=1, usurpers=0, crashes=1),
    "a member that comes": World((STREAMED, OTHER), pauses=0, whims=0, usurpers=0, crashes=0, joins=True),
    "a sequence": World((SEQUENCE, OTHER), pauses=0, whims=0, usurpers=0, crashes=0),
}


@pytest.mark.parametrize("name", SMALL)
def test_no_request_is_lost_or_run_twice_and_every_one_ends_whatever_comes_between(name: str) -> None:
    _check(name, SMALL[name])


def _check(name: str, world: World) -> None:
    found = explored(world)
    assert found.unending() == []
    ends = {call.at for state in found.states if _is_over(state) for call in state.calls}
    print(f"{name}: {len(found.states)} states, ends: {', '.join(sorted(ends))}")
    assert "answered" in ends


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


class NoFence(Fence):
    """A replica takes what it is told, however old."""

    def passes(self, version: int) -> bool:
        return True


BROKEN = {
    "local count": (
        World((STREAMED,), pauses=0, whims=1, usurpers=0, crashes=0, watch=LocalCount),
        "is sent to where|is unloaded under request",
    ),
    "no generation": (
        World((STREAMED,), pauses=0, whims=3, usurpers=0, crashes=0, watch=NoGeneration),
        "is sent to where|is unloaded under request",
    ),
    "heard before the mark": (
        World((STREAMED,), pauses=2, whims=1, usurpers=0, crashes=0, watch=HeardBefore, forgets=False),
        "is sent to where|is unloaded under request",
    ),
    "no check of the deadline": (
        World((STREAMED, OTHER), pauses=2, whims=0, usurpers=0, crashes=0, member=NoCheck),
        "is sent to where",
    ),
    "no fence": (
        World((), pauses=0, whims=4, usurpers=1, crashes=0, fence=NoFence),
        "memory",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_variant_that_breaks_a_promise_is_found(name: str) -> None:
    world, what = BROKEN[name]
    with pytest.raises(Broken, match=what) as found:
        explored(world)
    print(f"{name}:\n  " + str(found.value).replace("\n", "\n  "))
