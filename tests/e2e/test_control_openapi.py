"""The control API keeps its own description: whatever is made from it is answered as it says, and never with a fault of ours."""

from collections.abc import Iterator
from typing import Any
from zlib import crc32

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tenants.api.openapi import document
from tenants.issuers import id_of
from tests.e2e.load import FULL
from tests.e2e.test_control import control
from tests.e2e.world import MODELS, Demo, serving

pytestmark = [pytest.mark.triton, pytest.mark.chaos]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
TENANTS = ["acme", "globex"]
ISSUER = {"issuer": "https://login.example", "audience": "gateway", "tenant_claim": "tenant"}
NAMES = {
    "plans": "spare",
    "privacies": "spare",
    "models": "spare",
    "fleets": "spare",
    "issuers": id_of(ISSUER["issuer"]),
}

schema = schemathesis.openapi.from_dict(document())
schema.config.generation.with_security_parameters = False
made = settings(
    max_examples=100 if FULL else 10,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def peopled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A gateway with two tenants of whom there is one of each thing, and the key of acme's admin."""
    with serving(tmp_path_factory.mktemp("described") / "state", MODELS) as demo:
        ids: dict[str, Any] = {"demo": demo}
        for tenant in TENANTS:
            control(demo, "POST", "/tenants", {"name": tenant, "plan": "demo"})
            control(demo, "POST", f"/tenants/{tenant}/members", {"email": "a@b.example", "role": "viewer"})
            account = control(demo, "POST", f"/tenants/{tenant}/accounts", {"name": "a", "role": "admin"})
            key = control(demo, "POST", f"/tenants/{tenant}/keys", {"account": account.json["id"]})
            ids.setdefault("admin", key.json["api_key"])
        assert control(demo, "PUT", "/fleets/spare", {}, if_none_match="*").status == 201
        assert control(demo, "PUT", f"/issuers/{NAMES['issuers']}", ISSUER, if_none_match="*").status == 201
        yield ids


@schema.parametrize()
@made
@pytest.mark.parametrize("role", ["operator", "admin"])
def test_every_answer_of_the_control_api_is_as_described(
    case: Any, role: str, peopled: dict[str, Any]
) -> None:
    demo: Demo = peopled["demo"]
    aim(case, demo)
    base, key = (
        (demo.operator, demo.operator_key)
        if role == "operator"
        else (f"http://{demo.address}", peopled["admin"])
    )
    case.call_and_validate(base_url=base, headers={"x-api-key": key}, checks=CHECKS)


def aim(case: Any, demo: Demo) -> None:
    """Of five made names and ETags four become ones that there are; what is not there shows little."""
    named = case.path_parameters or {}
    number = crc32(repr((case.body, named, case.query)).encode())
    if not number % 5:
        return
    if "tenant" in named:
        named["tenant"] = TENANTS[number % 2]
    if "name" in named:
        named["name"] = NAMES[case.path.split("/")[3]]
    for kind in ("member", "account", "key"):
        if kind in named and not case.path.endswith("revoke"):
            here = case.path.split("{" + kind)[0].removeprefix("/control/v1").format(**named)
            items = control(demo, "GET", here.rstrip("/")).json.get("items")
            named[kind] = items[number % len(items)]["id"] if items else named[kind]
    if "If-Match" in (case.headers or {}):
        there = case.path.removeprefix("/control/v1").format(**named)
        if tag := control(demo, "GET", there).headers.get("etag"):
            case.headers["If-Match"] = tag
