"""What is to be done when a child has ended, and when? Pure.

stage    how the child stood                                 what then
first    it was being started, as its supervisor is          all end, with its exit code: it has said why
again    it was being started in place of one that ended     another one, later
beside   it was being started to take over from another      the other one goes on
serves   it could serve                                      another one: at once, if it is the first in a while
drains   it was asked to end                                 nothing
"""

from typing import Final, Literal

from msgspec import Struct

Role = Literal["worker", "side"]
Stage = Literal["first", "again", "beside", "serves", "drains"]
Then = Literal["end all", "another", "keep the other", "nothing"]

ENDED: Final[dict[Stage, Then]] = {
    "first": "end all",
    "again": "another",
    "beside": "keep the other",
    "serves": "another",
    "drains": "nothing",
}
STARTS: Final[tuple[Stage, ...]] = ("first", "again", "beside")
STEADY_SECONDS: Final = 60.0
"""Who has served for so long ended for a new reason."""
MOST_PAUSE_SECONDS: Final = 30.0
_MOST_DOUBLINGS: Final = 5

HAND_OVER: Final = b"hand over\n"
"""What a child is told before the end of its orders, if another one is there for those that it leaves."""


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """What a child is told at its start, as JSON. `supervisor` is the name of who starts it, of `workers` and a side. `listener` is the
    descriptor of a bound socket: of a worker the public one, of the side the operators'. `grpc_port` is shared by all workers; -1: there
    is none.
    """

    role: Role
    name: str
    supervisor: str
    listener: int
    workers: int
    grpc_port: int = -1


class Ready(Struct, frozen=True):
    """What a child says once it can serve, as a line of JSON. `grpc` is None where that door is closed."""

    address: str
    grpc: str | None = None


def pause_seconds(failures: int) -> float:
    """Before another one is started, behind so many that ended one after the other."""
    return 0.0 if failures <= 1 else min(2.0 ** min(failures - 2, _MOST_DOUBLINGS), MOST_PAUSE_SECONDS)


def failures_after(failures: int, served_seconds: float) -> int:
    """How many have ended one after the other, with this one."""
    return 1 if served_seconds >= STEADY_SECONDS else failures + 1
