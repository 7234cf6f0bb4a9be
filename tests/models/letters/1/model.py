"""Says its `text_input` BYTES [1] one character a reply, in `text_output` BYTES [1], each `milliseconds` INT32 [1] after the last.

With `fail_after` INT32 [1] it raises an error after so many replies. It stops within 20 ms of a client's leaving, and says so in a file
named by the text, should one be there to be written to: `left:PATH`.
"""

import time
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

_TICK_SECONDS = 0.02


class TritonPythonModel:
    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            Thread(target=self._say, args=(request,), daemon=True).start()

    def _say(self, request: Any) -> None:
        sender = request.get_response_sender()
        text = triton.get_input_tensor_by_name(request, "text_input").as_numpy()[0].decode()
        pause, fail_after = _number(request, "milliseconds", 0) / 1000, _number(request, "fail_after", -1)
        for place, letter in enumerate(text):
            if place == fail_after:
                fault = triton.TritonError("no more than that, says /opt/models/letters at 10.1.2.3:8000")
                sender.send(triton.InferenceResponse(error=fault))
                break
            if not _rest(sender, pause):
                _tell(text, place)
                return
            letters = triton.Tensor("text_output", np.array([letter.encode()], np.object_))
            sender.send(triton.InferenceResponse([letters]))
        sender.send(flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _number(request: Any, name: str, absent: int) -> int:
    tensor = triton.get_input_tensor_by_name(request, name)
    return absent if tensor is None else int(tensor.as_numpy().reshape(-1)[0])


def _rest(sender: Any, seconds: float) -> bool:
    """Whether the client is still there after that time."""
    until = time.monotonic() + seconds
    while not sender.is_cancelled():
        left = until - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(left, _TICK_SECONDS))
    return False


def _tell(text: str, said: int) -> None:
    if text.startswith("left:"):
        Path(text.removeprefix("left:").rstrip(".")).write_text(str(said))
