"""Sleeps for `milliseconds` INT32 [1], then answers the same number: `slept` INT32 [1].

The parameter `began` of a request names a file that is made first.
"""

import json
import time
from pathlib import Path
from typing import Any

import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [triton.InferenceResponse([self._sleep(request)]) for request in requests]

    @staticmethod
    def _sleep(request: Any) -> Any:
        began = json.loads(request.parameters() or "{}").get("began")
        if began is not None:
            Path(began).touch()
        milliseconds = triton.get_input_tensor_by_name(request, "milliseconds").as_numpy()
        time.sleep(max(0, int(milliseconds[0])) / 1000)
        return triton.Tensor("slept", milliseconds)
