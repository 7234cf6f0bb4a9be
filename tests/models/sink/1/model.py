"""Reads `data` UINT8 [-1], drops it and answers how many bytes it was: `size` INT64 [1]."""

from typing import Any

import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [triton.InferenceResponse([self._size(request)]) for request in requests]

    @staticmethod
    def _size(request: Any) -> Any:
        data = triton.get_input_tensor_by_name(request, "data").as_numpy()
        return triton.Tensor("size", np.array([data.nbytes], np.int64))
