"""The rows through which those who send and who has charge meet: their bytes, and that the placements only go by moves that there are."""

import random
from typing import Final

import pytest

from gateway.scaling import facts, placements, reports
from gateway.scaling.draining import Drain, Placed, Placements, Spot
from gateway.scaling.facts import Facts
from gateway.scaling.placements import Address, Document, Lasted, Lodged, Pause, Wanted, brought
from gateway.scaling.reports import Evidence, Report, Use
from gateway.scaling.residency import Phase
from gateway.triton.control import Deployment, ModelConfig
from tenants.errors import Unreadable
from tenants.ports import Row
from tests.seeds import FULL

DOCUMENT: Final = Document(
    version=7,
    charge="m1",
    replicas={"r": Address("local", "127.0.0.1", 20001, 20002, (("h", "secret"),))},
    places={
        "r": {
            "a": Lodged("READY", 5, 3, 10),
            "b": Lodged("UNLOADING", 7, 2, 10, is_cut=True, takes=False, looks=4),
        }
    },
    fleets=Lasted({"local": 0.5}, {"local": Pause("no memory", 12.5, 1)}),
    models=Lasted({"a": 0.25}),
    asks=2,
)
# Version 1. Bytes that are stored do not change: a new version has bytes of its own.
DOCUMENT_BYTES: Final = (
    b'{"v":1,"version":7,"charge":"m1","replicas":{"r":{"fleet":"local","host":"127.0.0.1","port":20001,"grpc_port":20002,'
    b'"control":[["h","secret"]],"retiring":false}},"places":{"r":{"a":["READY",5,3,10,false,true,0],'
    b'"b":["UNLOADING",7,2,10,true,false,4]}},"fleets":{"seconds":{"local":0.5},"pauses":{"local":["no memory",12.5,1]}},'
    b'"models":{"seconds":{"a":0.25},"pauses":{}},"asks":2}'
)
REPORT: Final = Report(
    number=9,
    lasts_seconds=60.0,
    acknowledged=(("r", "b", 6),),
    models={"a": Use(2, 10.5, 1, 11.0)},
    places={"r": {"a": Evidence(3, 1, 11.0, 20, 18, 1, 2, 0)}},
    answers=2,
)
REPORT_BYTES: Final = (
    b'{"v":1,"number":9,"lasts_seconds":60.0,"acknowledged":[["r","b",6]],"models":{"a":[2,10.5,1,11.0]},'
    b'"places":{"r":{"a":[3,1,11.0,20,18,1,2,0]}},"answers":2}'
)
FACTS: Final = Facts(("1", "2"), ModelConfig("a"), Deployment(max_batch_size=8))
FACTS_BYTES: Final = (
    b'{"v":1,"versions":["1","2"],"config":{"name":"a","platform":"","backend":"","max_batch_size":0,"input":[],"output":[],'
    b'"sequence_batching":null,"model_transaction_policy":{"decoupled":false}},"deployment":{"max_batch_size":8,'
    b'"instance_group":[],"dynamic_batching":null,"sequence_batching":null,"model_transaction_policy":{"decoupled":false}}}'
)


def row(value: bytes) -> Row:
    return Row(placements.placements_at("host"), value, 1)


def test_what_is_written_today_is_read_tomorrow() -> None:
    assert placements.encoded(DOCUMENT) == DOCUMENT_BYTES
    assert placements.read(row(DOCUMENT_BYTES)) == DOCUMENT
    assert reports.encoded(REPORT) == REPORT_BYTES
    assert reports.read(row(REPORT_BYTES)) == REPORT
    assert facts.encoded(FACTS) == FACTS_BYTES
    assert facts.read(row(FACTS_BYTES)) == FACTS
    assert DOCUMENT.placements == Placements(
        7,
        {
            Spot("r", "a"): Placed(Phase.READY, 5, 3, 10),
            Spot("r", "b"): Placed(Phase.UNLOADING, 7, 2, 10, is_cut=True),
        },
    )
    assert REPORT.drains == {Drain(Spot("r", "b"), 6)}


@pytest.mark.parametrize(
    "value", [b"", b"{}", b"\xff", b'{"v":2}', DOCUMENT_BYTES.replace(b"READY", b"RESTING")]
)
def test_what_cannot_be_read_says_nothing(value: bytes) -> None:
    with pytest.raises(Unreadable):
        placements.read(row(value))


@pytest.mark.parametrize("read", [reports.read, facts.read])
def test_a_later_version_is_refused(read: object) -> None:
    assert callable(read)
    with pytest.raises(Unreadable):
        read(row(REPORT_BYTES.replace(b'"v":1', b'"v":2')))


def test_a_place_is_not_unloading_without_a_drain_or_a_cut() -> None:
    spot = Spot("r", "a")
    loading = brought(Placements(), {"r": 1}, {spot: Wanted(Phase.LOADING, 10)})
    loaded = loading.places[spot].loaded
    ready = brought(loading, {"r": 1}, {spot: Wanted(Phase.READY, 10, loaded)})
    with pytest.raises(ValueError, match="READY does not become UNLOADING"):
        brought(ready, {"r": 1}, {spot: Wanted(Phase.UNLOADING, 10, loaded)})
    cut = brought(ready, {"r": 1}, {spot: Wanted(Phase.UNLOADING, 10, loaded, is_cut=True)})
    assert cut.places[spot].is_cut


def test_the_placements_become_what_is_wanted_whatever_was_not_written_in_between() -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(2_000 if FULL else 200):
        _brought_by_chance(chance)


def _brought_by_chance(chance: random.Random) -> None:
    """A board that goes its ways, and is written now and then."""
    old, replicas = Placements(), {"r": 1, "s": 1}
    board: dict[Spot, Wanted] = {}
    for _ in range(40):
        spot = Spot(chance.choice(sorted(replicas)), chance.choice("ab")) if replicas else None
        if spot is not None:
            _moves(board, spot, old, chance)
        if chance.random() < 0.05 and len(replicas) > 1:
            gone = replicas.popitem()[0]
            board = {spot: it for spot, it in board.items() if spot.replica != gone}
        if chance.random() < 0.5:
            new = brought(old, replicas, board)
            assert (new is old) or new.version > old.version
            assert {each: it.phase for each, it in new.places.items()} == {
                each: it.phase for each, it in board.items()
            }
            board = {
                each: Wanted(it.phase, it.memory_bytes, new.places[each].loaded, it.is_cut)
                for each, it in board.items()
            }
            assert brought(new, replicas, board) is new
            old = new


def _moves(board: dict[Spot, Wanted], spot: Spot, written: Placements, chance: random.Random) -> None:
    """One step of what who has charge does with a place; a drain ends by what is written of it."""
    it, known = board.get(spot), written.places.get(spot)
    if it is None:
        board[spot] = Wanted(Phase.LOADING, 10)
        return
    is_written = known is not None and known.phase is it.phase and known.loaded == it.loaded
    nexts: dict[Phase, list[Phase]] = {
        Phase.LOADING: [Phase.READY, Phase.UNLOADING],
        Phase.READY: [Phase.DRAINING],
        Phase.DRAINING: [Phase.READY, *([Phase.UNLOADING] if is_written else [])],
        Phase.UNLOADING: [],
    }
    if it.phase is Phase.UNLOADING:
        if is_written:
            del board[spot]
        return
    to = chance.choice(nexts[it.phase])
    board[spot] = Wanted(to, it.memory_bytes, it.loaded)
