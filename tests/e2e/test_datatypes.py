"""Every datatype passes as Triton itself would take and give it, through the official client, synchronous and asyncio."""

import asyncio
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.e2e.world import Demo, triton_of

pytestmark = pytest.mark.triton

Array = npt.NDArray[Any]


def floats(kind: type[np.floating[Any]]) -> list[Array]:
    limits = np.finfo(kind)
    finite = [0.0, 1.5, -2.25, limits.max, limits.min, limits.tiny]
    return [np.array(finite, kind), np.array([], kind)]


def integers(kind: type[np.integer[Any]]) -> list[Array]:
    limits = np.iinfo(kind)
    return [np.array([0, 1, limits.min, limits.max], kind), np.array([], kind)]


GIVEN: dict[str, list[Array]] = {
    "BOOL": [np.array([True, False]), np.array([], np.bool_)],
    **{f"UINT{bits}": integers(getattr(np, f"uint{bits}")) for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": integers(getattr(np, f"int{bits}")) for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": floats(getattr(np, f"float{bits}")) for bits in (16, 32, 64)},
    "BF16": [np.array([0.0, 1.5, -2.25, 3.3895314e38], ml_dtypes.bfloat16), np.array([], ml_dtypes.bfloat16)],
    "BYTES": [np.array(["", "text", "漢🙂", 'a"\\\n'], np.object_), np.array([], np.object_)],
}
NO_JSON = ("FP16", "BF16")  # the protocol has none for these, and so the client
NOT_FINITE: dict[str, Array] = {
    "FP16": np.array([0x7C00, 0xFC00, 0x7E01, 0x8000, 0x0001], np.uint16).view(np.float16),
    "FP32": np.array([0x7F800000, 0xFF800000, 0x7FC00001, 0x80000000, 1], np.uint32).view(np.float32),
    "FP64": np.array([0x7FF0000000000000, 0x7FF8000000000001, 1 << 63, 1], np.uint64).view(np.float64),
}


def direct(house: Demo) -> str:
    """The address of a Triton behind it."""
    return f"127.0.0.1:{triton_of(house.state, 'identity')}"


def said(package: Any, kind: str, values: Array, *, binary: bool) -> dict[str, Any]:
    """What the client is asked to send; the asyncio one takes the same."""
    given = package.InferInput(kind, values.shape, kind)
    given.set_data_from_numpy(values, binary_data=binary)
    wanted = package.InferRequestedOutput(f"{kind}_OUT", binary_data=binary)
    return {"model_name": "identity", "inputs": [given], "outputs": [wanted], "request_id": "r-1"}


def seen(result: Any, kind: str) -> tuple[Any, bytes]:
    """The reply's JSON, and the tensor to the last bit."""
    array = result.as_numpy(f"{kind}_OUT")
    told = repr(array.tolist()).encode() if array.dtype == np.object_ else array.tobytes()
    return result.get_response(), told


def asked(house: Demo, kind: str, values: Array, *, binary: bool) -> tuple[Any, Any]:
    """Of the gateway and of Triton."""
    call = said(triton, kind, values, binary=binary)
    with triton.InferenceServerClient(house.address) as client:
        ours = client.infer(**call, headers={"Authorization": f"Bearer {house.key}"})
    with triton.InferenceServerClient(direct(house)) as client:
        theirs = client.infer(**call)
    return seen(ours, kind), seen(theirs, kind)


def asked_aio(house: Demo, kind: str, values: Array, *, binary: bool) -> tuple[Any, Any]:
    async def ask() -> tuple[Any, Any]:
        call = said(triton_aio, kind, values, binary=binary)
        async with triton_aio.InferenceServerClient(house.address) as client:
            ours = await client.infer(**call, headers={"Authorization": f"Bearer {house.key}"})
        async with triton_aio.InferenceServerClient(direct(house)) as client:
            theirs = await client.infer(**call)
        return seen(ours, kind), seen(theirs, kind)

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [asked, asked_aio], ids=["sync", "aio"])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("kind", GIVEN)
def test_every_datatype_is_the_same_through_the_gateway(
    house: Demo, ask: Any, kind: str, *, binary: bool
) -> None:
    if kind in NO_JSON and not binary:
        with pytest.raises(InferenceServerException):
            ask(house, kind, GIVEN[kind][0], binary=False)
        return
    for values in GIVEN[kind]:
        ours, theirs = ask(house, kind, values, binary=binary)
        assert ours == theirs
        assert ours[0]["id"] == "r-1"


@pytest.mark.parametrize("kind", NOT_FINITE)
def test_what_is_no_number_survives_to_the_last_bit(house: Demo, kind: str) -> None:
    (_, ours), (_, theirs) = asked(house, kind, NOT_FINITE[kind], binary=True)
    assert ours == theirs == NOT_FINITE[kind].tobytes()


@pytest.mark.parametrize("kind", ["FP32", "FP64"])
def test_json_has_the_same_words_for_what_is_no_number(house: Demo, kind: str) -> None:
    """Binary in, JSON out."""
    given = triton.InferInput(kind, NOT_FINITE[kind].shape, kind)
    given.set_data_from_numpy(NOT_FINITE[kind], binary_data=True)
    wanted = triton.InferRequestedOutput(f"{kind}_OUT", binary_data=False)
    told = []
    for address, headers in (
        (house.address, {"Authorization": f"Bearer {house.key}"}),
        (direct(house), {}),
    ):
        with triton.InferenceServerClient(address) as client:
            try:
                result = client.infer("identity", [given], outputs=[wanted], headers=headers)
                told.append(repr(result.get_response()))
            except (InferenceServerException, ValueError) as fault:
                told.append(str(fault))
    assert told[0] == told[1]


def test_one_raw_binary_tensor_needs_no_json(house: Demo) -> None:
    values = np.array([1.5, -2.5], np.float32)
    headers = {"Authorization": f"Bearer {house.key}", "Inference-Header-Content-Length": "0"}
    answer = house.call("/v2/models/echo_fp32/infer", values.tobytes(), headers=headers)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.body.endswith(values.tobytes())


@pytest.mark.parametrize("version", ["", "1"])
def test_what_a_client_asks_for_beside_tensors_is_answered_as_triton_does(house: Demo, version: str) -> None:
    def ask(address: str, headers: dict[str, str]) -> Any:
        given = triton.InferInput("FP32", [3], "FP32")
        given.set_data_from_numpy(np.array([1, 3, 2], np.float32))
        wanted = triton.InferRequestedOutput("FP32_OUT", binary_data=False, class_count=2)
        with triton.InferenceServerClient(address) as client:
            return client.infer(
                "identity",
                [given],
                model_version=version,
                outputs=[wanted],
                request_id="seven",
                parameters={"mine": "x", "number": 7, "flag": True},
                headers=headers,
            ).get_response()

    ours = ask(house.address, {"Authorization": f"Bearer {house.key}"})
    assert ours == ask(direct(house), {})
    assert ours["outputs"][0]["data"] == ["3.000000:1", "2.000000:2"]
