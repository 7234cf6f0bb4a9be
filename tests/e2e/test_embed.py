"""The test model `embed` on a real tritonserver: what its callers may build on."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.e2e.world import Demo

pytestmark = pytest.mark.triton

FOX = "The quick brown fox jumps over the lazy dog."
FOX_BEGINS = [0.046984, 0.0, -0.093968, 0.093968, 0.0, -0.093968, 0.0]


def embedded(demo: Demo, *texts: str) -> npt.NDArray[np.float64]:
    request = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]}
    output: dict[str, Any]
    (output,) = demo.infer("embed", request).json["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("embedding", "FP32", [len(texts), 64])
    return np.array(output["data"]).reshape(-1, 64)


def test_every_text_has_a_vector_of_length_1_in_its_order_whatever_its_company(house: Demo) -> None:
    texts = [FOX, "", "d\u00e9j\u00e0 vu, \u6f22\u5b57, \U0001f642", "a" * 10_000, FOX]
    vectors = embedded(house, *texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_array_equal(embedded(house, text)[0], vector)
    assert len(embedded(house)) == 0


def test_vectors_are_the_same_in_every_process_and_version(house: Demo) -> None:
    np.testing.assert_allclose(embedded(house, FOX)[0, :7], FOX_BEGINS, atol=1e-6)


def test_similar_texts_are_nearer_than_different_ones(house: Demo) -> None:
    first, second, third, other = embedded(
        house,
        FOX,
        "the quick brown foxes jumped over a lazy dog",
        "The QUICK  brown fox jumps over the lazy dog.",
        "Revenue of the third quarter grew by twelve per cent.",
    )
    assert first @ third == pytest.approx(1)  # case and spaces do not count
    assert first @ second > 0.7
    assert first @ other < 0.5
