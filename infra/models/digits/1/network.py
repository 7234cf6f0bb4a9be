"""All mathematics of `digits`: conv 32 3x3, pool, conv 64 3x3, pool, dense 64, dense 10, softmax.

Triton's model.py and the trainer both load this file, so what was trained is what is served. It needs only
NumPy. Pictures come as [N, 1, 28, 28]; inside, channels are last, since then a convolution is one matrix
product over 3x3 patches. Weights and pictures decide the precision: float32 in service, float64 where a
gradient is checked.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Weights = dict[str, Array]

SHAPES = {
    "conv1": (9 * 1, 32),
    "conv2": (9 * 32, 64),
    "dense1": (5 * 5 * 64, 64),
    "dense2": (64, 10),
}


def initial(rng: np.random.Generator) -> Weights:
    """Fresh float32 weights: He's scale for the matrices, zero for the biases."""
    weights: Weights = {}
    for layer, (inputs, outputs) in SHAPES.items():
        scale = np.float32(np.sqrt(2 / inputs))
        weights[layer] = rng.standard_normal((inputs, outputs), np.float32) * scale
        weights[layer + "_bias"] = np.zeros(outputs, np.float32)
    return weights


def scores(weights: Weights, images: Array) -> Array:
    """Probabilities [N, 10] of the ten digits for pictures [N, 1, 28, 28]."""
    return _forward(weights, images).scores


def gradient(weights: Weights, images: Array, labels: npt.NDArray[np.integer[Any]]) -> tuple[float, Weights]:
    """Mean cross-entropy of the batch, and its derivative by every weight."""
    step = _forward(weights, images)
    picked = np.arange(len(labels)), labels
    loss = -float(np.log(step.scores[picked]).mean())
    slopes: Weights = {}

    slope = step.scores.copy()
    slope[picked] -= 1
    slope /= len(labels)
    slopes["dense2"], slopes["dense2_bias"] = step.hidden.T @ slope, slope.sum(0)

    slope = (slope @ weights["dense2"].T) * (step.hidden > 0)
    flat = step.pooled2.reshape(len(labels), -1)
    slopes["dense1"], slopes["dense1_bias"] = flat.T @ slope, slope.sum(0)

    slope = (slope @ weights["dense1"].T).reshape(step.pooled2.shape) * (step.pooled2 > 0)
    slopes["conv2_bias"] = slope.sum((0, 1, 2))
    columns = _unpool(slope, step.maps2).reshape(len(step.patches2), -1)
    slopes["conv2"] = step.patches2.T @ columns

    slope = _unpatch(columns @ weights["conv2"].T, step.pooled1.shape) * (step.pooled1 > 0)
    slopes["conv1_bias"] = slope.sum((0, 1, 2))
    slopes["conv1"] = step.patches1.T @ _unpool(slope, step.maps1).reshape(len(step.patches1), -1)
    return loss, slopes


class _Forward(NamedTuple):
    """Everything that one forward pass computed; the way back needs it all, service only the scores."""

    patches1: Array
    maps1: Array
    pooled1: Array
    patches2: Array
    maps2: Array
    pooled2: Array
    hidden: Array
    scores: Array


def _forward(weights: Weights, images: Array) -> _Forward:
    n = len(images)
    # Bias and ReLU come after the pool: they keep the order of values, so this is the same for less work.
    patches1 = _patches(images.reshape(n, 28, 28, 1))
    maps1 = (patches1 @ weights["conv1"]).reshape(n, 26, 26, -1)
    pooled1 = np.maximum(_pool(maps1) + weights["conv1_bias"], 0)
    patches2 = _patches(pooled1)
    maps2 = (patches2 @ weights["conv2"]).reshape(n, 11, 11, -1)
    pooled2 = np.maximum(_pool(maps2) + weights["conv2_bias"], 0)
    hidden = np.maximum(pooled2.reshape(n, -1) @ weights["dense1"] + weights["dense1_bias"], 0)
    logits = hidden @ weights["dense2"] + weights["dense2_bias"]
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return _Forward(
        patches1, maps1, pooled1, patches2, maps2, pooled2, hidden, powers / powers.sum(1, keepdims=True)
    )


def _patches(maps: Array) -> Array:
    """Each 3x3 neighbourhood of [N, H, W, C] as a row: [N * (H-2) * (W-2), 9 * C]."""
    n, height, width, channels = maps.shape
    by_n, by_row, by_column, by_channel = maps.strides
    windows = np.lib.stride_tricks.as_strided(
        maps,
        (n, height - 2, width - 2, 3, 3, channels),
        (by_n, by_row, by_column, by_row, by_column, by_channel),
        writeable=False,
    )
    return windows.reshape(-1, 9 * channels)


def _unpatch(rows: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of `_patches`: rows added back where they were taken from."""
    n, height, width, channels = shape
    windows = rows.reshape(n, height - 2, width - 2, 3, 3, channels)
    maps = np.zeros(shape, rows.dtype)
    for row, column in np.ndindex(3, 3):
        maps[:, row : row + height - 2, column : column + width - 2] += windows[:, :, :, row, column]
    return maps


def _pool(maps: Array) -> Array:
    """The greatest of each 2x2 window; an odd last row or column is dropped."""
    height, width = (size // 2 * 2 for size in maps.shape[1:3])
    rows = np.maximum(maps[:, 0:height:2], maps[:, 1:height:2])
    return np.maximum(rows[:, :, 0:width:2], rows[:, :, 1:width:2])


def _unpool(slope: Array, maps: Array) -> Array:
    """Each slope given to its window's greatest value; equal shares where several are (blank paper)."""
    n, height, width, channels = slope.shape
    windows = maps[:, : 2 * height, : 2 * width].reshape(n, height, 2, width, 2, channels)
    winners = windows == _pool(maps)[:, :, None, :, None]
    shares = winners * (slope / winners.sum((2, 4), dtype=slope.dtype))[:, :, None, :, None]
    spread = np.zeros_like(maps)
    spread[:, : 2 * height, : 2 * width] = shares.reshape(n, 2 * height, 2 * width, channels)
    return spread
