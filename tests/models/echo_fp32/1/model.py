"""Echo of any number of FP32 values: `in` [-1] -> `out` [-1], unchanged."""

from typing import Any

import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [triton.InferenceResponse([self._echo(request)]) for request in requests]

    @staticmethod
    def _echo(request: Any) -> Any:
        return triton.Tensor("out", triton.get_input_tensor_by_name(request, "in").as_numpy())
