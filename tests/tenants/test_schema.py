"""What an editor is told of documents is what their reader says: of types, bounds and keys, no less and no more."""

import json
import re
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants import nodes
from tenants.documents import KINDS, Source, parse
from tenants.schema import schema
from tests.conftest import ROOT

READMES = sorted(path for path in ROOT.rglob("README.md") if ".venv" not in path.parts)
ANY = jsonschema_rs.Draft202012Validator(schema())
# What the reader says of types, bounds and keys; all else is about what makes sense.
OF_TYPES = ("Expected", "unknown key", "is missing", "Invalid enum")
TEXTS = ("is not built yet; clients", "is not built yet; nothing")  # said instead of `unknown key`

FLEET: dict[str, Any] = {
    "kind": "Fleet",
    "name": "local",
    "scaler": {"type": "process"},
    "replicas": {"min": 0, "max": 2},
    "memory_bytes": 2147483648,
    "idle_seconds": 60,
}
TENSOR = {"name": "image", "datatype": "FP32", "shape": [-1, 28], "description": "ink is 1"}
MODEL: dict[str, Any] = {
    "kind": "Model",
    "name": "digits",
    "fleet": "local",
    "repository": "models",
    "memory_bytes": 67108864,
    "scaling": {
        "max_replicas": 2,
        "target_concurrency": 8,
        "idle_seconds": 60,
        "start_deadline_seconds": 0.5,
    },
    "tenants": ["acme"],
    "canary": {"inputs": [{"name": "image", "datatype": "FP32", "shape": [2], "data": [0, 0.5]}]},
    "openai": {"backend": "generate", "parameters": ["seed"], "max_tokens": 5, "chat_template": ""},
    "description": "Reads digits.\nIn 28 by 28 pixels.",
    "tags": ["vision"],
    "inputs": [TENSOR],
    "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}],
}
FAR: dict[str, Any] = {
    "kind": "Model",
    "name": "far",
    "tenants": "*",
    "openai": {"backend": "pass-through", "address": "a.example:80", "model": "x"},
}
PLAN: dict[str, Any] = {
    "kind": "Plan",
    "name": "team",
    "weight": 2,
    "limits": {
        "body_bytes": 16777216,
        "requests_per_second": {"rate": 50, "burst": 100},
        "concurrent_requests": 20,
        "per_key": {"requests_per_second": {"rate": 20, "burst": 40}},
        "per_model": {"digits": {"concurrent_requests": 5}},
    },
    "prices": {"currency": "USD", "per_1000_requests": "0.10", "per_compute_second": "0.0012"},
}
TENANT: dict[str, Any] = {
    "kind": "Tenant",
    "name": "acme",
    "plan": "team",
    "members": [{"email": "admin@acme.example", "role": "admin"}],
    "state": "suspended",
}
GOOD = [FLEET, MODEL, FAR, PLAN, TENANT]
BUDGETS: dict[str, Any] = {
    "requests_per_day": 100000,
    "tokens_per_minute": 200000,
    "compute_seconds_per_day": 36000,
    "money_per_month": "500.00",
    "soft": {"money_per_month": "400.00"},
}


def said(document: object) -> list[str]:
    """Why the reader refuses it; JSON is YAML."""
    faults = parse([Source("a.yaml", "/", json.dumps(document).encode())]).faults
    return [fault.reason for fault in faults]


def of_types(reasons: list[str]) -> list[str]:
    return [reason for reason in reasons if reason.startswith((*OF_TYPES, *TEXTS))]


def plain(node: nodes.Node) -> object:
    match node:
        case nodes.Mapping(entries=entries):
            return {name: plain(value) for name, (_, value) in entries.items()}
        case nodes.Sequence(items=items):
            return [plain(item) for item in items]
    return node.value


def put(document: dict[str, Any], at: str, value: object) -> dict[str, Any]:
    """The document with another value there; ... takes it away."""
    changed = deepcopy(document)
    place: Any = changed
    *parents, last = [int(part) if part.isdigit() else part for part in at.split(".")]
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return changed


def examples() -> list[Any]:
    """Every document that a README shows."""
    found = []
    for path in READMES:
        for block in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL):
            documents = nodes.read(block.encode(), path.name, [])
            found += [plain(it) for it in documents if isinstance(it, nodes.Mapping) and "kind" in it.entries]
    return found


def test_it_is_a_schema() -> None:
    assert jsonschema_rs.meta.is_valid(schema())


def test_every_document_that_a_readme_shows_is_let_through() -> None:
    found = examples()
    assert {it["kind"] for it in found} == set(KINDS)
    for document in found:
        ANY.validate(document)
        assert said(document) == []


def test_the_plans_that_come_along_are_let_through() -> None:
    for path in Path(ROOT, "policies", "plans").glob("*.toml"):
        ANY.validate({"kind": "Plan", **tomllib.loads(path.read_text())})


@pytest.mark.parametrize("document", GOOD, ids=lambda it: it["name"])
def test_a_good_document_is_let_through_by_both(document: dict[str, Any]) -> None:
    ANY.validate(document)
    assert said(document) == []


@pytest.mark.parametrize(
    ("document", "at", "value"),
    [
        (FLEET, "scaler", ...),
        (FLEET, "replicas", {}),
        (FLEET, "idle_seconds", 0.001),
        (MODEL, "tenants", "*"),
        (MODEL, "tenants", []),
        (MODEL, "openai", {"backend": "infer", "batched": True}),
        (MODEL, "openai", ...),
        (MODEL, "canary.inputs.0.data", [True, "a"]),
        (MODEL, "description", "x" * 2000),
        (MODEL, "inputs.0.shape", []),
        (MODEL, "inputs", []),
        (FAR, "openai.model", ...),
        (PLAN, "limits.requests_per_second.rate", 0.0001),
        (PLAN, "limits.requests_per_second", ...),
        (PLAN, "prices", ...),
        (PLAN, "prices.per_million_tokens", "12"),
        (TENANT, "members", []),
        (TENANT, "members", ...),
        (TENANT, "state", ...),
        *((PLAN, f"limits.{name}", value) for name, value in BUDGETS.items()),
    ],
)
def test_what_has_the_right_types_is_let_through_by_both(
    document: dict[str, Any], at: str, value: object
) -> None:
    changed = put(document, at, value)
    ANY.validate(changed)
    assert of_types(said(changed)) == []


@pytest.mark.parametrize(
    ("document", "at", "value"),
    [
        (FLEET, "kind", ...),
        (FLEET, "kind", "Float"),
        (FLEET, "kind", "Privacy"),
        (FLEET, "name", ...),
        (FLEET, "name", 7),
        (FLEET, "name", "Local"),
        (FLEET, "name", None),
        (FLEET, "id", "x"),
        (FLEET, "v", 1),
        (FLEET, "colour", "red"),
        (FLEET, "scaler", "process"),
        (FLEET, "scaler.type", "ecs"),
        (FLEET, "replicas.min", -1),
        (FLEET, "replicas.max", 101),
        (FLEET, "replicas.max", "2"),
        (FLEET, "replicas.max", 1.5),
        (FLEET, "replicas.max", True),
        (FLEET, "idle_seconds", 0),
        (MODEL, "repository", ...),
        (MODEL, "tenants", ...),
        (MODEL, "tenants", "acme"),
        (MODEL, "tenants", ["acme", 7]),
        (MODEL, "fleet", "*"),
        (MODEL, "canary", None),
        (MODEL, "canary.inputs", []),
        (MODEL, "canary.inputs.0.shape", [-1]),
        (MODEL, "canary.inputs.0.data", ...),
        (MODEL, "canary.inputs.0.dtype", "FP32"),
        (MODEL, "openai", "generate"),
        (MODEL, "openai", {}),
        (MODEL, "openai.backend", "vllm"),
        (MODEL, "openai.parameters", ["x"]),
        (MODEL, "openai.address", "a:80"),
        (MODEL, "description", "x" * 2001),
        (MODEL, "description", ["x"]),
        (MODEL, "tags", "vision"),
        (MODEL, "tags", ["Vision"]),
        (MODEL, "tags", [f"t{n}" for n in range(33)]),
        (MODEL, "inputs", [TENSOR] * 65),
        (MODEL, "inputs.0.shape", [-2]),
        (MODEL, "inputs.0.datatype", "FLOAT"),
        (MODEL, "outputs.0.data", [1]),
        (FAR, "repository", "models"),
        (FAR, "fleet", "local"),
        (FAR, "openai.address", ...),
        (PLAN, "weight", 0),
        (PLAN, "limits", ...),
        (PLAN, "limits.body_bytes", ...),
        (PLAN, "limits.requests_per_minute", 5),
        (PLAN, "limits.requests_per_second", 50),
        (PLAN, "limits.requests_per_second.burst", ...),
        (PLAN, "limits.requests_per_day", 0),
        (PLAN, "limits.money_per_month", 500),
        (PLAN, "limits.money_per_month", "1e3"),
        (PLAN, "limits.soft", {}),
        (PLAN, "limits.per_key", {"body_bytes": 5}),
        (PLAN, "limits.per_model", [5]),
        (PLAN, "limits.per_model", {"digits": {"concurrent_requests": 0}}),
        (PLAN, "prices.currency", ...),
        (PLAN, "prices.currency", "usd"),
        (PLAN, "prices.per_1000_requests", 0.1),
        (TENANT, "plan", ...),
        (TENANT, "members", {"email": "a@b.example"}),
        (TENANT, "members.0.role", "owner"),
        (TENANT, "members.0.email", "admin"),
        (TENANT, "members.0.name", "x"),
        (TENANT, "state", "closed"),
        (TENANT, "issuers", [{}]),
        (TENANT, "issuers", [{"issuer": "https://a", "audience": "b", "operators": True}]),
        (TENANT, "issuers", [{"issuer": "https://a", "audience": "b", "roles": {"a": "operator"}}]),
        (TENANT, "privacy", "Default"),
    ],
)
def test_what_the_reader_refuses_the_schema_refuses_too(
    document: dict[str, Any], at: str, value: object
) -> None:
    changed = put(document, at, value)
    assert said(changed)
    assert not ANY.is_valid(changed)


def paths(tree: object, at: str = "") -> list[str]:
    """Of everything in it."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [it for name, inner in items for it in (f"{at}{name}", *paths(inner, f"{at}{name}."))]


WHOLE = [*GOOD, put(PLAN, "limits", PLAN["limits"] | BUDGETS)]
OTHERS = st.sampled_from([..., [], {}, 0, -7, 5, 0.5, True, "x", "5", "*", [[]], {"x": 1}, [{"x": 1}]])


@given(st.sampled_from(WHOLE), st.data())
def test_whatever_stands_in_place_of_a_value_both_judge_its_type_alike(
    document: dict[str, Any], data: st.DataObject
) -> None:
    at = data.draw(st.sampled_from([it for it in paths(document) if it != "kind"]))
    changed = put(document, at, data.draw(OTHERS))
    reasons = said(changed)
    if ANY.is_valid(changed):
        assert of_types(reasons) == []
    else:
        assert reasons != []


def test_every_field_that_has_a_meaning_is_told_it() -> None:
    limits = schema(["Plan"])["allOf"][0]["then"]["properties"]["limits"]["properties"]
    part = limits["per_model"]["additionalProperties"]["properties"]
    assert limits["body_bytes"]["description"] == "a request's body has at most so many"
    assert limits["requests_per_day"]["description"].endswith("from midnight to midnight, UTC")
    assert part["requests_per_second"]["properties"]["burst"]["description"] == "so many at once"


def test_one_kind_alone_is_for_that_kind_alone() -> None:
    for kind in KINDS:
        alone = jsonschema_rs.Draft202012Validator(schema([kind]))
        for document in GOOD:
            assert alone.is_valid(document) == (document["kind"] == kind)


def test_whoever_has_the_kind_right_hears_of_that_kind_alone() -> None:
    (fault,) = ANY.iter_errors(put(MODEL, "openai.max_tokens", 0))
    assert list(fault.instance_path) == ["openai", "max_tokens"]
