"""Serves `digits` in Triton: `image` FP32 [N, 1, 28, 28] -> `scores` FP32 [N, 10].

Ink is 1 and paper 0; each row of scores sums to 1. Triton puts this folder on the import path, and checks
names, types and shapes before this code runs. A value outside [0, 1], NaN included, is the client's fault:
that request alone is answered with INVALID_ARG.
"""

from pathlib import Path
from typing import Any

import network
import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"], args["model_version"])
        with np.load(folder / "weights.npz", allow_pickle=False) as weights:
            self._weights = dict(weights)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request, in order; all share a forward pass, where no row touches another."""
        batches = [triton.get_input_tensor_by_name(request, "image").as_numpy() for request in requests]
        with np.errstate(all="ignore"):  # the scores of a refused picture are never read
            scores = network.scores(self._weights, np.concatenate(batches))
        parts = np.split(scores, np.cumsum([len(batch) for batch in batches])[:-1])
        return [_response(batch, part) for batch, part in zip(batches, parts, strict=True)]


def _response(images: network.Array, scores: network.Array) -> Any:
    if not ((images >= 0) & (images <= 1)).all():  # NaN fails both
        fault = "image: every value must be a number from 0 (paper) to 1 (ink)"
        return triton.InferenceResponse(error=triton.TritonError(fault, triton.TritonError.INVALID_ARG))
    return triton.InferenceResponse([triton.Tensor("scores", scores)])
