"""Writes each `number` INT32 [1] that it is asked for to a file in its folder, and answers it as `same`; a negative one it fails at.

The file is what really ran, whoever died meanwhile: a line is one write.
"""

import os
from pathlib import Path
from typing import Any

import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        where = Path(args["model_repository"]) / "tally.txt"
        self.tally = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        number = triton.get_input_tensor_by_name(request, "number").as_numpy()
        os.write(self.tally, b"%d\n" % int(number[0]))
        if number[0] < 0:
            return triton.InferenceResponse([], triton.TritonError("a number below 0"))
        return triton.InferenceResponse([triton.Tensor("same", number)])
