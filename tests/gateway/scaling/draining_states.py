"""The states of the small world in which gateway/scaling/draining.py is lived through, and how one becomes another."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

from gateway.scaling.draining import Drain, Heard, Order

Kind = Literal["whole", "streamed", "sequence"]

NOW = 10.0  # times in a state are relative to it
ENDS = ("answered", "refused", "failed", "lost", "unknown")


class Broken(AssertionError):
    """A promise that this step breaks."""


@dataclass(frozen=True)
class Asked:
    """A request: at which gateway, for which model."""

    gateway: int
    model: int
    kind: Kind = "whole"


class Call(NamedTuple):
    """What became of a request. `lapsed`: its gateway was silent for longer than may be since it was sent; `loaded`: where its sequence
    is open, and in a world in which places break, for which load it was sent, or by which it is run."""

    at: str = "waits"
    lapsed: bool = False
    loaded: int = 0
    is_second: bool = False


class Process(NamedTuple):
    """What a gateway knows; for how many ticks it may send, and the age of a beat that no read has followed yet."""

    view: int
    fresh: int
    began: int | None
    held: tuple[int, ...] = (0, 0)
    lapsed: frozenset[Drain] = frozenset()


class Written(NamedTuple):
    """A member's beat in the Table; `still` is for how many ticks it stands."""

    acknowledged: frozenset[Drain]
    is_dead: bool
    still: int


class Knows(NamedTuple):
    """What a gateway makes of what it knows; its beat, and what that says."""

    beat: tuple[str, Written]
    may_send: tuple[bool, ...]


class Told(NamedTuple):
    """Of a leader's watch, about one member; whether its beat is another one by now."""

    is_newest: bool
    still: int
    is_out: bool
    acknowledged: frozenset[Drain]


class Leader(NamedTuple):
    """`order` is on its way, of these placements."""

    version: int = -1
    told: tuple[Told | None, ...] = (None, None)
    order: tuple[Order, int, int] | None = None


class State(NamedTuple):
    row: int
    fence: int
    triton: tuple[str, ...]
    loads: tuple[int, ...]  # which load of each model Triton has
    cut: tuple[int, ...]  # the newest load of each model whose place was cut
    gateways: tuple[Process | None, ...]
    beats: tuple[Written | None, ...]
    leaders: tuple[Leader | None, ...]
    calls: tuple[Call, ...]
    pauses: int
    whims: int
    usurpers: int
    crashes: int
    breaks: int


class Step(NamedTuple):
    """`is_fair`: that it happens in the end can be relied on."""

    name: str
    state: State
    is_fair: bool = True


T = TypeVar("T")


def put(values: tuple[T, ...], index: int, value: T) -> tuple[T, ...]:
    return (*values[:index], value, *values[index + 1 :])


def beaten(state: State, gateway: int, beat: Written) -> State:
    """Every leader has heard another one."""
    leaders = tuple(
        leader
        and leader._replace(
            told=tuple(
                it and it._replace(is_newest=False, still=0) if each == gateway else it
                for each, it in enumerate(leader.told)
            )
        )
        for leader in state.leaders
    )
    return state._replace(beats=put(state.beats, gateway, beat), leaders=leaders)


def as_told(heard: Heard | None) -> Told | None:
    return (
        None
        if heard is None
        else Told(
            is_newest=True,
            still=round(NOW - heard.since),
            is_out=heard.is_out,
            acknowledged=heard.acknowledged,
        )
    )


def with_call(state: State, number: int, call: Call) -> State:
    return state._replace(calls=put(state.calls, number, call))


def with_leader(state: State, gateway: int, leader: Leader) -> State:
    return state._replace(leaders=put(state.leaders, gateway, leader))
