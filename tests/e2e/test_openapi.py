"""Both APIs keep their own descriptions: whatever is made from these is answered as they say, and never with a fault of ours."""

import json
from collections.abc import Iterator
from typing import Any
from zlib import crc32

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
from tests.e2e.fleets import Fleet, configure, killed, serve
from tests.e2e.load import FULL
from tests.e2e.world import Demo
from tests.worlds.openai import MODEL, OpenAiWorld, in_a_thread

pytestmark = [pytest.mark.triton, pytest.mark.chaos]

FRONTENDS = ROOT / "gateway" / "frontends"
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MODELS = ["echo_fp32", "echo_bytes", "identity"]
DECOUPLED = "letters"  # which infer cannot ask: Triton's 501 is tested in test_generate
# What embeds, and what says texts, behind a Triton and behind a server that speaks OpenAI's API itself.
OFFERED = {"/v1/embeddings": ["vectors", "far"], "": ["parrot", "far"]}


def described(name: str) -> Any:
    return yaml.safe_load((FRONTENDS / f"{name}.openapi.yaml").read_text())


schema = schemathesis.openapi.from_dict(described("inference"))
openai = schemathesis.openapi.from_dict(described("openai"))
for each in (schema, openai):  # a made credential beside the true one would be all that most requests show
    each.config.generation.with_security_parameters = False
made = settings(
    max_examples=100 if FULL else 10,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def offering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A gateway that offers all kinds of backends through OpenAI's API."""
    state = tmp_path_factory.mktemp("offering") / "state"
    sections: dict[str, dict[str, Any]] = {
        "parrot": {"backend": "generate", "max_tokens": 2**31 - 1},
        "vectors": {"backend": "infer"},
    }
    key, server = configure(state, Fleet(["parrot", "vectors"], openai=sections)), OpenAiWorld()
    with in_a_thread(server):
        section = {"backend": "pass-through", "address": server.address, "model": MODEL}
        far = {"kind": "Model", "name": "far", "tenants": "*", "openai": section}
        (state / "documents" / "far.yaml").write_text(json.dumps(far))
        with serve(state, key) as demo:
            try:
                yield demo
            finally:
                killed(demo)


@schema.parametrize()
@made
def test_every_answer_is_as_described(case: Any, house: Demo) -> None:
    validate(case, house)


@openai.parametrize()
@made
def test_every_answer_of_openais_api_is_as_described(case: Any, offering: Demo) -> None:
    validate(case, offering)


def validate(case: Any, demo: Demo) -> None:
    aim(case)
    headers = {"Authorization": f"Bearer {demo.key}"}
    case.call_and_validate(base_url=f"http://{demo.address}", headers=headers, checks=CHECKS)


def aim(case: Any) -> None:
    """A name that there is not is found out at once, and shows little: of five made ones four become one that there is."""
    number, path, named = (
        crc32(repr((case.body, case.path_parameters)).encode()),
        case.path,
        case.path_parameters,
    )
    if named and "model" in named and number % 5:
        offered = (
            OFFERED[""] if path.startswith("/v1") else MODELS if "/infer" in path else [*MODELS, DECOUPLED]
        )
        named["model"] = offered[number % len(offered)]
    if named and "version" in named and number % 3:
        named["version"] = "1"
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str) and number % 5:
        offered = OFFERED.get(path, OFFERED[""])
        case.body["model"] = offered[number % len(offered)]
