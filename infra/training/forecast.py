"""Fits the `forecast` model: python -m infra.training.forecast [--seed N] [--out DIR]

Data: 500 daily series that are made here, each of a trend, a pattern of the week, a slow wave and noise that has some
memory, in shares of their own; 400 to learn from and 100 held out. The model itself is `autoregression.py` in the
model's folder, loaded from there by path. Its weights are rounded, so that the same seed gives the same bytes.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from infra.training.served import load

Array = npt.NDArray[np.floating[Any]]

FOLDER = Path(__file__).parents[1] / "models" / "forecast" / "1"
SERIES, HELD_OUT, DAYS, WEEK = 500, 100, 140, 7
DECIMALS = 6
SURE = 1e4  # how much heavier one regular window weighs than one that was drawn


class Autoregression(Protocol):
    """What the trainer uses of autoregression.py."""

    HISTORY: int
    NEXT: int

    def forecast(self, weights: Array, history: Array) -> Array: ...
    def scale(self, history: Array) -> tuple[Array, Array]: ...


autoregression = cast("Autoregression", load(FOLDER / "autoregression.py"))


class Windows(NamedTuple):
    """Values [N, 28] and the ones [N, 7] that follow them."""

    history: Array
    following: Array


class Split(NamedTuple):
    train: Windows
    held_out: Windows


def series(rng: np.random.Generator) -> Array:
    """Daily values [SERIES, DAYS]."""
    day = np.arange(DAYS)

    def drawn(least: float, most: float) -> Array:
        return rng.uniform(least, most, (SERIES, 1))

    trend = rng.normal(0, 0.03, (SERIES, 1)) * day
    week = drawn(0, 1) * rng.normal(0, 1, (SERIES, WEEK))[:, day % WEEK]
    wave = drawn(0, 1) * np.sin(2 * np.pi * (day / drawn(30, 365) + drawn(0, 1)))
    memory, noise = drawn(0, 0.9), rng.normal(0, 1, (SERIES, DAYS))
    for today in range(1, DAYS):
        yesterday = memory[:, 0] * noise[:, today - 1]
        noise[:, today] = yesterday + np.sqrt(1 - memory[:, 0] ** 2) * noise[:, today]
    values: Array = trend + week + wave + drawn(0.02, 0.4) * noise
    return values


def split(values: Array) -> Split:
    """The windows of whole series, so that no fit ever sees a held-out one."""
    return Split(windows(values[:-HELD_OUT]), windows(values[-HELD_OUT:]))


def windows(values: Array) -> Windows:
    """All windows that begin a week apart."""
    length = autoregression.HISTORY + autoregression.NEXT
    found = np.lib.stride_tricks.sliding_window_view(values, length, axis=1)[:, ::WEEK].reshape(-1, length)
    return Windows(found[:, : autoregression.HISTORY], found[:, autoregression.HISTORY :])


def fit(examples: Windows) -> Array:
    """The weights [28, 7] of least squared error, over windows in the units in which they are forecast.

    Straight lines and exact patterns of the week weigh so much that they are continued as they are.
    """
    day = np.arange(autoregression.HISTORY + autoregression.NEXT)
    regular = windows(np.stack([day, *(day % WEEK == weekday for weekday in range(WEEK))]).astype(np.float64))
    rows, wanted = (
        np.concatenate([drawn, SURE * sure])
        for drawn, sure in zip(_in_units(examples), _in_units(regular), strict=True)
    )
    weights: Array = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    return weights


def _in_units(examples: Windows) -> Windows:
    mean, unit = autoregression.scale(examples.history)
    return Windows((examples.history - mean) / unit, (examples.following - mean) / unit)


def error(predicted: Array, examples: Windows) -> float:
    """Root of the mean squared error, each window in units of its history's deviation."""
    _, unit = autoregression.scale(examples.history)
    return float(np.sqrt((((predicted - examples.following) / unit) ** 2).mean()))


def naive(examples: Windows) -> Array:
    """The week to come is like the one before: what a forecast must beat."""
    return examples.history[:, -WEEK:]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m infra.training.forecast", description="Fit the forecast model."
    )
    parser.add_argument("--seed", type=int, default=0, help="of the series (0)")
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="folder for weights.csv (the served model's)"
    )
    options = parser.parse_args(arguments)

    train, held_out = split(series(np.random.default_rng(options.seed)))
    weights = np.round(fit(train), DECIMALS) + 0.0  # -0 becomes 0
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "weights.csv"
    np.savetxt(path, weights, f"%.{DECIMALS}f", delimiter=",")
    errors = f"{error(autoregression.forecast(weights, held_out.history), held_out):.3f}"
    sys.stdout.write(
        f"{path}  {path.stat().st_size:,} bytes  error {errors} on {HELD_OUT} held-out series, "
        f"{error(naive(held_out), held_out):.3f} if every week were like the one before\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
