"""Gives every input back, named for its datatype: FP32 [-1] -> FP32_OUT [-1], and so on for each of the protocol's datatypes."""

from typing import Any

import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> list[Any]:
        return [
            triton.InferenceResponse([self._same(tensor) for tensor in request.inputs()])
            for request in requests
        ]

    @staticmethod
    def _same(tensor: Any) -> Any:
        name = f"{tensor.name()}_OUT"
        if tensor.name() == "BF16":  # NumPy has none
            return triton.Tensor.from_dlpack(name, tensor)
        return triton.Tensor(name, tensor.as_numpy())
