"""What is counted: each figure once, in the right place, and never without bound."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from gateway.scaling.registry import ColdPhase, FleetEvent, ModelEvent, QueueEvent
from gateway.telemetry import table
from gateway.telemetry.meter import EVENTS, MOST_MODELS, OTHER, Buckets, Meter
from gateway.telemetry.table import TABLE

BOUNDS = (0.25, 1.0, 4.0)


def settle(meter: Meter, model: str = "digits", status: int = 200, *, upstream: float | None = 0.5) -> None:
    meter.settled(
        "infer", model, status, seconds=1.0, upstream_seconds=upstream, received_bytes=100, sent_bytes=10
    )


def histogram(meter: Meter, metric: table.Metric, *values: str) -> Buckets:
    found = meter.read()[metric][values]
    assert isinstance(found, Buckets)
    return found


@given(st.lists(st.one_of(st.floats(0, 10), st.sampled_from(BOUNDS))))
def test_every_value_is_in_the_bucket_of_the_least_bound_that_is_not_below_it(values: list[float]) -> None:
    buckets = Buckets(BOUNDS)
    for value in values:
        buckets.add(value)
    edges = (*BOUNDS, float("inf"))
    below = [sum(value <= edge for value in values) for edge in edges]
    assert [sum(buckets.counts[: i + 1]) for i in range(len(edges))] == below
    assert buckets.total == sum(values, 0.0)


def test_a_call_is_counted_by_model_verb_and_status_and_its_bytes_by_model() -> None:
    meter = Meter()
    settle(meter)
    settle(meter, status=503)
    settle(meter, status=503)
    assert sum(histogram(meter, table.CALLS, "digits", "infer", "200").counts) == 1
    assert sum(histogram(meter, table.CALLS, "digits", "infer", "503").counts) == 2
    assert histogram(meter, table.UPSTREAM, "digits").total == 1.5
    assert meter.read()[table.RECEIVED] == {("digits",): 300}
    assert meter.read()[table.SENT] == {("digits",): 30}


def test_a_call_that_no_server_answered_has_no_upstream_duration() -> None:
    meter = Meter()
    settle(meter, "", 404, upstream=None)
    assert meter.read()[table.UPSTREAM] == {}
    assert sum(histogram(meter, table.CALLS, "", "infer", "404").counts) == 1


def test_models_beyond_the_first_thousand_are_counted_together() -> None:
    meter = Meter()
    for number in range(MOST_MODELS + 7):
        settle(meter, f"model-{number}")
    settle(meter, "model-0")
    assert len(meter.read()[table.CALLS]) == MOST_MODELS + 1
    assert sum(histogram(meter, table.CALLS, OTHER, "infer", "200").counts) == 7
    assert sum(histogram(meter, table.CALLS, "model-0", "infer", "200").counts) == 2


def test_what_happens_in_scaling_is_counted_under_its_own_name() -> None:
    meter = Meter()
    for event in EVENTS:
        meter.happened(event, "one")
    meter.happened("load", "two")
    meter.phase("boot", 0.3)
    reading = meter.read()
    assert len(set(EVENTS.values())) == len(EVENTS)
    assert [reading[metric]["one",] for metric in EVENTS.values()] == [1] * len(EVENTS)
    assert reading[table.LOADS]["two",] == 1
    assert histogram(meter, table.COLD_START, "boot").total == 0.3


def test_everything_that_scaling_tells_is_counted() -> None:
    meter = Meter()
    told = {*get_args(FleetEvent), *get_args(ModelEvent), *get_args(QueueEvent)}
    for event in told:
        meter.happened(event, "one")
    for phase in get_args(ColdPhase):
        meter.phase(phase, 0.1)
    assert told == set(EVENTS)
    assert set(meter.read()[table.COLD_START]) == {("queue",), ("boot",), ("load",), ("first_inference",)}


def test_a_reading_has_every_metric_of_the_table_in_its_order_and_watches_what_others_count() -> None:
    meter, ages = Meter(), iter([1.0, 2.0])
    meter.watch_number(table.DIRECTORY_AGE, lambda: next(ages))
    assert tuple(meter.read()) == TABLE
    assert meter.read()[table.DIRECTORY_AGE] == {(): 2.0}


def test_no_name_of_the_table_comes_twice_and_none_has_an_attribute_that_only_grows() -> None:
    assert len({metric.name for metric in TABLE}) == len(TABLE)
    assert {attribute for metric in TABLE for attribute in metric.attributes} == {
        *(table.MODEL, table.VERB, table.STATUS, table.ERROR, table.FLEET, table.PHASE, table.CPU_MODE),
        *(table.POLICY_VERSION, table.LISTENER),  # one at a time; public and operator
        table.REASON,  # of a capture that is lost
        table.CLAIM_RESULT,  # six of them
        table.STANDING,  # live, silent, dead
    }
    assert all(bool(metric.bounds) == (metric.kind == "histogram") for metric in TABLE)
