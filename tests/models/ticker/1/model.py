"""Gives so many `tokens` INT32 [1], one each `milliseconds` INT32 [1]: `text_output` BYTES [1] is the nanosecond of the host's monotonic
clock at which it was given. One thread gives those of all requests, so hundreds of streams cost it little.
"""

import heapq
import time
from itertools import count
from threading import Condition, Thread
from typing import Any

import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, _: dict[str, str]) -> None:
        self.due: list[
            tuple[float, int, Any, int, float]
        ] = []  # when, order, whose, how many are left, and how far apart
        self.order = count()
        self.changed = Condition()
        self.is_open = True
        self.thread = Thread(target=self._tick)
        self.thread.start()

    def execute(self, requests: list[Any]) -> None:
        with self.changed:
            for request in requests:
                seconds = _number(request, "milliseconds") / 1000
                first = time.monotonic() + seconds
                stream = (
                    first,
                    next(self.order),
                    request.get_response_sender(),
                    _number(request, "tokens"),
                    seconds,
                )
                heapq.heappush(self.due, stream)
            self.changed.notify()

    def finalize(self) -> None:
        with self.changed:
            self.is_open = False
            self.changed.notify()
        self.thread.join()

    def _tick(self) -> None:
        while (stream := self._next()) is not None:
            when, _, sender, left, seconds = stream
            if sender.is_cancelled() or not left:
                sender.send(flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                continue
            token = np.array([str(time.monotonic_ns()).encode()], np.object_)
            sender.send(triton.InferenceResponse([triton.Tensor("text_output", token)]))
            with self.changed:
                heapq.heappush(self.due, (when + seconds, next(self.order), sender, left - 1, seconds))

    def _next(self) -> tuple[float, int, Any, int, float] | None:
        """The next one that is due, once it is; None at the end."""
        with self.changed:
            while self.is_open:
                wait = self.due[0][0] - time.monotonic() if self.due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self.due)
                self.changed.wait(wait)
        return None


def _number(request: Any, name: str) -> int:
    return int(triton.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)[0])
