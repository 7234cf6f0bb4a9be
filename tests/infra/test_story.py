import math
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.training import prose, story
from infra.training.adam import Weights
from infra.training.story import Split, network

WEIGHTS = story.FOLDER / "weights.npz"


@pytest.fixture(scope="module")
def split() -> Split:
    return story.load_split()


@pytest.fixture(scope="module")
def kept() -> Weights:
    with np.load(WEIGHTS, allow_pickle=False) as weights:
        return dict(weights)


@pytest.fixture(scope="module")
def served(kept: Weights) -> Weights:
    return {name: weight.astype(np.float32) for name, weight in kept.items()}


@pytest.fixture
def tiny() -> Weights:
    """A network of five units in float64, its biases off zero."""
    rng = np.random.default_rng(7)
    weights = {name: weight.astype(np.float64) for name, weight in network.initial(rng, 5).items()}
    return weights | {
        name: rng.normal(0, 0.5, weight.shape) for name, weight in weights.items() if name.endswith("_bias")
    }


def told(weights: Weights, text: str, length: int, temperature: float, seed: int) -> str:
    rng = np.random.default_rng(seed)
    return "".join(islice(network.continuation(weights, text, temperature, rng), length))


def test_the_served_weights_foretell_held_out_prose_better_than_pairs_of_letters_do(
    kept: Weights, split: Split
) -> None:
    ours = story.bits(kept, split.held_out)
    assert ours < 1.9
    assert ours < 0.6 * story.bigram_bits(split.train, split.held_out)


def test_the_served_weights_were_trained_on_the_committed_text_and_not_on_what_is_held_out(
    kept: Weights, split: Split
) -> None:
    assert story.bits(kept, split.train[:300]) < 0.9 * story.bits(kept, split.held_out)


def test_no_held_out_paragraph_is_trained_on(split: Split) -> None:
    assert len(split.held_out) == (len(split.train) + len(split.held_out)) // 10
    assert not set(split.train) & set(split.held_out)


def test_the_committed_text_is_in_the_letters_of_the_network(split: Split) -> None:
    text = story.TEXT.read_text("utf-8")
    assert 100_000 < len(text) < 300_000
    assert network.fold(text) == text
    assert all(len(paragraph) >= prose.SHORTEST for part in split for paragraph in part)


def test_weights_are_small_and_hold_only_numbers(kept: Weights) -> None:
    assert WEIGHTS.stat().st_size < 1_000_000
    assert {weight.dtype for weight in kept.values()} == {np.dtype(np.float16)}
    assert all(np.isfinite(weight).all() for weight in kept.values())
    assert sum(weight.size for weight in kept.values()) == 296_032


def test_gradient_is_the_slope_of_the_loss(tiny: Weights) -> None:
    rng = np.random.default_rng(3)
    text = network.encode("a bad cab, a dab\nof bacc").reshape(6, 4)
    states = rng.normal(0, 0.5, (4, 5))
    lesson = network.gradient(tiny, states, text)
    assert lesson.loss == pytest.approx(network.loss(tiny, states, text))

    def loss(name: str, at: tuple[int, ...], moved: float) -> float:
        nearby = tiny | {name: tiny[name].copy()}
        nearby[name][at] += moved
        return network.loss(nearby, states, text)

    assert lesson.slopes.keys() == tiny.keys()
    for name, slopes in lesson.slopes.items():
        steep = np.argsort(-abs(slopes), axis=None)[:5]
        for flat in [*steep, *rng.choice(slopes.size, 3)]:
            at = tuple(int(index) for index in np.unravel_index(flat, slopes.shape))
            measured = (loss(name, at, 1e-6) - loss(name, at, -1e-6)) / 2e-6
            assert slopes[at] == pytest.approx(measured, rel=1e-4, abs=1e-8), (name, at)


def test_a_stretch_goes_on_where_the_one_before_it_ended(tiny: Weights) -> None:
    text = network.encode("one stretch of text, and").reshape(12, 2)
    states = network.silence(tiny, 2)
    first = network.gradient(tiny, states, text[:6])
    second = network.gradient(tiny, first.states, text[5:])
    whole = network.loss(tiny, states, text)
    assert (5 * first.loss + 6 * second.loss) / 11 == pytest.approx(whole)


def test_a_text_is_read_the_same_alone_and_in_a_batch_and_its_chances_sum_to_one(tiny: Weights) -> None:
    texts = network.encode("abcdefgh").reshape(4, 2)
    states, alone = network.silence(tiny, 2), network.silence(tiny, 1)
    for row in texts:
        states = network.step(tiny, states, row)
        alone = network.step(tiny, alone, row[1:])
    np.testing.assert_allclose(states[1:], alone, rtol=1e-12)
    places = range(len(network.VOCABULARY))
    chances = [math.exp(-network.loss(tiny, states[1:], np.array([[5], [place]]))) for place in places]
    assert sum(chances) == pytest.approx(1)


def test_at_temperature_0_the_likeliest_character_follows_whatever_the_seed(served: Weights) -> None:
    text = told(served, "The gat", 30, 0, seed=1)
    assert text == told(served, "The gat", 30, 0, seed=2)
    states = network.silence(served, 1)
    for token in network.encode("\nThe gat" + text):
        states = network.step(served, states, token[None])
    likeliest = network.VOCABULARY[int(network.logits(served, states).argmax())]
    assert told(served, "The gat" + text, 1, 0, seed=1) == likeliest


def test_the_same_seed_tells_the_same_and_another_seed_another_story(served: Weights) -> None:
    first, again, other = (told(served, "A test ", 200, 0.8, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_warmer_the_wilder(served: Weights) -> None:
    def surprise(temperature: float) -> float:
        text = network.encode("\n" + told(served, "", 2_000, temperature, seed=5))
        return network.loss(served, network.silence(served, 1), text[:, None])

    cool, usual, hot = surprise(0.3), surprise(1.0), surprise(3.0)
    assert cool < 0.7 * usual
    assert usual < 0.7 * hot


@pytest.mark.parametrize("temperature", [1e-45, 1e-6, 3e38])
def test_temperatures_at_the_ends_of_fp32_are_only_very_cool_or_very_hot(
    served: Weights, temperature: float
) -> None:
    text = told(served, "The ", 50, temperature, seed=3)
    assert len(text) == 50
    assert (text == told(served, "The ", 50, 0, seed=3)) == (temperature < 1)


def test_most_words_of_a_story_are_words_of_its_text(served: Weights, split: Split) -> None:
    known = set(" ".join(split.train).split())
    words = told(served, "", 3_000, 0.5, seed=11).split()
    assert sum(word in known for word in words) > 0.85 * len(words)


def test_only_the_end_of_a_long_text_is_read(served: Weights) -> None:
    end = "nothing of this is lost " * 20
    stories = {
        told(served, start + end, 20, 0.5, seed=1) for start in ("", "What was long ago. ", "x" * 100_000)
    }
    assert len(stories) == 1


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Plain text, with 1 or 2\nlines.", "Plain text, with 1 or 2\nlines."),
        ("d\u00e9j\u00e0 vu na\u00efve \u00c5", "deja vu naive A"),
        ("\u201cquoted\u201d \u2013 it\u2019s \u2026", '"quoted" - it\'s ...'),
        ("a\tb\r\n\u00a0c", "a b\n c"),
        ("\u6f22\U0001f642\0", "???"),
        ("", ""),
    ],
)
def test_letters_that_the_network_lacks_become_the_nearest(text: str, folded: str) -> None:
    assert network.fold(text) == folded


@given(st.text(max_size=50))
def test_every_text_has_a_story(text: str) -> None:
    weights = network.initial(np.random.default_rng(0), 4)
    assert set(told(weights, text, 3, 0.5, seed=1)) <= set(network.VOCABULARY)


def test_slopes_are_shortened_only_where_they_are_long() -> None:
    long: Weights = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    shortened = story.clipped(long)
    np.testing.assert_allclose(shortened["a"], [0.6, 0])
    np.testing.assert_allclose(shortened["b"], [[0.8]])
    short = {name: slope / 10 for name, slope in long.items()}
    assert all(np.array_equal(slope, short[name]) for name, slope in story.clipped(short).items())


def test_the_columns_of_a_text_are_all_of_it_once_and_each_knows_what_comes_next() -> None:
    text = np.arange(14)
    np.testing.assert_array_equal(
        story.columns(text, 3).T, [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8], [8, 9, 10, 11, 12]]
    )


def test_learning_lowers_the_loss_and_the_same_seed_gives_the_same_weights(split: Split) -> None:
    few = split.train[:20]

    def trained(seed: int) -> list[story.Epoch]:
        return list(story.train(few, 3, np.random.default_rng(seed)))

    first, again, other = trained(1), trained(1), trained(2)
    assert first[0].loss > first[1].loss > first[2].loss
    assert all(np.array_equal(first[-1].weights[name], again[-1].weights[name]) for name in first[-1].weights)
    assert not np.array_equal(first[-1].weights["recur"], other[-1].weights["recur"])
    assert {weight.dtype for weight in first[-1].weights.values()} == {np.dtype(np.float32)}


def test_the_trainer_writes_weights_that_the_model_loads(
    tmp_path: Path, split: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(split.train[:60]))
    assert story.main(["--epochs", "1", "--text", str(text), "--out", str(tmp_path)]) == 0
    with np.load(tmp_path / "weights.npz", allow_pickle=False) as weights:
        assert story.bits(dict(weights), split.held_out) < math.log2(len(network.VOCABULARY))
        assert {name: weights[name].shape for name in weights} == {
            name: weight.shape
            for name, weight in network.initial(np.random.default_rng(0), story.SIZE).items()
        }
    assert "bits for a held-out character" in capsys.readouterr().out


def test_no_passes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        story.main(["--epochs", "0"])
    assert refused.value.code == 2
    assert "must be" in capsys.readouterr().err
