import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from infra.training import example, forecast
from infra.training.forecast import Array, Split, Windows, autoregression

WEIGHTS = forecast.FOLDER / "weights.csv"
EXAMPLE = example.FOLDER / "history.json"
LARGEST = float(np.float32(1e30))  # what model.py accepts

histories = arrays(np.float32, (2, 28), elements=st.floats(-1e6, 1e6, width=32))


@pytest.fixture(scope="module")
def split() -> Split:
    return forecast.split(forecast.series(np.random.default_rng(0)))


@pytest.fixture(scope="module")
def served() -> Array:
    weights: Array = np.loadtxt(WEIGHTS, delimiter=",")
    return weights


def of(served: Array, *values: float) -> Array:
    """The forecast of one window."""
    (following,) = autoregression.forecast(served, np.array([values], np.float32))
    return np.asarray(following)


def test_the_served_weights_beat_naive_forecasts_on_held_out_series(served: Array, split: Split) -> None:
    held_out = split.held_out
    ours = forecast.error(autoregression.forecast(served, held_out.history), held_out)
    assert ours < 0.75
    assert ours < 0.85 * forecast.error(forecast.naive(held_out), held_out)
    last_value = np.repeat(held_out.history[:, -1:], 7, axis=1)
    assert ours < 0.65 * forecast.error(last_value, held_out)


def test_no_held_out_series_is_fitted(split: Split) -> None:
    fitted = {window.tobytes() for window in split.train.history}
    assert len(fitted) == 400 * 16
    assert not any(window.tobytes() in fitted for window in split.held_out.history)


def test_the_same_seed_gives_the_served_bytes_and_another_seed_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in ("0", "1"):
        assert forecast.main(["--seed", seed, "--out", str(tmp_path / seed)]) == 0
    assert (tmp_path / "0" / "weights.csv").read_bytes() == WEIGHTS.read_bytes()
    assert (tmp_path / "1" / "weights.csv").read_bytes() != WEIGHTS.read_bytes()
    assert "held-out series" in capsys.readouterr().out


def test_the_fit_has_the_least_error_of_its_neighbours(split: Split) -> None:
    few = Windows(split.train.history[:500], split.train.following[:500])
    weights = forecast.fit(few)
    least = forecast.error(autoregression.forecast(weights, few.history), few)
    # Moves that leave straight lines and patterns of the week alone, as the fit is bound to continue those.
    for start, size in itertools.product(range(0, 14, 5), (-0.01, 0.01)):
        moved = weights.copy()
        moved[[start, start + 7, start + 14], 3] += np.array([1, -2, 1]) * size
        assert forecast.error(autoregression.forecast(moved, few.history), few) > least


def test_straight_lines_and_patterns_of_the_week_go_on(served: Array) -> None:
    np.testing.assert_allclose(of(served, *range(1, 29)), range(29, 36), atol=0.01)
    np.testing.assert_allclose(of(served, *range(280, 0, -10)), range(0, -70, -10), atol=0.1)
    np.testing.assert_allclose(of(served, *[3, 1, 4, 1, 5, 9, 2] * 4), [3, 1, 4, 1, 5, 9, 2], atol=0.01)
    np.testing.assert_allclose(of(served, *[21.5] * 28), [21.5] * 7)


@given(histories, st.floats(0.01, 1000), st.floats(-1e6, 1e6))
def test_another_unit_or_level_of_a_series_is_that_of_its_forecast(
    history: Array, unit: float, level: float
) -> None:
    weights: Array = np.loadtxt(WEIGHTS, delimiter=",")
    wanted = unit * autoregression.forecast(weights, history) + level
    found = autoregression.forecast(weights, unit * history.astype(np.float64) + level)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6 * (1 + unit * abs(history).max()))


@given(histories)
def test_a_window_is_forecast_the_same_alone_and_in_a_batch(history: Array) -> None:
    weights: Array = np.loadtxt(WEIGHTS, delimiter=",")
    alone = np.concatenate([autoregression.forecast(weights, window[None]) for window in history])
    np.testing.assert_allclose(autoregression.forecast(weights, history), alone, rtol=1e-9, atol=1e-6)


@given(arrays(np.float32, (1, 28), elements=st.floats(-LARGEST, LARGEST, width=32)))
def test_every_window_that_the_model_accepts_has_a_forecast_of_numbers(history: Array) -> None:
    weights: Array = np.loadtxt(WEIGHTS, delimiter=",")
    assert np.isfinite(autoregression.forecast(weights, history).astype(np.float32)).all()


def test_one_bad_window_leaves_the_forecasts_of_its_batch_alone(served: Array, split: Split) -> None:
    history = split.held_out.history[:3].copy()
    before = autoregression.forecast(served, history)
    history[1, 5] = np.nan
    after = autoregression.forecast(served, history)
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert np.isnan(after[1]).all()


def test_the_committed_example_is_what_its_script_writes_and_its_weeks_are_held_out(
    tmp_path: Path, split: Split
) -> None:
    example.main(["--out", str(tmp_path)])
    assert (tmp_path / "history.json").read_text() == EXAMPLE.read_text()
    (tensor,) = json.loads(EXAMPLE.read_text())["inputs"]
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("history", "FP32", [1, 28])
    np.testing.assert_allclose(
        (np.array(tensor["data"]) - 120) / 25, split.held_out.history[example.WINDOW], atol=0.02
    )
