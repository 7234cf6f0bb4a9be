"""All mathematics of `forecast`: each of the next seven values is a weighted sum of the 28 before them.

Triton's model.py and the trainer both load this file, so what was fitted is what is served. It needs only NumPy.
A window is forecast about its own mean and in units of its own deviation, so a series may have any level and any
unit: twice the sales, or degrees Fahrenheit for Celsius, give the same forecast in that unit.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]

HISTORY, NEXT = 28, 7


def forecast(weights: Array, history: Array) -> Array:
    """The next values [N, 7] of the windows [N, 28]; a flat window stays flat."""
    history = history.astype(np.float64)  # a small change on a high level survives
    mean, unit = scale(history)
    return mean + unit * (((history - mean) / unit) @ weights)


def scale(history: Array) -> tuple[Array, Array]:
    """The mean and the deviation [N, 1] of each window; the deviation of a flat one is 1."""
    mean, deviation = history.mean(1, keepdims=True), history.std(1, keepdims=True)
    return mean, np.where(deviation > 0, deviation, 1.0)
