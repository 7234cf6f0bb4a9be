"""What holds for every board there can be, also for those that no history leads to."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.scaling.residency import (
    STARVING_SECONDS,
    Drain,
    Life,
    Load,
    Phase,
    Place,
    Server,
    Start,
    Want,
)
from tests.gateway.scaling.support import NOW, Board, a_fleet
from tests.seeds import FULL

MODELS = "abcdef"
Demand = dict[str, tuple[int, float | None]]  # replicas, and since when a call waits

pytestmark = pytest.mark.chaos
_WHEN = st.floats(NOW - 5.0, NOW)
law = settings(deadline=None, max_examples=1_000 if FULL else 100)


@st.composite
def boards(draw: st.DrawFn) -> Board:
    most = draw(st.integers(1, 4))
    fleet = a_fleet(most=most, least=draw(st.integers(0, most)))
    memory = {model: draw(st.integers(1, 11)) for model in MODELS}
    board = Board(fleet, memory)
    for number in range(draw(st.integers(0, most))):
        life = draw(st.sampled_from([*Life, Life.READY, Life.READY]))
        server = Server(name=f"b{number}", life=life, empty_since=draw(st.sampled_from([0.0, NOW])))
        for model in () if life is Life.STARTING else draw(st.lists(st.sampled_from(MODELS), unique=True)):
            if board.used(server) + memory[model] <= fleet.memory_bytes:
                server.places[model] = _place(draw, model, memory[model])
        board.servers.append(server)
    return board


def _place(draw: st.DrawFn, model: str, memory: int) -> Place:
    phase = draw(st.sampled_from([*Phase, Phase.READY, Phase.READY]))
    place = Place(model=model, memory_bytes=memory, phase=phase, outdated=draw(st.integers(0, 4)) == 0)
    if phase in (Phase.READY, Phase.DRAINING):
        place.in_flight, place.last_use = draw(st.integers(0, 2)), draw(st.integers(0, 9))
    return place


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    waiting = st.tuples(st.integers(1, 3), _WHEN)
    others = st.tuples(st.integers(0, 3), st.none())
    return draw(st.dictionaries(st.sampled_from(MODELS), st.one_of(waiting, others)))


def wanted(board: Board, demand: Demand) -> list[Want]:
    return [Want(model, board.memory[model], *of_it) for model, of_it in demand.items()]


def places(board: Board, model: str) -> list[tuple[Server, Place]]:
    return [(server, server.places[model]) for server in board.servers if model in server.places]


@given(board=boards(), demand=demands(), may_start=st.booleans())
@law
def test_every_step_may_be_taken(board: Board, demand: Demand, *, may_start: bool) -> None:
    """Memory, also what is being unloaded; one place of a model on a server; no unload under a call; the ceiling."""
    for step in board.steps(*wanted(board, demand), may_start=may_start):
        assert may_start or not isinstance(step, Start)
        board.take(step)


@given(board=boards(), demand=demands(), may_start=st.booleans())
@law
def test_a_place_drains_only_for_a_reason(board: Board, demand: Demand, *, may_start: bool) -> None:
    steps = board.steps(*wanted(board, demand), may_start=may_start)
    starved = [
        model for model, (_, since) in demand.items() if since is not None and not _served(board, model)
    ]
    evicted = []
    for model in MODELS:
        replicas, since = demand.get(model, (0, None))
        drained = [
            place
            for server, place in places(board, model)
            if Drain(server.name, model) in steps and counts(server, place)
        ]
        too_many = sum(counts(server, place) for server, place in places(board, model)) - replicas
        if len(drained) > max(0, too_many):
            assert since is None, "who waits is not evicted"
            evicted += drained
    if evicted:
        assert starved, "nobody waits"
        if all(NOW - (demand[model][1] or NOW) <= 1.0 for model in starved):
            assert all(place.in_flight == 0 for place in evicted), "nobody starves"


def counts(server: Server, place: Place) -> bool:
    return place.counts and server.is_open


def _served(board: Board, model: str) -> bool:
    return any(
        place.phase is Phase.READY
        for server, place in places(board, model)
        if server.life is not Life.STOPPING
    )


@given(board=boards(), demand=demands(), may_start=st.booleans())
@law
def test_what_is_under_way_is_not_ordered_again(board: Board, demand: Demand, *, may_start: bool) -> None:
    """A drain can show the next plan room that this one did not see, so there may be further steps; but nothing twice, and soon none."""
    needs = wanted(board, demand)
    loads: Counter[str] = Counter()
    for number in range(len(MODELS) + 1):
        steps = board.steps(*needs, may_start=may_start)
        for step in steps:
            board.take(step)
        assert not number or Start() not in steps
        loads.update(step.model for step in steps if isinstance(step, Load))
    assert steps == []
    assert all(times <= demand[model][0] for model, times in loads.items())


@given(board=boards(), demand=demands(), may_start=st.booleans())
@law
def test_when_all_goes_well_demand_is_met_or_cannot_be(
    board: Board, demand: Demand, *, may_start: bool
) -> None:
    rounds = 0
    while True:
        steps = board.steps(*wanted(board, demand), may_start=may_start)
        for step in steps:
            board.take(step)
        if not board.settle() and not steps and board.now > NOW + STARVING_SECONDS:
            break
        board.now += 0.7
        served = {model for model in demand if _served(board, model)}
        demand = {model: (n, None if model in served else since) for model, (n, since) in demand.items()}
        rounds += 1
        assert rounds < 80, "it never comes to rest"
    for model, (replicas, since) in demand.items():
        _is_met_or_cannot_be(board, model, replicas, since, may_start=may_start)
    assert {model for server in board.servers for model in server.places} <= {
        model for model, (replicas, _) in demand.items() if replicas
    }
    assert not any(server.life is Life.RETIRING for server in board.servers)


def _is_met_or_cannot_be(
    board: Board, model: str, replicas: int, since: float | None, *, may_start: bool
) -> None:
    has = places(board, model)
    assert all(place.phase is Phase.READY and not place.outdated for _, place in has)
    assert len(has) <= replicas
    need, more = board.memory[model], may_start and len(board.servers) < board.fleet.replicas.max
    if len(has) < replicas and (has or since is not None):
        others = [server for server in board.servers if model not in server.places]
        assert not more or need > board.fleet.memory_bytes, "a server could start"
        assert all(board.used(server) + need > board.fleet.memory_bytes for server in others), "there is room"
    if since is not None:
        assert need > board.fleet.memory_bytes or not board.servers, "who waits gets nothing"
