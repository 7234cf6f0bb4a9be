"""All mathematics of `story`: one gated recurrent layer over characters, and the odds of the next one.

Triton's model.py and the trainer both load this file, so what was trained is what is served. It needs only NumPy.
A step takes N characters and N states, so the rows of a batch are texts of their own; the weights decide the precision:
float32 in service, float64 where a gradient is checked. The cell is the gated unit of Cho et al. 2014, with its reset gate
behind the recurrent product, so that a step has only one of these.
"""

import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Tokens = npt.NDArray[np.integer[Any]]
Weights = dict[str, Array]

VOCABULARY = "\n" + "".join(map(chr, range(ord(" "), ord("~") + 1)))
"""A token is the place of its character here. A newline ends a paragraph."""

READ = 256
"""What a continuation depends on: so many characters at the end of its text."""

_PLACES = {character: place for place, character in enumerate(VOCABULARY)}
_PLAIN = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-", "\u2192": "->"}
    | {"\t": " ", "\r": ""}
)


def fold(text: str) -> str:
    """The text in the letters of VOCABULARY: without accents, and `?` for what has no likeness there."""
    split = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    kept = (character for character in split if not unicodedata.combining(character))
    return "".join(character if character in _PLACES else "?" for character in kept)


def encode(text: str) -> Tokens:
    return np.array([_PLACES[character] for character in fold(text)], np.int64)


def initial(rng: np.random.Generator, size: int) -> Weights:
    """Fresh float32 weights of a layer this wide: a deviation of 1 / sqrt(size) for the matrices, zero for the biases."""
    letters, scale = len(VOCABULARY), np.float32(1 / np.sqrt(size))
    shapes = {"in": (letters, 3 * size), "recur": (size, 3 * size), "out": (size, letters)}
    weights: Weights = {name: rng.standard_normal(it, np.float32) * scale for name, it in shapes.items()}
    biases = {"in_bias": 3 * size, "recur_bias": size, "out_bias": letters}
    return weights | {name: np.zeros(it, np.float32) for name, it in biases.items()}


def silence(weights: Weights, texts: int) -> Array:
    """The states [N, size] before anything was read."""
    return np.zeros((texts, len(weights["recur"])), weights["recur"].dtype)


def step(weights: Weights, states: Array, tokens: Tokens) -> Array:
    """The states after one more character of each text."""
    return _step(weights, states, tokens).after


def logits(weights: Weights, states: Array) -> Array:
    """The next character's odds, as logarithms up to a constant."""
    return states @ weights["out"] + weights["out_bias"]


def continuation(weights: Weights, text: str, temperature: float, rng: np.random.Generator) -> Iterator[str]:
    """The characters that follow the text, without end; at temperature 0 always the likeliest."""
    states = silence(weights, 1)
    for token in encode("\n" + text[-READ:]):  # a text begins as a paragraph does
        states = step(weights, states, token[None])
    while True:
        (odds,) = logits(weights, states).astype(np.float64)
        place = int(odds.argmax()) if temperature == 0 else _drawn(odds / temperature, rng)
        yield VOCABULARY[place]
        states = step(weights, states, np.array([place]))


def _drawn(odds: Array, rng: np.random.Generator) -> int:
    chances = np.exp(odds - odds.max()).cumsum()
    return int(np.searchsorted(chances, rng.random() * chances[-1]))


class Lesson(NamedTuple):
    """What one stretch of the texts taught: mean cross-entropy, its derivative by every weight, the states after it."""

    loss: float
    slopes: Weights
    states: Array


def loss(weights: Weights, states: Array, tokens: Tokens) -> float:
    """Mean cross-entropy, in nats, of each character of [T + 1, N] but the first given those before it."""
    return _cross_entropy(_log_odds(weights, _walk(weights, states, tokens[:-1])), tokens[1:])


def gradient(weights: Weights, states: Array, tokens: Tokens) -> Lesson:
    """The same, and the way back through these T steps, not into what was before them."""
    steps = _walk(weights, states, tokens[:-1])
    log_odds = _log_odds(weights, steps)
    slope = np.exp(log_odds)
    np.put_along_axis(slope, tokens[1:, :, None], np.take_along_axis(slope, tokens[1:, :, None], 2) - 1, 2)
    slope /= tokens[1:].size

    by_step = slope @ weights["out"].T
    turned = np.ascontiguousarray(weights["recur"].T)
    back = np.zeros_like(states)
    # By what enters the gates from the letter and from the state: the same, but for the candidate.
    into: list[Array] = []
    recur: list[Array] = []
    for at, here in zip(reversed(by_step), reversed(steps), strict=True):
        back = back + at
        candidate = back * (1 - here.keep) * (1 - here.new**2)
        keep = back * (here.before - here.new) * here.keep * (1 - here.keep)
        reset = candidate * here.recalled * here.reset * (1 - here.reset)
        into.append(np.concatenate([reset, keep, candidate], 1))
        recur.append(np.concatenate([reset, keep, candidate * here.reset], 1))
        back = back * here.keep + recur[-1] @ turned

    size = states.shape[1]
    into_rows, recur_rows = (np.concatenate(rows[::-1]) for rows in (into, recur))
    rows = slope.reshape(len(into_rows), -1)
    letters = np.eye(len(VOCABULARY), dtype=rows.dtype)[tokens[:-1].ravel()]
    slopes = {
        "in": letters.T @ into_rows,
        "in_bias": into_rows.sum(0),
        "recur": np.concatenate([here.before for here in steps]).T @ recur_rows,
        "recur_bias": recur_rows[:, 2 * size :].sum(0),
        "out": np.concatenate([here.after for here in steps]).T @ rows,
        "out_bias": rows.sum(0),
    }
    return Lesson(_cross_entropy(log_odds, tokens[1:]), slopes, steps[-1].after)


class _Step(NamedTuple):
    """Everything that one step computed; the way back needs it all, service only the states after it."""

    before: Array
    reset: Array
    keep: Array
    recalled: Array
    new: Array
    after: Array


def _step(weights: Weights, states: Array, tokens: Tokens) -> _Step:
    size = states.shape[1]
    into = weights["in"][tokens] + weights["in_bias"]
    recur = states @ weights["recur"]
    # The logistic function, by the hyperbolic tangent, which never overflows.
    gates = 0.5 + 0.5 * np.tanh(0.5 * (into[:, : 2 * size] + recur[:, : 2 * size]))
    reset, keep = gates[:, :size], gates[:, size:]
    recalled = recur[:, 2 * size :] + weights["recur_bias"]
    new = np.tanh(into[:, 2 * size :] + reset * recalled)
    return _Step(states, reset, keep, recalled, new, keep * states + (1 - keep) * new)


def _walk(weights: Weights, states: Array, tokens: Tokens) -> list[_Step]:
    """One step for each row of [T, N], the first from these states."""
    steps: list[_Step] = []
    for row in tokens:
        steps.append(_step(weights, steps[-1].after if steps else states, row))
    return steps


def _log_odds(weights: Weights, steps: list[_Step]) -> Array:
    """The logarithms [T, N, letters] of the next character's probabilities."""
    odds = logits(weights, np.stack([here.after for here in steps]))
    odds -= odds.max(2, keepdims=True)
    return odds - np.log(np.exp(odds).sum(2, keepdims=True))


def _cross_entropy(log_odds: Array, tokens: Tokens) -> float:
    return -float(np.take_along_axis(log_odds, tokens[:, :, None], 2).mean())
