"""What Triton computed is somebody's, or has its line: together it is Triton's own total, also of a model that was unloaded meanwhile."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.usage.apportion import IDLE, LOAD, UNATTRIBUTED
from tests.conftest import ROOT
from tests.e2e import counted
from tests.e2e.test_control import control
from tests.e2e.world import Demo, new_tenant, serving, until

pytestmark = pytest.mark.triton

EXAMPLES = ROOT / "infra" / "examples"
STORY = {"text_input": "Once", "max_tokens": 12}


def load(demo: Demo, key: str, times: int) -> None:
    """So many calls of each of the two small models, and a few stories."""
    image, history = (EXAMPLES / "digit.json").read_bytes(), (EXAMPLES / "history.json").read_bytes()

    def ask(number: int) -> int:
        if number % 10 == 0:
            return demo.call("/v2/models/story/generate_stream", STORY, key=key).status
        return demo.infer(*(("digits", image) if number % 3 else ("forecast", history)), key=key).status

    with ThreadPoolExecutor(8) as clients:
        assert set(clients.map(ask, range(times))) == {200}


def test_compute_is_shared_out_to_the_last_percent_over_an_unload(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    state = tmp_path / "state"
    with serving(state) as demo:
        keys = [new_tenant(state, name) for name in ("acme", "globex")]
        for key, times in zip(keys, (90, 30), strict=True):
            load(demo, key.secret.reveal(), times)
        before = counted.compute_ns(state)
        tag = control(demo, "GET", "/models/story").headers["etag"]
        assert control(demo, "DELETE", "/models/story", If_Match=tag).status == 204
        until(lambda: "story" not in counted.compute_ns(state), 20, "the model is never unloaded")
        assert (
            demo.infer("digits", (EXAMPLES / "digit.json").read_bytes(), key=keys[0].secret.reveal()).status
            == 200
        )

        def shared() -> float:
            total = counted.compute_ns(state) | {"story": before["story"]}
            lines = counted.by_key(state)
            told = sum(sums.compute_us for name, sums in lines.items() if name not in (IDLE, LOAD))
            return told * 1000 / sum(total.values())

        until(
            lambda: 0.999 <= shared() <= 1.01,
            20,
            lambda: (
                f"{shared():.2%} of Triton's total: {counted.by_model(state)}, {counted.compute_ns(state)}, {before}"
            ),
        )
        lines = counted.by_key(state)
        first, second = (lines[key.key.id].compute_us for key in keys)
        record_property("of Triton's own total is shared out", f"{shared():.2%}")
        told = {name: f"{sums.compute_us / 1e6:.3f} s" for name, sums in sorted(lines.items())}
        record_property("compute by key and line", ", ".join(f"{name} {it}" for name, it in told.items()))
        assert lines[LOAD].calls == 3
        assert first > second > 0
        assert lines.get(UNATTRIBUTED) is None or lines[UNATTRIBUTED].compute_us < 0.05 * (first + second)
