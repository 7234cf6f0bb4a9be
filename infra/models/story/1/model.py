"""Serves `story` in Triton: `text_input` BYTES [1], `max_tokens` INT32 [1] and, if given, `temperature` FP32 [1] and
`seed` UINT64 [1] -> `text_output` BYTES [1]: a response for each character, then the final flag.

Triton puts this folder on the import path, and checks names, types and shapes before this code runs; what it does not
check is answered with INVALID_ARG. Stories that run at the same time share Triton's event loop, a character of each in
turn. Each is stepped by itself: in one matrix product for all, a row is rounded as its company has it, and a seed would
not always give the same text. An unload waits for their final flags, so there is nothing to finalize.
"""

import asyncio
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import network
import numpy as np
import triton_python_backend_utils as triton

TOGETHER = 32  # stories; the next waits until one of them ends
LONGEST = 1024  # characters
TEMPERATURE = 0.5  # if none is given: cool enough to spell, warm enough not to go round in circles


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"], args["model_version"])
        with np.load(folder / "weights.npz", allow_pickle=False) as weights:
            self._weights = {name: weight.astype(np.float32) for name, weight in weights.items()}
        self._places = asyncio.Semaphore(TOGETHER)

    async def execute(self, requests: list[Any]) -> None:
        """While it waits, Triton calls it again with other requests."""
        await asyncio.gather(*map(self._answer, requests))

    async def _answer(self, request: Any) -> None:
        sender = request.get_response_sender()
        final = triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        try:
            story = _story(self._weights, request)
        except ValueError as fault:
            error = triton.TritonError(str(fault), triton.TritonError.INVALID_ARG)
            sender.send(triton.InferenceResponse(error=error), flags=final)
            return
        async with self._places:
            for character in story:
                if sender.is_cancelled():
                    break
                sender.send(_response(character))
                await asyncio.sleep(0)  # the others' turn
        sender.send(flags=final)


def _story(weights: network.Weights, request: Any) -> Iterator[str]:
    """The characters that are asked for. Raises ValueError with what is wrong."""
    try:
        text = _given(request, "text_input", b"").decode()
    except UnicodeDecodeError as fault:
        raise ValueError("text_input: must be text in UTF-8") from fault
    length = int(_given(request, "max_tokens", 0))
    if not 1 <= length <= LONGEST:
        raise ValueError(f"max_tokens: must be from 1 to {LONGEST}")
    temperature = float(_given(request, "temperature", TEMPERATURE))
    if not 0 <= temperature < math.inf:  # NaN fails it
        raise ValueError("temperature: must be a number, 0 or more")
    rng = np.random.default_rng(_given(request, "seed", None))
    return islice(network.continuation(weights, text, temperature, rng), length)


def _given(request: Any, name: str, otherwise: Any) -> Any:
    tensor = triton.get_input_tensor_by_name(request, name)
    return otherwise if tensor is None else tensor.as_numpy()[0]


def _response(character: str) -> Any:
    text = np.array([character.encode()], np.object_)
    return triton.InferenceResponse([triton.Tensor("text_output", text)])
