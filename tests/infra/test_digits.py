import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from infra.training import digits, example
from infra.training.adam import Array, Weights
from infra.training.digits import Examples, Split, network

WEIGHTS = digits.FOLDER / "weights.npz"
EXAMPLE = example.FOLDER / "digit.json"


@pytest.fixture(scope="module")
def split() -> Split:
    return digits.load_split()


@pytest.fixture(scope="module")
def served() -> Weights:
    with np.load(WEIGHTS, allow_pickle=False) as weights:
        return dict(weights)


def test_the_served_weights_know_99_percent_of_the_held_out_pictures(served: Weights, split: Split) -> None:
    assert len(split.held_out.labels) == 360
    assert digits.accuracy(served, split.held_out) >= 0.99


def test_no_held_out_picture_is_trained_on(split: Split) -> None:
    seen = {image.tobytes() for image in split.train.images}
    assert len(seen) == 1437
    assert not any(image.tobytes() in seen for image in split.held_out.images)


def test_pictures_keep_the_range_that_the_model_accepts(split: Split) -> None:
    for examples in split:
        assert examples.images.shape[1:] == (1, 28, 28)
        assert examples.images.dtype == np.float32
        assert (examples.images >= 0).all()
        assert (examples.images <= 1).all()


def test_weights_are_small_and_hold_only_numbers(served: Weights) -> None:
    assert WEIGHTS.stat().st_size < 2_000_000
    assert {weight.dtype for weight in served.values()} == {np.dtype(np.float32)}
    assert sum(weight.size for weight in served.values()) == 121_930


def test_scores_are_probabilities(served: Weights, split: Split) -> None:
    scores = network.scores(served, split.held_out.images)
    assert scores.shape == (360, 10)
    assert scores.dtype == np.float32
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)


def test_a_picture_scores_the_same_alone_and_in_a_batch(served: Weights, split: Split) -> None:
    images = split.held_out.images[:64]
    alone = np.concatenate([network.scores(served, image[None]) for image in images])
    np.testing.assert_allclose(network.scores(served, images), alone, rtol=1e-4, atol=1e-6)


def test_one_bad_picture_leaves_the_scores_of_its_batch_alone(served: Weights, split: Split) -> None:
    images = split.held_out.images[:3].copy()
    before = network.scores(served, images)
    images[1, 0, 5, 5] = np.nan
    after = network.scores(served, images)
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert np.isnan(after[1]).all()


@pytest.mark.parametrize(
    "name", [layer + part for layer in ("conv1", "conv2", "dense1", "dense2") for part in ("", "_bias")]
)
def test_gradient_is_the_slope_of_the_loss(name: str, split: Split) -> None:
    rng = np.random.default_rng(7)
    weights = {key: weight.astype(np.float64) for key, weight in network.initial(rng).items()}
    # The last picture is blank, which ties in every pool; biases off zero keep ReLU's corner away from it.
    weights |= {key: rng.normal(0, 0.1, weights[key].shape) for key in weights if key.endswith("_bias")}
    images, labels = split.train.images[:3].astype(np.float64), split.train.labels[:3]
    images[-1] = 0
    _, slopes = network.gradient(weights, images, labels)

    def loss(moved: float, at: tuple[int, ...]) -> float:
        nearby = weights | {name: weights[name].copy()}
        nearby[name][at] += moved
        return network.gradient(nearby, images, labels)[0]

    for flat in rng.choice(weights[name].size, 8, replace=False):
        at = tuple(int(index) for index in np.unravel_index(flat, weights[name].shape))
        measured = (loss(1e-6, at) - loss(-1e-6, at)) / 2e-6
        assert slopes[name][at] == pytest.approx(measured, rel=1e-4, abs=1e-7)


def test_learning_lowers_the_loss(split: Split) -> None:
    two_batches = Examples(split.train.images[:128], split.train.labels[:128])
    first, second, third = (epoch.loss for epoch in digits.train(two_batches, 3, np.random.default_rng(0)))
    assert first > second > third


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(split: Split) -> None:
    few = Examples(split.train.images[:64], split.train.labels[:64])

    def trained(seed: int) -> Weights:
        (epoch,) = digits.train(few, 1, np.random.default_rng(seed))
        return epoch.weights

    first, again, other = trained(1), trained(1), trained(2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["conv1"], other["conv1"])


def test_the_trainer_writes_weights_that_the_model_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert digits.main(["--epochs", "1", "--out", str(tmp_path)]) == 0
    with np.load(tmp_path / "weights.npz", allow_pickle=False) as weights:
        assert digits.accuracy(dict(weights), digits.load_split().held_out) > 0.5
    assert "held out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (digits.main, ["--epochs", "0"]),
        (example.main, ["--picture", "360"]),
        (example.main, ["--picture", "-1"]),
    ],
)
def test_options_out_of_range_are_refused(
    main: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert "must be" in capsys.readouterr().err


def test_the_example_is_a_request_that_the_model_answers_with_seven(served: Weights) -> None:
    (tensor,) = json.loads(EXAMPLE.read_text())["inputs"]
    assert (tensor["name"], tensor["datatype"]) == ("image", "FP32")
    image = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
    assert network.scores(served, image).argmax() == 7


def test_the_committed_example_is_what_its_script_writes(tmp_path: Path, split: Split) -> None:
    example.main(["--out", str(tmp_path)])
    assert (tmp_path / "digit.json").read_text() == EXAMPLE.read_text()
    assert split.held_out.labels[example.PICTURE] == 7
    # Compressed bytes depend on the zlib; what a viewer shows does not.
    image = split.held_out.images[example.PICTURE, 0]
    for file in (tmp_path / "digit.png", example.FOLDER / "digit.png"):
        np.testing.assert_allclose(_pixels(file.read_bytes()), 1 - image, atol=1 / 255)


def _pixels(png: bytes) -> Array:
    """The [28, 28] values of the grey PNG that example.py writes: IHDR, IDAT, IEND."""
    size = 28 * example.ZOOM
    length = int.from_bytes(png[33:37], "big")
    lines = np.frombuffer(zlib.decompress(png[41 : 41 + length]), np.uint8).reshape(size, 1 + size)
    grey: Array = lines[:: example.ZOOM, 1 :: example.ZOOM] / 255
    return grey
