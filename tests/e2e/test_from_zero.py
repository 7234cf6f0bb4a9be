"""Nothing runs while nobody calls, and the first callers are held, not refused."""

from functools import partial
from pathlib import Path

import pytest

from tests.e2e.world import MODELS, fp32, in_parallel, new_tenant, serving, starts, tritons

pytestmark = pytest.mark.triton

CALLERS = 50


def test_many_first_requests_start_one_server_and_none_is_lost(state: Path) -> None:
    key = new_tenant(state, "roomy").secret.reveal()
    with serving(state, MODELS) as demo:
        assert tritons(state) == []
        calls = [partial(demo.infer, "echo_fp32", fp32(n), key=key) for n in range(CALLERS)]
        answers = in_parallel(calls)
        assert [answer.status for answer in answers] == [200] * CALLERS
        assert [answer.json["outputs"][0]["data"] for answer in answers] == [[n] for n in range(CALLERS)]
        assert (len(tritons(state)), starts(state)) == (1, 1)


def test_what_is_refused_or_answered_by_the_gateway_starts_no_server(state: Path) -> None:
    with serving(state, MODELS) as demo:
        for path in ("/v2", "/healthz", "/readyz", "/v2/health/ready", "/v2/models/sink/ready"):
            assert demo.call(path).status == 200
        assert demo.infer("unheard-of", fp32(1)).status == 404
        assert demo.infer("echo_fp32", b"no json").status == 400
        assert demo.infer("echo_fp32", fp32(1), key="wrong").status == 401
        assert starts(state) == 0
