"""The official gRPC clients work unchanged: what they get through the gateway is what they get from Triton itself."""

import asyncio
import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.e2e.world import Demo, tritons, until

pytestmark = pytest.mark.triton

Array = npt.NDArray[np.generic]
ARRAYS: dict[str, Array] = {
    "BOOL": np.array([True, False, True]),
    **{
        name.upper(): np.array([0, 1, np.iinfo(name).max, np.iinfo(name).min], name)
        for name in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
    },
    "FP16": np.array([0.0, -0.0, np.inf, np.nan, 6e-8], np.float16),
    "FP32": np.array([0x80000000, 1, 0x7F800000, 0x7FC00001, 0x3DCCCCCD], np.uint32).view(np.float32),
    "FP64": np.array([-0.0, np.nan, np.inf, 5e-324, 0.1]),
    "BF16": np.array([0.0, -1.5, 2.0**100], ml_dtypes.bfloat16),
    "BYTES": np.array([b"", b"a\0b", bytes(range(256)), "漢字".encode()], np.object_),
}


class Client:
    """tritonclient.grpc as it is, with the key in its metadata, or none for Triton itself."""

    def __init__(self, address: str, key: str = "") -> None:
        self.plain = triton.InferenceServerClient(address)
        self.address = address
        self.headers = {"authorization": f"Bearer {key}"} if key else {}

    def infer(self, model: str, given: list[Any], **more: Any) -> Any:
        return self.plain.infer(model, given, headers=dict(self.headers), **more)

    def outcome(self, model: str, given: list[Any], **more: Any) -> tuple[object, ...]:
        """The whole reply, or status and text."""
        try:
            return (self.infer(model, given, **more).get_response().SerializeToString(deterministic=True),)
        except InferenceServerException as error:
            return (error.status(), error.message())

    @contextmanager
    def streaming(self, **headers: str) -> Iterator[Callable[[], Any]]:
        """While a stream is open: what gives the next thing on it, a reply or an error."""
        found: queue.Queue[Any] = queue.Queue()
        self.plain.start_stream(
            lambda result, error: found.put(error if result is None else result),
            headers=self.headers | headers,
        )
        try:
            yield lambda: found.get(timeout=20)
        finally:
            self.plain.stop_stream()

    def streamed(self, model: str, given: list[Any], number: int, **more: Any) -> list[str]:
        """So many things that come on a stream for one request, as text."""
        with self.streaming() as following:
            self.plain.async_stream_infer(model, given, **more)
            found = [following() for _ in range(number)]
        return [
            str(it) if isinstance(it, InferenceServerException) else str(it.get_response()) for it in found
        ]


@pytest.fixture(scope="module")
def client(house: Demo) -> Iterator[Client]:
    made = Client(house.grpc, house.key)
    yield made
    made.plain.close()


@pytest.fixture(scope="module")
def direct(client: Client, house: Demo) -> Iterator[Client]:
    """Triton itself, with all models of these tests loaded on it."""
    for model, given in (("identity", [tensor("FP32")]), ("echo_fp32", [named("in", "FP32")])):
        client.infer(model, given)
    client.streamed("repeat", [number("times", 1)], 1)
    (server,) = tritons(house.state)
    words = Path(f"/proc/{server}/cmdline").read_text().split("\0")
    (port,) = (word.partition("=")[2] for word in words if word.startswith("--grpc-port="))
    made = Client(f"127.0.0.1:{port}")
    yield made
    made.plain.close()


def tensor(datatype: str, array: Array | None = None) -> Any:
    return named(datatype, datatype, array)


def named(name: str, datatype: str, array: Array | None = None) -> Any:
    values = ARRAYS[datatype] if array is None else array
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


def number(name: str, value: int) -> Any:
    return named(name, "INT32", np.array([value], np.int32))


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("datatype", ARRAYS)
def test_every_datatype_comes_back_bit_by_bit_as_from_triton_itself(
    client: Client, direct: Client, datatype: str, compression: str | None
) -> None:
    given = [tensor(datatype)]
    ours = client.outcome("identity", given, request_id="7", compression_algorithm=compression)
    assert ours == direct.outcome("identity", given, request_id="7")
    array = client.infer("identity", given).as_numpy(f"{datatype}_OUT")
    assert array.tobytes() == ARRAYS[datatype].tobytes() or datatype == "BYTES"


def test_all_datatypes_at_once_and_a_tensor_without_elements(client: Client, direct: Client) -> None:
    for given in ([tensor(name) for name in ARRAYS], [tensor("FP32", np.zeros(0, np.float32))]):
        assert client.outcome("identity", given) == direct.outcome("identity", given)


def wrong() -> dict[str, dict[str, Any]]:
    good = [named("in", "FP32")]
    return {
        "wrong datatype": {"given": [named("in", "INT32")]},
        "unexpected input": {"given": [named("out", "FP32")]},
        "no input": {"given": []},
        "unexpected output": {"given": good, "outputs": [triton.InferRequestedOutput("other")]},
        "wrong rank": {"given": [named("in", "FP32", np.zeros((2, 2), np.float32))]},
        "decoupled": {"given": [number("times", 1)], "model": "repeat"},
        "with parameters": {"given": good, "parameters": {"own": "text", "other": 7, "third": True}},
    }


REFUSED = ("wrong datatype", "unexpected input", "no input", "unexpected output", "wrong rank")


@pytest.mark.parametrize("what", wrong())
def test_an_error_has_triton_s_own_status_and_words(client: Client, direct: Client, what: str) -> None:
    asked = {"model": "echo_fp32"} | wrong()[what]
    assert client.outcome(**asked) == direct.outcome(**asked)


@pytest.mark.parametrize(
    ("asked", "replies"),
    [({"times": 3}, 3), ({"times": 0}, 1), ({"times": 3, "fails_at": 1}, 4)],
    ids=["three", "none", "an error between"],
)
def test_a_decoupled_model_answers_as_often_as_from_triton_itself(
    client: Client, direct: Client, asked: dict[str, int], replies: int
) -> None:
    given = [number(name, value) for name, value in asked.items()]
    more = {"request_id": "7", "enable_empty_final_response": True}
    count = replies + (asked["times"] == 3 and "fails_at" not in asked)
    assert client.streamed("repeat", given, count, **more) == direct.streamed("repeat", given, count, **more)


def test_a_stream_survives_an_error_as_triton_s_does(client: Client, direct: Client) -> None:
    good = [named("in", "FP32")]
    for way in (client, direct):
        with way.streaming() as following:
            way.plain.async_stream_infer("echo_fp32", [named("in", "INT32")], request_id="1")
            assert "data-type is 'INT32'" in str(following())
            way.plain.async_stream_infer("echo_fp32", good, request_id="2")
            assert following().get_response().id == "2"


# As measured of 2.51: the header turns an error of the model's into a status; Triton's own refusals stay messages, and the stream goes on.
@pytest.mark.parametrize("header", [{}, {"triton_grpc_error": "true"}], ids=["plain", "asked for a status"])
@pytest.mark.parametrize("what", [*REFUSED, "absent model", "absent version"])
def test_what_is_refused_on_a_stream_is_a_message_though_a_status_was_asked_for(
    client: Client, direct: Client, what: str, header: dict[str, str]
) -> None:
    absent = {"absent model": {"model_name": "absent"}, "absent version": {"model_version": "7"}}
    asked = {"model_name": "echo_fp32", "inputs": [named("in", "FP32")]} | absent.get(what, {})
    asked |= {{"given": "inputs"}.get(name, name): value for name, value in wrong().get(what, {}).items()}
    told = []
    for way in (client, direct):
        with way.streaming(**header) as following:
            way.plain.async_stream_infer(**asked, request_id="1")
            told.append(str(following()))
            way.plain.async_stream_infer("echo_fp32", [named("in", "FP32")], request_id="2")
            assert following().get_response().id == "2"
    if what in REFUSED:
        assert told[0] == told[1]
    else:  # who may not know of it is told no more
        assert (told[0], "unknown model" in told[1]) == ("there is no such model", True)


def test_what_is_no_message_is_told_where_triton_ends_the_stream_without_a_word(
    client: Client, direct: Client
) -> None:
    told = []
    for way in (client, direct):
        with grpc.insecure_channel(way.address) as channel:
            stream: Any = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            call = stream(iter([b"\x0b\xff"]), metadata=tuple(way.headers.items()), timeout=20)
            told.append(([len(reply) > 0 for reply in call], call.code().name))
    assert told == [([True], "OK"), ([], "OK")]


def test_a_model_that_is_not_there_is_told_on_the_stream_and_as_a_status(client: Client) -> None:
    assert client.outcome("absent", []) == ("StatusCode.NOT_FOUND", "there is no such model")
    assert client.streamed("absent", [number("times", 1)], 1) == ["there is no such model"]


def test_the_server_and_the_model_describe_themselves(client: Client, direct: Client) -> None:
    assert client.plain.is_server_live()
    assert client.plain.is_server_ready()
    assert client.plain.get_server_metadata(headers=client.headers).name == "triton"
    assert client.plain.is_model_ready("echo_fp32", headers=client.headers)
    for version in ("", "1"):
        ours = client.plain.get_model_metadata("echo_fp32", version, headers=client.headers)
        assert ours == direct.plain.get_model_metadata("echo_fp32", version)


def test_the_asynchronous_client_works_and_its_streams_do(client: Client) -> None:
    async def main() -> tuple[Array, list[int]]:
        async with triton_aio.InferenceServerClient(client.address) as plain:
            given = triton_aio.InferInput("in", [2], "FP32")
            given.set_data_from_numpy(np.array([1, 2], np.float32))
            reply = await plain.infer("echo_fp32", [given], headers=dict(client.headers))
            times = triton_aio.InferInput("times", [1], "INT32")
            times.set_data_from_numpy(np.array([3], np.int32))

            async def requests() -> Any:
                yield {"model_name": "repeat", "inputs": [times]}

            numbers = []
            async for result, error in plain.stream_infer(requests(), headers=dict(client.headers)):
                assert error is None
                numbers.append(int(result.as_numpy("number")[0]))
            return reply.as_numpy("out"), numbers

    array, numbers = asyncio.run(main())
    assert (array.tolist(), numbers) == ([1, 2], [0, 1, 2])


def test_a_large_message_passes_both_ways(client: Client) -> None:
    array = np.arange(5_000_000, dtype=np.float32)
    reply = client.infer("identity", [tensor("FP32", array)])
    assert reply.as_numpy("FP32_OUT").tobytes() == array.tobytes()


def test_a_client_that_leaves_a_stream_stops_the_model(client: Client, house: Demo) -> None:
    with client.streaming() as following:
        client.plain.async_stream_infer("repeat", [number("times", 1000), number("milliseconds", 20)])
        following()
        client.plain.stop_stream(cancel_requests=True)
    assert client.outcome("echo_fp32", [named("in", "FP32")])[0]
    assert len(tritons(house.state)) >= 1


def test_a_model_whose_process_died_under_grpc_calls_alone_is_served_again(client: Client) -> None:
    def answer(value: float) -> tuple[object, ...]:
        return client.outcome("times", [named("in", "FP32", np.full(4, value, np.float32))])

    assert len(answer(1.0)) == 1
    assert answer(-9.0)[0] in ("StatusCode.INTERNAL", "StatusCode.UNAVAILABLE")
    until(lambda: len(answer(1.0)) == 1, 20.0, "it was not loaded again")
