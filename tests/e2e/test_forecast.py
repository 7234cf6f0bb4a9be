"""The demo serves `forecast` beside `digits`, and its example is answered."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.e2e.world import Demo, serving

pytestmark = pytest.mark.triton

EXAMPLES = ROOT / "infra" / "examples"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with serving(tmp_path_factory.mktemp("forecast") / "state") as started:
        yield started


def history(*values: float) -> dict[str, Any]:
    """A request for as many windows as there are 28 values."""
    shape = [len(values) // 28, 28]
    return {"inputs": [{"name": "history", "datatype": "FP32", "shape": shape, "data": values}]}


def test_both_models_answer_their_examples(demo: Demo) -> None:
    image = (EXAMPLES / "digit.json").read_bytes()
    assert np.argmax(demo.infer("digits", image).json["outputs"][0]["data"]) == 7
    (following,) = demo.infer("forecast", (EXAMPLES / "history.json").read_bytes()).json["outputs"]
    assert (following["name"], following["datatype"], following["shape"]) == ("next", "FP32", [1, 7])
    weeks = json.loads((EXAMPLES / "history.json").read_text())["inputs"][0]["data"]
    last = weeks[-7:]
    # It rises from week to week, and its quiet days stay the quiet ones.
    assert sum(last) < sum(following["data"]) < sum(last) * 1.25
    assert np.corrcoef(last, following["data"])[0, 1] > 0.8


def test_a_line_of_ones_own_goes_on(demo: Demo) -> None:
    (following,) = demo.infer("forecast", history(*range(1, 29))).json["outputs"]
    assert following["data"] == pytest.approx([29, 30, 31, 32, 33, 34, 35], abs=0.01)


def test_windows_of_many_requests_are_kept_apart(demo: Demo) -> None:
    levels = [-1e6, 0.0, 21.5, 1e9]
    (following,) = demo.infer("forecast", history(*(level for level in levels for _ in range(28)))).json[
        "outputs"
    ]
    assert following["shape"] == [4, 7]
    assert np.reshape(following["data"], (4, 7)).tolist() == [[level] * 7 for level in levels]


@pytest.mark.parametrize("value", [-2e30, 3e38])
def test_values_beyond_its_range_are_refused_in_its_own_words(demo: Demo, value: float) -> None:
    refused = demo.infer("forecast", history(*[1.0] * 27, value))
    assert (refused.status, refused.json) == (
        400,
        {"error": "history: every value must be a number from -1e30 to 1e30"},
    )
