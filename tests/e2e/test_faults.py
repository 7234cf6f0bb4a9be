"""A dead or wedged server, or model, hurts nobody for long, and its neighbours not at all."""

import os
import signal
import statistics
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.state import clock
from tests.e2e.fleets import (
    FAILS,
    Fleet,
    configure,
    count,
    gateway_log,
    killed,
    serve,
    server_of,
    serving_fleet,
)
from tests.e2e.load import (
    FULL,
    Load,
    Record,
    Seen,
    Traffic,
    faults,
    loading,
    of,
    percentile,
    seeded,
    slept,
    statuses,
    times,
    zipf,
)
from tests.e2e.world import Demo, fp32, processes, tritons, until

pytestmark = [pytest.mark.triton, pytest.mark.chaos]

KILLS = 30 if FULL else 3
GATEWAY_KILLS = 20 if FULL else 2
WINDOW_SECONDS = 40 if FULL else 3  # of each p99 that is compared
REFUSED_SECONDS = 60 if FULL else 5
MOST_TRIES = (
    10 if FULL else 5
)  # of loads in that time; without backing off there would be one for each request
# The bars.
FAILED_SECONDS, BACK_SECONDS, OUT_SECONDS, HARM = 1.0, 5.0, 5.0, 1.5

FAST = Traffic(times("times01"), 8, 0.02)
# A neighbour that computes as long as a small network does; there are as many instances of it as clients.
NEIGHBOUR = Traffic(slept("slow", 40), 4, 0.02)
INSTANCES = {"slow": 4}
KILL = -9.0  # tests/models/times: what kills the model's process

_pause = threading.Event().wait


def test_kill_9_of_a_server_fails_what_it_had_and_nothing_else(state: Path, record_property: Record) -> None:
    """Each time under a gateway that has seen no server die yet: more of it in a row would be a crash loop."""
    rng = seeded(record_property)
    key = configure(state, Fleet(["times01", "slow"]))
    failed_after: list[float] = []
    back_after: list[float] = []
    for _ in range(KILLS):
        with serve(state, key) as demo:
            with loading(demo, rng, FAST, Traffic(slept("slow", 200), 4)) as load:
                _expect_service(load, ("times01", "slow"))
                _pause(rng.uniform(0, 1))
                (server,) = tritons(state)
                at = clock()
                os.kill(server, signal.SIGKILL)
                _expect_service(load, ("times01", "slow"))
            killed(demo)
        assert faults(load.seen) == []
        assert statuses(load.seen).keys() == {200, 502}
        failed_after += [one.ended - at for one in load.seen if one.status == 502]
        back_after += [_back(load.seen, model, at) for model in ("times01", "slow")]
    record_property(
        f"kill -9 of a server, {KILLS} times: {len(failed_after)} times 502, after", _spread(failed_after)
    )
    record_property("  both models served again after", _spread(back_after))
    assert min(failed_after) >= 0
    assert max(failed_after) <= FAILED_SECONDS
    assert max(back_after) <= BACK_SECONDS


def _back(seen: Sequence[Seen], model: str, kill: float) -> float:
    return min(one.ended for one in of(seen, model, kill) if one.status == 200) - kill


def test_a_stopped_server_is_replaced_and_its_neighbour_is_not_slowed(
    state: Path, record_property: Record
) -> None:
    rng = seeded(record_property)
    fleet = Fleet(["times01", "slow", "times09"], models_each=1, most_replicas=3, instances=INSTANCES)
    with serving_fleet(state, fleet) as demo, loading(demo, rng, FAST, NEIGHBOUR) as load:
        windows = _quiet_and_control(demo, load)
        assert len(tritons(state)) == 3
        server = server_of(state, "times01")
        at = clock()
        os.kill(server, signal.SIGSTOP)
        windows["fault"] = _window(load, at)
        until(lambda: server not in processes(state), 10)
    _expect_healed(load, at, windows, "SIGSTOP of a server", record_property)


def test_a_crashed_model_that_stays_ready_is_replaced_and_its_neighbour_is_not_slowed(
    state: Path, record_property: Record
) -> None:
    rng = seeded(record_property)
    fleet = Fleet(["times01", "slow", "times09"], models_each=3, most_replicas=2, instances=INSTANCES)
    with serving_fleet(state, fleet) as demo, loading(demo, rng, FAST, NEIGHBOUR) as load:
        windows = _quiet_and_control(demo, load)
        assert len(tritons(state)) == 1
        at = clock()
        assert demo.infer("times01", fp32(*[KILL] * 4)).status in (500, 502)
        windows["fault"] = _window(load, at)
    _expect_healed(load, at, windows, "crash of a model that stays READY", record_property)


@dataclass(frozen=True, slots=True)
class Window:
    begun: float
    ended: float

    def p99(self, seen: Sequence[Seen]) -> float:
        """Of the neighbour's requests that were sent in it."""
        return percentile([one.seconds for one in of(seen, "slow", self.begun, self.ended)], 0.99)


def _quiet_and_control(demo: Demo, load: Load) -> dict[str, Window]:
    """The load as it is, and beside an ordinary cold start: what the machine makes of that without any fault."""
    _expect_service(load, ("times01", "slow"))
    windows = {"before": _window(load, clock())}
    begun = clock()
    assert demo.infer("times09", fp32(1, 2, 3, 4)).status == 200
    windows["cold start"] = _window(load, begun)
    return windows


def _window(load: Load, begun: float) -> Window:
    """From then until it has lasted long enough and both models are served."""
    _pause(max(0.0, begun + WINDOW_SECONDS - clock()))
    _expect_service(load, ("times01", "slow"))
    return Window(begun, clock())


def _expect_service(load: Load, models: Sequence[str]) -> None:
    """Requests that are sent from now on are answered."""
    now = clock()
    until(lambda: all(load.answered(model, now) for model in models), 30)


def _expect_healed(
    load: Load, at: float, windows: Mapping[str, Window], what: str, record_property: Record
) -> None:
    failed = [one for one in load.seen if one.status != 200]
    back = min(one.ended for one in of(load.seen, "times01", at + 0.01) if one.status == 200) - at
    out = max((one.ended - at for one in failed), default=0.0)
    p99 = {name: window.p99(load.seen) for name, window in windows.items()}
    record_property(f"{what}: out of rotation after", f"{out:.1f} s ({dict(statuses(failed))})")
    record_property("  served again after", f"{back:.1f} s")
    record_property("  p99 of its neighbour", ", ".join(f"{n} {s * 1e3:.0f} ms" for n, s in p99.items()))
    assert faults(load.seen) == []
    assert {one.model for one in failed} <= {"times01"}
    assert statuses(failed).keys() <= {500, 502, 503}
    assert out <= OUT_SECONDS
    assert p99["fault"] <= HARM * p99["before"]


def test_kill_9_of_a_gateway_under_load_leaves_nothing(state: Path, record_property: Record) -> None:
    rng = seeded(record_property)
    models = [f"times{number:02}" for number in range(1, 7)]
    key = configure(state, Fleet(models, models_each=2, most_replicas=2))
    took = []
    for _ in range(GATEWAY_KILLS):
        mixed = Traffic(zipf([times(model) for model in models]), 12, 0.05)
        with serve(state, key) as demo:
            with loading(demo, rng, mixed) as load:
                until(lambda: tritons(state), 20)
                _pause(rng.uniform(0, 3))
                at = clock()
                killed(demo)
                load.stop()
            took.append(clock() - at)
        assert statuses(load.seen).keys() <= {0, 200}
        assert [one for one in faults(load.seen) if one.status == 200] == []
    record_property(f"kill -9 of the gateway, {GATEWAY_KILLS} times: nothing left after", _spread(took))


def test_a_model_that_cannot_be_loaded_is_tried_ever_more_rarely_and_its_neighbour_does_not_notice(
    state: Path, record_property: Record
) -> None:
    fleet = Fleet(["times01", "fails"], scaling={"start_deadline_seconds": 5})
    rng = seeded(record_property)
    with serving_fleet(state, fleet) as demo, loading(demo, rng, FAST) as load:
        _expect_service(load, ("times01",))
        waits = _asked_for(demo, "fails")
        tried = count(state, "loading", "fails")
        assert FAILS in gateway_log(state)
    assert faults(load.seen) == []
    assert statuses(load.seen).keys() == {200}
    _expect_backing_off(waits, tried, "a model that cannot be loaded", record_property)


def test_a_model_that_kills_its_server_is_tried_ever_more_rarely_and_the_others_come_back(
    state: Path, record_property: Record
) -> None:
    fleet = Fleet(["times01", "kills"], most_replicas=2, scaling={"start_deadline_seconds": 5})
    rng = seeded(record_property)
    with serving_fleet(state, fleet) as demo, loading(demo, rng, FAST) as load:
        _expect_service(load, ("times01",))
        waits = _asked_for(demo, "kills")
        tried = count(state, "loading", "kills")
        assert "kills" in gateway_log(state)
        _expect_service(load, ("times01",))
    assert faults(load.seen) == []
    assert statuses(load.seen).keys() <= {200, 502, 503}
    record_property("beside a model that kills its server", dict(statuses(load.seen)))
    _expect_backing_off(waits, tried, "a model that kills its server", record_property)


def _asked_for(demo: Demo, model: str) -> list[int]:
    """The Retry-After of each refusal, of a client that does not heed it."""
    waits = []
    until_then = clock() + REFUSED_SECONDS
    while clock() < until_then:
        refused = demo.infer(model, fp32(1, 2, 3, 4))
        assert refused.status == 503
        waits.append(int(refused.headers["retry-after"]))
        _pause(0.1)
    return waits


def _expect_backing_off(waits: list[int], tried: int, what: str, record_property: Record) -> None:
    record_property(what, f"{tried} tries in {REFUSED_SECONDS} s, Retry-After {sorted(set(waits))}")
    assert max(waits) > waits[0]
    assert 2 <= tried <= MOST_TRIES


def _spread(seconds: Sequence[float]) -> str:
    return f"median {statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s"
