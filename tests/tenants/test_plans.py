"""A plan says what it means, or is refused with the path to the fault."""

import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tenants.errors import Invalid
from tenants.plans import Limits, Plan, Rate, parse

DEMO = Path(__file__).parents[2] / "policies" / "plans" / "demo.toml"
DOCUMENT: dict[str, Any] = {
    "name": "team",
    "weight": 2,
    "limits": {
        "requests_per_second": {"rate": 50, "burst": 100},
        "concurrent_requests": 20,
        "body_bytes": 16777216,
    },
}


def test_a_document_is_read_as_it_says() -> None:
    assert parse(DOCUMENT) == Plan("team", 2, Limits(16777216, Rate(50.0, 100), 20))


def test_a_limit_that_is_not_named_is_none() -> None:
    assert parse({"name": "free", "weight": 1, "limits": {"body_bytes": 1}}) == Plan(
        "free", 1, Limits(1, None, None)
    )


def test_the_demo_plan_is_what_the_design_promises() -> None:
    assert parse(tomllib.loads(DEMO.read_text())) == Plan("demo", 1, Limits(16777216, Rate(50.0, 100), 20))


@pytest.mark.parametrize(
    ("at", "value", "path"),
    [
        ("name", "Team", "name"),
        ("name", 7, "name"),
        ("weight", 0, "weight"),
        ("weight", 1.5, "weight"),
        ("weight", True, "weight"),
        ("colour", "red", ""),
        ("limits", [], "limits"),
        ("limits.requests_per_minute", {"rate": 1, "burst": 1}, "limits"),
        ("limits.body_bytes", 0, "limits.body_bytes"),
        ("limits.body_bytes", "16 MiB", "limits.body_bytes"),
        ("limits.body_bytes", None, "limits.body_bytes"),
        ("limits.concurrent_requests", 0, "limits.concurrent_requests"),
        ("limits.requests_per_second", 50, "limits.requests_per_second"),
        ("limits.requests_per_second.rate", 0, "limits.requests_per_second.rate"),
        ("limits.requests_per_second.rate", float("inf"), "limits.requests_per_second.rate"),
        ("limits.requests_per_second.rate", float("nan"), "limits.requests_per_second.rate"),
        ("limits.requests_per_second.burst", 0, "limits.requests_per_second.burst"),
        ("limits.requests_per_second.burst", 1.0, "limits.requests_per_second.burst"),
        ("limits.requests_per_second.per", "second", "limits.requests_per_second"),
    ],
)
def test_a_fault_is_refused_with_the_path_to_it(at: str, value: object, path: str) -> None:
    document = deepcopy(DOCUMENT)
    *parents, last = at.split(".")
    place = document
    for parent in parents:
        place = place[parent]
    place[last] = value
    with pytest.raises(Invalid) as refusal:
        parse(document)
    assert refusal.value.path == path
    assert refusal.value.sentence.startswith(path)


@pytest.mark.parametrize("missing", ["name", "weight", "limits"])
def test_what_is_missing_is_named(missing: str) -> None:
    document = {key: value for key, value in DOCUMENT.items() if key != missing}
    with pytest.raises(Invalid, match=f"`{missing}`"):
        parse(document)
