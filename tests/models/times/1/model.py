"""Multiplies `in` FP32 [4] by the number that its name ends with (times07: by 7; times: by 1), so that the answer of another
model is seen to be wrong. An input of -9s kills this model's process: Triton goes on saying that the model is ready.
"""

import os
import signal
from typing import Any

import triton_python_backend_utils as triton

KILL = -9.0


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._number = float(args["model_name"].removeprefix("times") or 1)

    def execute(self, requests: list[Any]) -> list[Any]:
        return [triton.InferenceResponse([self._times(request)]) for request in requests]

    def _times(self, request: Any) -> Any:
        values = triton.get_input_tensor_by_name(request, "in").as_numpy()
        if (values == KILL).all():
            os.kill(os.getpid(), signal.SIGKILL)
        return triton.Tensor("out", (values * self._number).astype(values.dtype))
