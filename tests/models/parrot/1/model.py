"""Says its `text_input` BYTES [1] again, one word a reply with the space behind it, `max_tokens` INT32 [1] words at most.

What the text says goes: after `fail:3` it raises an error behind its third reply, after `slow:50` each reply comes 50 ms after the
last, and after `left:PATH` it notes in that file, should the client leave, how many words it had said; it stops within 20 ms of that.
"""

import re
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
            Thread(target=_say, args=(request,), daemon=True).start()


def _say(request: Any) -> None:
    sender = request.get_response_sender()
    text = triton.get_input_tensor_by_name(request, "text_input").as_numpy().reshape(-1)[0].decode()
    most = triton.get_input_tensor_by_name(request, "max_tokens")
    words = re.findall(r"\S+\s*|\s+", text)
    fail_after, pause = _told(text, "fail"), (_told(text, "slow") or 0) / 1000
    for place, word in enumerate(words if most is None else words[: int(most.as_numpy().reshape(-1)[0])]):
        if place == fail_after:
            fault = triton.TritonError("no more than that, says /opt/models/parrot at 10.1.2.3:8000")
            sender.send(triton.InferenceResponse(error=fault))
            break
        if not _rest(sender, pause):
            if left := re.search(r"left:(\S+)", text):
                Path(left[1]).write_text(str(place))
            break
        said = triton.Tensor("text_output", np.array([word.encode()], np.object_))
        sender.send(triton.InferenceResponse([said]))
    sender.send(flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _told(text: str, what: str) -> int | None:
    found = re.search(rf"{what}:(\d+)", text)
    return int(found[1]) if found else None


def _rest(sender: Any, seconds: float) -> bool:
    """Whether the client is still there after that time."""
    until = time.monotonic() + seconds
    while not sender.is_cancelled():
        left = until - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(left, _TICK_SECONDS))
    return False
