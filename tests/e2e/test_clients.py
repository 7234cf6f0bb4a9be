"""The official client works unchanged: only the address and the key differ."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from gateway.state import clock
from tests.conftest import ROOT
from tests.e2e.world import Demo, serving, tritons

pytestmark = pytest.mark.triton

FROM_ZERO_SECONDS = 4.0
NOT_A_DIGIT = "image: every value must be a number from 0 (paper) to 1 (ink)"
TEXTS = {
    "text": [b"a", b"two words"],
    "empty strings": [b"", b"x", b""],
    "no elements": [],
    "NUL": [b"a\0b", b"\0"],
    "unicode": ["déjà vu, 漢字, 🙂".encode()],
    "quotes": [b'"quoted" \\ and\nlines'],
}

Array = npt.NDArray[np.generic]
ways = pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])


class Client:
    """tritonclient.http as it is, with the key in its headers."""

    def __init__(self, demo: Demo, plain: triton.InferenceServerClient) -> None:
        self.plain = plain
        self.key = {"Authorization": f"Bearer {demo.key}"}

    def infer(self, model: str, given: triton.InferInput, wanted: triton.InferRequestedOutput) -> Array:
        result = self.plain.infer(model, [given], outputs=[wanted], headers=dict(self.key))
        array: Array = result.as_numpy(wanted.name())
        return array

    def classify(self, images: Array, *, binary: bool, classes: int = 0) -> Array:
        return self.infer(
            "digits",
            tensor("image", "FP32", images, binary=binary),
            triton.InferRequestedOutput("scores", binary_data=binary, class_count=classes),
        )

    def echo(self, model: str, given: triton.InferInput, *, binary: bool) -> Array:
        return self.infer(model, given, triton.InferRequestedOutput("out", binary_data=binary))


def tensor(name: str, datatype: str, array: Array, *, binary: bool) -> triton.InferInput:
    made = triton.InferInput(name, array.shape, datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


@contextmanager
def connected(demo: Demo) -> Iterator[Client]:
    with triton.InferenceServerClient(demo.address) as plain:
        yield Client(demo, plain)


@pytest.fixture
def client(house: Demo) -> Iterator[Client]:
    with connected(house) as made:
        yield made


@pytest.fixture(scope="session")
def digit() -> Array:
    """The example, a seven: [1,1,28,28]."""
    image = json.loads((ROOT / "infra" / "examples" / "digit.json").read_text())["inputs"][0]
    return np.array(image["data"], dtype=np.float32).reshape(image["shape"])


def test_the_first_request_starts_a_server_and_is_answered_in_time(
    state: Path, digit: Array, record_property: Callable[[str, object], None]
) -> None:
    with serving(state) as demo, connected(demo) as client:
        assert tritons(state) == []
        begun = clock()
        scores = client.classify(digit, binary=True)
        took = clock() - begun
        assert scores.argmax() == 7
        assert len(tritons(state)) == 1
    record_property(
        "first request, from no server to its answer", f"{took:.2f} s (bar {FROM_ZERO_SECONDS:g} s)"
    )
    assert took < FROM_ZERO_SECONDS


@ways
def test_a_digit_is_classified(client: Client, digit: Array, *, binary: bool) -> None:
    scores = client.classify(digit, binary=binary)
    assert scores.shape == (1, 10)
    assert scores.dtype == np.float32
    assert scores.argmax() == 7
    assert scores.sum() == pytest.approx(1, abs=1e-4)


@ways
def test_a_class_is_told_by_its_label(client: Client, digit: Array, *, binary: bool) -> None:
    classes = client.classify(digit, binary=binary, classes=2)
    best, second = (text.decode().split(":") for text in as_bytes(classes[0]))
    assert best[1:] == ["7", "7"]
    assert float(best[0]) > float(second[0])


@ways
def test_a_batch_is_answered_in_its_order(client: Client, digit: Array, *, binary: bool) -> None:
    blank = np.zeros_like(digit)
    scores = client.classify(np.concatenate([blank, digit, blank]), binary=binary)
    assert scores.shape == (3, 10)
    assert scores[1].argmax() == 7
    assert np.allclose(scores[0], scores[2])
    assert not np.allclose(scores[0], scores[1])


@ways
@pytest.mark.parametrize("values", TEXTS.values(), ids=TEXTS.keys())
def test_text_survives(client: Client, values: list[bytes], *, binary: bool) -> None:
    assert _echoed(client, values, binary=binary) == values


def test_bytes_that_are_no_text_survive_in_binary(client: Client) -> None:
    values = [b"\xff\xfe\x00\x80", bytes(range(256)), b"\xc3"]
    assert _echoed(client, values, binary=True) == values


def _echoed(client: Client, values: list[bytes], *, binary: bool) -> list[bytes]:
    given = tensor("in", "BYTES", np.array(values, dtype=np.object_), binary=binary)
    return as_bytes(client.echo("echo_bytes", given, binary=binary))


def as_bytes(texts: Array) -> list[bytes]:
    """tritonclient gives text for JSON and bytes for binary."""
    return [text.encode() if isinstance(text, str) else text for text in texts.tolist()]


def test_every_bit_of_a_binary_float_survives(client: Client) -> None:
    bits = [0x00000000, 0x80000000, 0x00000001, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00001, 0x3DCCCCCD]
    given = np.array(bits, dtype=np.uint32).view(np.float32)
    echoed = client.echo("echo_fp32", tensor("in", "FP32", given, binary=True), binary=True)
    assert echoed.view(np.uint32).tolist() == bits


@pytest.mark.parametrize("binary_in", [True, False], ids=["binary in", "json in"])
def test_finite_floats_survive_json(client: Client, *, binary_in: bool) -> None:
    given = np.array([0.1, -2.5, 3.4028235e38, 1.1754944e-38, 16777217, 0], dtype=np.float32)
    echoed = client.echo("echo_fp32", tensor("in", "FP32", given, binary=binary_in), binary=False)
    assert echoed.tolist() == given.tolist()


@ways
def test_a_tensor_without_elements_survives(client: Client, *, binary: bool) -> None:
    given = tensor("in", "FP32", np.zeros(0, dtype=np.float32), binary=binary)
    assert client.echo("echo_fp32", given, binary=binary).shape == (0,)


def test_the_server_and_the_model_describe_themselves(client: Client) -> None:
    assert client.plain.is_server_live()
    assert client.plain.is_server_ready()
    assert client.plain.get_server_metadata(headers=dict(client.key))["name"] == "triton"
    for version in ("", "1"):
        assert client.plain.is_model_ready("digits", version, headers=dict(client.key))
        described = client.plain.get_model_metadata("digits", version, headers=dict(client.key))
        assert described["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 28, 28]}]
        assert described["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}]
        assert described["versions"] == ["1"]


def test_a_model_without_a_server_is_ready(state: Path) -> None:
    with serving(state) as demo, connected(demo) as client:
        assert client.plain.is_model_ready("digits", headers=dict(client.key))
        assert tritons(state) == []


missing = pytest.mark.parametrize(
    ("model", "version"), [("unheard-of", ""), ("unheard-of", "1"), ("digits", "99")]
)


@missing
def test_what_is_not_there_is_not_found(client: Client, digit: Array, model: str, version: str) -> None:
    given = [tensor("image", "FP32", digit, binary=True)]
    with pytest.raises(InferenceServerException) as infer:
        client.plain.infer(model, given, model_version=version, headers=dict(client.key))
    with pytest.raises(InferenceServerException) as describe:
        client.plain.get_model_metadata(model, version, headers=dict(client.key))
    assert (infer.value.status(), describe.value.status()) == ("404", "404")


@missing
def test_what_is_not_there_is_not_ready(client: Client, model: str, version: str) -> None:
    assert not client.plain.is_model_ready(model, version, headers=dict(client.key))


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 255.0])
def test_a_model_refuses_in_its_own_words_and_no_others(client: Client, digit: Array, value: float) -> None:
    spoilt = digit.copy()
    spoilt[0, 0, 3, 3] = value
    with pytest.raises(InferenceServerException) as refused:
        client.classify(spoilt, binary=True)
    assert (refused.value.status(), refused.value.message()) == ("400", NOT_A_DIGIT)


def test_a_number_that_json_does_not_have_is_refused(house: Demo) -> None:
    body = b'{"inputs": [{"name": "in", "datatype": "FP32", "shape": [1], "data": [NaN]}]}'
    assert house.infer("echo_fp32", body).status == 400
