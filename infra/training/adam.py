"""The optimiser that the trainers share."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Weights = dict[str, Array]


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) with its own defaults; remembers the moments between steps."""

    def __init__(self, weights: Weights) -> None:
        self._steps = 0
        self._mean = {name: np.zeros_like(weight) for name, weight in weights.items()}
        self._square = {name: np.zeros_like(weight) for name, weight in weights.items()}

    def step(self, weights: Weights, slopes: Weights, rate: float = 0.001) -> Weights:
        """New weights, one step down the slopes."""
        self._steps += 1
        rate *= float(np.sqrt(1 - 0.999**self._steps)) / (1 - 0.9**self._steps)
        moved: Weights = {}
        for name, slope in slopes.items():
            self._mean[name] = 0.9 * self._mean[name] + 0.1 * slope
            self._square[name] = 0.999 * self._square[name] + 0.001 * slope**2
            moved[name] = weights[name] - rate * self._mean[name] / (np.sqrt(self._square[name]) + 1e-8)
        return moved
