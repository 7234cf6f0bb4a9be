"""The inference API keeps its own description: whatever is made from that is answered as it says, and never with a fault of ours."""

from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.conftest import ROOT
from tests.e2e.world import Demo

pytestmark = pytest.mark.triton

DESCRIPTION = yaml.safe_load((ROOT / "gateway" / "frontends" / "inference.openapi.yaml").read_text())
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MODELS = ["echo_fp32", "echo_bytes", "identity"]
DECOUPLED = "letters"  # which infer cannot ask: Triton's 501 is tested in test_generate

schema = schemathesis.openapi.from_dict(DESCRIPTION)


@schema.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """A name that there is not is found out at once, and shows little."""
    if path_parameters and "model" in path_parameters:
        number = sum(str(path_parameters["model"]).encode())
        names = MODELS if "/infer" in context.operation.path else [*MODELS, DECOUPLED]
        if number % 5:
            path_parameters["model"] = names[number % len(names)]
        if "version" in path_parameters and number % 3:
            path_parameters["version"] = "1"
    return path_parameters


@schema.parametrize()
@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case: Any, house: Demo) -> None:
    headers = {"Authorization": f"Bearer {house.key}"}
    case.call_and_validate(base_url=f"http://{house.address}", headers=headers, checks=CHECKS)
