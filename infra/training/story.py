"""Trains the `story` model: python -m infra.training.story [--epochs N] [--seed N] [--text FILE] [--collect] [--out DIR]

Data: `story.txt`, a snapshot of this repository's own prose, one paragraph a line; every tenth is held out. `--collect`
takes it anew: what the READMEs say tomorrow changes no weights until then. The network itself is `network.py` in the
model's folder, loaded from there by path. The same seed gives the same weights on the same machine: all is computed in one
thread, as BLAS rounds differently in two.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from infra.training import prose
from infra.training.adam import Adam, Array, Weights
from infra.training.served import load

Tokens = npt.NDArray[np.integer[Any]]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "models" / "story" / "1"
TEXT = Path(__file__).with_name("story.txt")

SIZE = 256
BATCH, STRETCH = 32, 64  # texts side by side, and characters between two steps down the slope
RATE, DECAY = 0.004, 0.2  # of the first step, falling to none; and how much of it the weights lose with each
LONGEST_SLOPE = 1.0
HELD_OUT = 10  # every so many paragraphs


class Lesson(Protocol):
    loss: float
    slopes: Weights
    states: Array


class Network(Protocol):
    """What the trainer uses of network.py."""

    VOCABULARY: str

    def fold(self, text: str) -> str: ...
    def encode(self, text: str) -> Tokens: ...
    def initial(self, rng: np.random.Generator, size: int) -> Weights: ...
    def silence(self, weights: Weights, texts: int) -> Array: ...
    def step(self, weights: Weights, states: Array, tokens: Tokens) -> Array: ...
    def logits(self, weights: Weights, states: Array) -> Array: ...
    def loss(self, weights: Weights, states: Array, tokens: Tokens) -> float: ...
    def gradient(self, weights: Weights, states: Array, tokens: Tokens) -> Lesson: ...
    def continuation(
        self, weights: Weights, text: str, temperature: float, rng: np.random.Generator
    ) -> Iterator[str]: ...


network = cast("Network", load(FOLDER / "network.py"))


class Split(NamedTuple):
    """Paragraphs."""

    train: list[str]
    held_out: list[str]


class Epoch(NamedTuple):
    """One pass over the training text: mean loss on the way, weights at its end."""

    number: int
    loss: float
    weights: Weights


def load_split(text: Path = TEXT) -> Split:
    """Always split the same way, so that no training ever sees a held-out paragraph."""
    paragraphs = text.read_text("utf-8").splitlines()
    held_out = paragraphs[HELD_OUT - 1 :: HELD_OUT]
    return Split([paragraph for place, paragraph in enumerate(paragraphs, 1) if place % HELD_OUT], held_out)


def tokens(paragraphs: Sequence[str]) -> Tokens:
    """One text of them all."""
    return network.encode("\n".join(["", *paragraphs, ""]))


def columns(text: Tokens, number: int) -> Tokens:
    """The text in that many pieces side by side, [T + 1, number]; each begins with the character that the one before ends with."""
    length = (len(text) - 1) // number
    return np.stack([text[start : start + length + 1] for start in range(0, length * number, length)], axis=1)


def train(paragraphs: Sequence[str], epochs: int, rng: np.random.Generator) -> Iterator[Epoch]:
    """Weights after each epoch, from fresh ones; the paragraphs come in another order each time."""
    weights = network.initial(rng, SIZE)
    adam = Adam(weights)
    for number in range(1, epochs + 1):
        text = columns(tokens([paragraphs[place] for place in rng.permutation(len(paragraphs))]), BATCH)
        starts = range(0, len(text) - 1, STRETCH)
        states = network.silence(weights, BATCH)
        losses = []
        for count, start in enumerate(starts):
            lesson = network.gradient(weights, states, text[start : start + STRETCH + 1])
            rate = RATE * (1 - (number - 1 + count / len(starts)) / epochs)
            weights = {
                name: moved * (1 - rate * DECAY)
                for name, moved in adam.step(weights, clipped(lesson.slopes), rate).items()
            }
            states = lesson.states
            losses.append(lesson.loss)
        yield Epoch(number, float(np.mean(losses)), weights)


def clipped(slopes: Weights) -> Weights:
    """The same direction, not longer than LONGEST_SLOPE: one odd stretch shall not throw the weights away."""
    length = float(np.sqrt(sum(float((slope**2).sum()) for slope in slopes.values())))
    return {name: slope * min(1.0, LONGEST_SLOPE / length) for name, slope in slopes.items()}


def rounded(weights: Weights) -> Weights:
    """As they are kept and served: float16."""
    return {name: weight.astype(np.float16) for name, weight in weights.items()}


def bits(weights: Weights, paragraphs: Sequence[str]) -> float:
    """What each character of these costs, given those before it, when the weights foretell it."""
    used = {name: weight.astype(np.float32) for name, weight in weights.items()}
    text = columns(tokens(paragraphs), 16)
    return network.loss(used, network.silence(used, 16), text) / float(np.log(2))


def bigram_bits(train: Sequence[str], paragraphs: Sequence[str]) -> float:
    """The same, when only the letter before is known: what a network must beat."""
    known, text = tokens(train), tokens(paragraphs)
    letters = len(network.VOCABULARY)
    alone = (np.bincount(known, minlength=letters) + 1) / (len(known) + letters)
    pairs = np.zeros((letters, letters))
    np.add.at(pairs, (known[:-1], known[1:]), 1)
    chances = (pairs + 10 * alone) / (
        pairs.sum(1, keepdims=True) + 10
    )  # rare letters: nearer to what is usual
    return -float(np.log2(chances[text[:-1], text[1:]]).mean())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m infra.training.story", description="Train the story model."
    )
    parser.add_argument("--epochs", type=int, default=16, help="passes over the training text (16)")
    parser.add_argument("--seed", type=int, default=0, help="of first weights and order (0)")
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="folder for weights.npz (the served model's)"
    )
    parser.add_argument("--text", type=Path, default=TEXT, help="what to learn from (story.txt)")
    parser.add_argument("--collect", action="store_true", help="first write that file, from this repository")
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error("--epochs must be at least 1")

    if options.collect:
        options.text.write_text(prose.collect(ROOT, network.fold), "utf-8")
    split = load_split(options.text)
    with threadpool_limits(1):
        for epoch in train(split.train, options.epochs, np.random.default_rng(options.seed)):
            weights = rounded(epoch.weights)
            found = bits(weights, split.held_out)
            sys.stdout.write(
                f"epoch {epoch.number:2}  {epoch.loss / np.log(2):.3f} bits a character  held out {found:.3f}\n"
            )
            sys.stdout.flush()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "weights.npz"
    np.savez(path, **weights)
    sys.stdout.write(
        f"{path}  {path.stat().st_size:,} bytes  {found:.2f} bits for a held-out character, "
        f"{bigram_bits(split.train, split.held_out):.2f} by the letter before it alone\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
