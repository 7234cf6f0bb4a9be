"""Counts, decoupled: `times` INT32 [1] replies with `number` INT32 [1] = 0, 1, 2 ..., each after `milliseconds` INT32 [1]; the reply of
number `fails_at` INT32 [1] is an error instead. A reply that was cancelled is the last. Requests run beside one another.
"""

import threading
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            threading.Thread(target=self._count, args=(request, request.get_response_sender())).start()

    @staticmethod
    def _count(request: Any, sender: Any) -> None:
        times, pause, fails_at = (
            _number(request, name, default)
            for name, default in (("times", 0), ("milliseconds", 0), ("fails_at", -1))
        )
        for number in range(times):
            time.sleep(pause / 1000)
            if sender.is_cancelled():
                break
            if number == fails_at:
                sender.send(triton.InferenceResponse(error=triton.TritonError(f"number {number} fails")))
            else:
                sender.send(triton.InferenceResponse([triton.Tensor("number", np.array([number], np.int32))]))
        sender.send(flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _number(request: Any, name: str, default: int) -> int:
    tensor = triton.get_input_tensor_by_name(request, name)
    return default if tensor is None else int(tensor.as_numpy()[0])
