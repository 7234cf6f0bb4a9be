"""Serves `forecast` in Triton: `history` FP32 [N, 28], oldest value first -> `next` FP32 [N, 7].

Triton puts this folder on the import path, and checks names, types and shapes before this code runs. A value that
is no number (NaN) or beyond 1e30, infinity included, is the client's fault: that request alone is answered with
INVALID_ARG.
"""

from pathlib import Path
from typing import Any

import autoregression
import numpy as np
import triton_python_backend_utils as triton

LARGEST = 1e30  # far from where a forecast would no longer fit into FP32


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"], args["model_version"])
        self._weights = np.loadtxt(folder / "weights.csv", delimiter=",")

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request, in order; all share a matrix product, where no row touches another."""
        batches = [triton.get_input_tensor_by_name(request, "history").as_numpy() for request in requests]
        with np.errstate(all="ignore"):  # the forecast of a refused window is never read
            values = autoregression.forecast(self._weights, np.concatenate(batches)).astype(np.float32)
        parts = np.split(values, np.cumsum([len(batch) for batch in batches])[:-1])
        return [_response(batch, part) for batch, part in zip(batches, parts, strict=True)]


def _response(history: autoregression.Array, values: autoregression.Array) -> Any:
    if not (abs(history) <= LARGEST).all():  # NaN fails it
        fault = "history: every value must be a number from -1e30 to 1e30"
        return triton.InferenceResponse(error=triton.TritonError(fault, triton.TritonError.INVALID_ARG))
    return triton.InferenceResponse([triton.Tensor("next", values)])
