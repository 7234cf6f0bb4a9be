"""What the official gRPC client is told of a model beside its inference: the tenant's own figures, and its configuration where that is
shown.
"""

from pathlib import Path

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.e2e.world import MODELS, Demo, fp32, new_tenant, serving

pytestmark = pytest.mark.triton


def test_statistics_are_the_tenants_own_whatever_protocol_its_calls_came_in(house: Demo) -> None:
    key = new_tenant(house.state, "grpc-counted").secret.reveal()
    for _ in range(3):
        assert house.infer("echo_fp32", fp32(1), key=key).status == 200
    with triton.InferenceServerClient(house.grpc) as client:
        told = client.get_inference_statistics("echo_fp32", headers={"authorization": f"Bearer {key}"})
        (row,) = told.model_stats
        assert (row.name, row.version, row.inference_count) == ("echo_fp32", "1", 3)
        assert row.inference_stats.success.count == 3
        assert row.inference_stats.success.ns > 0
        with pytest.raises(InferenceServerException) as refused:
            client.get_inference_statistics(headers={"authorization": f"Bearer {key}"})
    assert refused.value.status() == "StatusCode.NOT_FOUND"


def test_a_configuration_is_shown_where_the_operator_allows_it(house: Demo, state: Path) -> None:
    with (
        triton.InferenceServerClient(house.grpc) as client,
        pytest.raises(InferenceServerException) as refused,
    ):
        client.get_model_config("running", headers={"authorization": f"Bearer {house.key}"})
    assert refused.value.status() == "StatusCode.UNIMPLEMENTED"
    with serving(state, MODELS, GATEWAY_HTTP_MODEL_CONFIG="1") as demo:
        with triton.InferenceServerClient(demo.grpc) as client:
            found = client.get_model_config("running", headers={"authorization": f"Bearer {demo.key}"}).config
        assert (found.name, found.backend, found.max_batch_size) == ("running", "python", 8)
        assert [(it.name, it.data_type, list(it.dims)) for it in found.output] == [
            ("total", 8, [1]),
            ("known_as", 5, [1]),
        ]
        assert found.sequence_batching.max_sequence_idle_microseconds == 3_000_000
        assert not found.instance_group
        assert not found.parameters
