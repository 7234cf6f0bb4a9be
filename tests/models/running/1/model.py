"""Adds up what a sequence brings: `add` INT32 [1] to `total` INT32 [1], with the id that the server has for it in `known_as`."""

from typing import Any

import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, _: dict[str, str]) -> None:
        self.totals: dict[Any, int] = {}

    def execute(self, requests: list[Any]) -> list[Any]:
        return [triton.InferenceResponse(self._add(request)) for request in requests]

    def _add(self, request: Any) -> list[Any]:
        sequence = _value(request, "CORRID")
        total = (0 if _value(request, "START") else self.totals.get(sequence, 0)) + int(
            _value(request, "add")
        )
        self.totals[sequence] = total
        if _value(request, "END"):
            del self.totals[sequence]
        known = np.array([[sequence]], np.object_ if isinstance(sequence, bytes) else np.uint64)
        return [
            triton.Tensor("total", np.array([[total]], np.int32)),
            triton.Tensor("known_as", known),
        ]


def _value(request: Any, name: str) -> Any:
    return triton.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)[0]
