"""Sequences through the whole gateway: the official client's ids are its tenant's own, and a state that is lost is said to be."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.e2e.world import Demo, new_tenant, processes, until

pytestmark = pytest.mark.triton


class Client:
    """tritonclient.http as it is, on a key of a tenant of its own."""

    def __init__(self, plain: triton.InferenceServerClient, key: str) -> None:
        self.plain, self.headers = plain, {"Authorization": f"Bearer {key}"}

    def add(self, number: int, sequence: int | str, **flags: bool) -> tuple[int, int]:
        """The total so far, and the id that the server knows the sequence by."""
        given = triton.InferInput("add", [1, 1], "INT32")
        given.set_data_from_numpy(np.array([[number]], np.int32))
        result = self.plain.infer(
            "running", [given], sequence_id=sequence, headers=dict(self.headers), **flags
        )
        return int(result.as_numpy("total")[0, 0]), int(result.as_numpy("known_as")[0, 0])

    def refused(self, *given: Any, **flags: bool) -> tuple[str, str]:
        with pytest.raises(InferenceServerException) as refused:
            self.add(*given, **flags)
        return refused.value.status(), refused.value.message()


@contextmanager
def connected(demo: Demo, key: str) -> Iterator[Client]:
    with triton.InferenceServerClient(demo.address) as plain:
        yield Client(plain, key)


@pytest.fixture(scope="module")
def client(house: Demo) -> Iterator[Client]:
    with connected(house, new_tenant(house.state, "sequential").secret.reveal()) as made:
        yield made


def test_a_sequence_adds_up_until_it_ends_and_another_tenants_of_one_id_is_another(
    house: Demo, client: Client
) -> None:
    with connected(house, new_tenant(house.state, "other-sequential").secret.reveal()) as other:
        first, ours = client.add(1, 7, sequence_start=True)
        second, theirs = other.add(100, 7, sequence_start=True)
        assert (first, second) == (1, 100)
        assert client.add(2, 7) == (3, ours)
        assert other.add(100, 7) == (200, theirs)
        assert ours != theirs
        assert 7 not in (ours, theirs)
        assert client.add(3, 7, sequence_end=True) == (6, ours)
        assert other.add(1, 7, sequence_end=True) == (201, theirs)


def test_what_triton_says_of_a_sequence_has_the_clients_own_id(client: Client) -> None:
    status, message = client.refused(1, 12345)
    assert status == "400"
    assert message == (
        "inference request for sequence 12345 to model 'running' must specify the START flag on the first "
        "request of the sequence"
    )


def test_an_id_of_the_wrong_type_is_refused_and_hurts_nobody(client: Client) -> None:
    client.add(1, 8, sequence_start=True)
    status, message = client.refused(1, "text", sequence_start=True)
    assert (status, message) == ("400", "the sequences of this model are known by numbers")
    assert client.add(1, 8, sequence_end=True)[0] == 2


def test_a_sequence_whose_models_process_died_is_told_so_and_starts_anew(house: Demo, client: Client) -> None:
    client.add(5, 9, sequence_start=True)
    (stub,) = (pid for pid, name in _stubs(house).items() if name == "running")
    os.kill(stub, signal.SIGKILL)

    def told() -> tuple[str, str] | None:
        """Calls that meet the dead process fail until it is found out."""
        said = client.refused(1, 9)
        return said if said[0] == "409" else None

    found = until(told, 10)
    assert found is not None
    assert found[1] == "the sequence was lost with its model's process; start it anew"
    assert client.add(5, 9, sequence_start=True)[0] == 5


def _stubs(demo: Demo) -> dict[int, str]:
    """The models' processes: number to model."""
    found = {}
    for pid, program in processes(demo.state).items():
        if program == "triton_python_backend_stub":
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            found[pid] = words[1].split("/")[-3]
    return found
