"""Sleeps for `milliseconds` INT32 [1], then answers the same number: `slept` INT32 [1]."""

import time
from typing import Any

import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [triton.InferenceResponse([self._sleep(request)]) for request in requests]

    @staticmethod
    def _sleep(request: Any) -> Any:
        milliseconds = triton.get_input_tensor_by_name(request, "milliseconds").as_numpy()
        time.sleep(max(0, int(milliseconds[0])) / 1000)
        return triton.Tensor("slept", milliseconds)
