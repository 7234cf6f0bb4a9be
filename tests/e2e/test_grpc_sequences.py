"""Sequences over gRPC, unary and on a stream: the same ids of the tenant's own, and the order in which a client asked."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.e2e.world import Demo, new_tenant

pytestmark = pytest.mark.triton

NUMBERS = range(1, 31)


def adding(number: int) -> triton.InferInput:
    given = triton.InferInput("add", [1, 1], "INT32")
    given.set_data_from_numpy(np.array([[number]], np.int32))
    return given


class Client:
    """tritonclient.grpc as it is, on a key of a tenant of its own."""

    def __init__(self, plain: triton.InferenceServerClient, key: str) -> None:
        self.plain, self.headers = plain, {"authorization": f"Bearer {key}"}

    def add(self, number: int, sequence: int | str, **flags: bool) -> tuple[int, int]:
        result = self.plain.infer(
            "running", [adding(number)], sequence_id=sequence, headers=self.headers, **flags
        )
        return int(result.as_numpy("total")[0, 0]), int(result.as_numpy("known_as")[0, 0])


@contextmanager
def connected(house: Demo, name: str) -> Iterator[Client]:
    key = new_tenant(house.state, name).secret.reveal()
    with triton.InferenceServerClient(house.grpc) as plain:
        yield Client(plain, key)


def test_two_tenants_with_one_id_are_two_sequences(house: Demo) -> None:
    with connected(house, "grpc-one") as one, connected(house, "grpc-two") as two:
        (first, ours), (second, theirs) = (
            client.add(number, 7, sequence_start=True) for client, number in ((one, 1), (two, 100))
        )
        assert (first, second) == (1, 100)
        assert len({ours, theirs, 7}) == 3
        assert one.add(2, 7, sequence_end=True) == (3, ours)
        assert two.add(2, 7, sequence_end=True) == (102, theirs)


def test_refusals_name_the_clients_own_id_and_the_type_that_is_wanted(house: Demo) -> None:
    with connected(house, "grpc-three") as client:
        with pytest.raises(InferenceServerException) as refused:
            client.add(1, 4321)
        assert "for sequence 4321 to model" in refused.value.message()
        assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
        with pytest.raises(InferenceServerException) as refused:
            client.add(1, "text", sequence_start=True)
        assert refused.value.message() == "the sequences of this model are known by numbers"


def test_a_stream_keeps_the_order_of_each_of_its_sequences(house: Demo) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with connected(house, "grpc-four") as client:
        client.plain.start_stream(lambda result, error: answers.put((result, error)), headers=client.headers)
        for number in NUMBERS:
            for sequence in (11, 12):
                client.plain.async_stream_infer(
                    "running",
                    [adding(number * sequence)],
                    request_id=f"{sequence}",
                    sequence_id=sequence,
                    sequence_start=number == NUMBERS[0],
                    sequence_end=number == NUMBERS[-1],
                )
        totals: dict[str, list[int]] = {"11": [], "12": []}
        for _ in range(2 * len(NUMBERS)):
            result, error = answers.get(timeout=20)
            assert error is None, error
            totals[result.get_response().id].append(int(result.as_numpy("total")[0, 0]))
        client.plain.stop_stream()
    sums = np.cumsum(NUMBERS)
    assert totals == {"11": (sums * 11).tolist(), "12": (sums * 12).tolist()}


def test_an_error_on_a_stream_names_the_clients_own_id(house: Demo) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with connected(house, "grpc-five") as client:
        client.plain.start_stream(lambda result, error: answers.put((result, error)), headers=client.headers)
        client.plain.async_stream_infer("running", [adding(1)], sequence_id=4321)
        _, error = answers.get(timeout=20)
        client.plain.stop_stream()
    assert "for sequence 4321 to model" in error.message()
