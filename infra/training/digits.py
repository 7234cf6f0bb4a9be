"""Trains the `digits` model: python -m infra.training.digits [--epochs N] [--seed N] [--out DIR]

Data: scikit-learn's 1,797 handwritten digits, 8x8 scaled to 28x28, 1,437 to learn from and 360 held out. The
network itself is `network.py` in the model's folder, loaded from there by path: Triton needs it beside
model.py, and a folder named `1` is no package. The same seed gives the same weights on the same machine.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

from infra.training.adam import Adam, Array, Weights
from infra.training.served import load

Labels = npt.NDArray[np.integer[Any]]

FOLDER = Path(__file__).parents[1] / "models" / "digits" / "1"
HELD_OUT = 360
BATCH = 64


class Network(Protocol):
    """What the trainer uses of network.py."""

    def initial(self, rng: np.random.Generator) -> Weights: ...
    def scores(self, weights: Weights, images: Array) -> Array: ...
    def gradient(self, weights: Weights, images: Array, labels: Labels) -> tuple[float, Weights]: ...


network = cast("Network", load(FOLDER / "network.py"))


class Examples(NamedTuple):
    """Pictures [N, 1, 28, 28] float32 (ink 1, paper 0) and the digits [N] they show."""

    images: Array
    labels: Labels


class Split(NamedTuple):
    train: Examples
    held_out: Examples


class Epoch(NamedTuple):
    """One pass over the training pictures: mean loss on the way, weights at its end."""

    number: int
    loss: float
    weights: Weights


def load_split() -> Split:
    """The data, always split the same way, so that no training ever sees a held-out picture."""
    digits = load_digits()
    # Pixel centres of 28 in units of 8; np.interp holds the edge values beyond the outermost centres.
    centres = (np.arange(28) + 0.5) * 8 / 28 - 0.5
    scale = np.stack([np.interp(centres, np.arange(8), unit) for unit in np.eye(8)], axis=1)
    images = np.clip(scale @ (digits.images / 16) @ scale.T, 0, 1).astype(np.float32)[:, None]
    order = np.random.default_rng(0).permutation(len(images))
    train, held_out = order[:-HELD_OUT], order[-HELD_OUT:]
    return Split(
        Examples(images[train], digits.target[train]), Examples(images[held_out], digits.target[held_out])
    )


def train(examples: Examples, epochs: int, rng: np.random.Generator) -> Iterator[Epoch]:
    """Weights after each epoch, from fresh ones."""
    weights = network.initial(rng)
    adam = Adam(weights)
    for number in range(1, epochs + 1):
        losses = []
        order = rng.permutation(len(examples.labels))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            loss, slopes = network.gradient(weights, examples.images[batch], examples.labels[batch])
            weights = adam.step(weights, slopes)
            losses.append(loss)
        yield Epoch(number, float(np.mean(losses)), weights)


def accuracy(weights: Weights, examples: Examples) -> float:
    """The share of pictures whose highest score is at their digit."""
    return float((network.scores(weights, examples.images).argmax(1) == examples.labels).mean())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m infra.training.digits", description="Train the digits model."
    )
    parser.add_argument("--epochs", type=int, default=20, help="passes over the training pictures (20)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of first weights and order; not of the split (0)"
    )
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="folder for weights.npz (the served model's)"
    )
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error("--epochs must be at least 1")

    split = load_split()
    for epoch in train(split.train, options.epochs, np.random.default_rng(options.seed)):
        share = accuracy(epoch.weights, split.held_out)
        sys.stdout.write(f"epoch {epoch.number:2}  loss {epoch.loss:.4f}  held out {share:.1%}\n")
        sys.stdout.flush()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "weights.npz"
    np.savez(path, **epoch.weights)
    sys.stdout.write(f"{path}  {path.stat().st_size:,} bytes  {share:.1%} of {HELD_OUT} held-out pictures\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
