"""Policies without one of them, and without one condition of one, for each: what a set of cases has to notice."""

import json
from collections.abc import Iterator, Set
from copy import deepcopy
from pathlib import Path
from typing import Any

import cedarpy
import pytest

import policies

FOLDER = Path(policies.__file__).parent


def parsed(*names: str) -> Any:
    """The policies of these files together, as JSON."""
    text = "\n".join((FOLDER / f"{name}.cedar").read_text("utf-8") for name in names)
    return json.loads(cedarpy.policies_to_json_str(text))


def effects(document: Any) -> dict[str, str]:
    """By @id: permit or forbid."""
    return {policy["annotations"]["id"]: policy["effect"] for policy in document["staticPolicies"].values()}


def weakened(document: Any, among: Set[str]) -> Iterator[Any]:
    """The policy set without one of these policies, and without one condition of one, for each of them."""
    for position, policy in document["staticPolicies"].items():
        name = policy["annotations"]["id"]
        if name not in among:
            continue
        less = deepcopy(document)
        del less["staticPolicies"][position]
        yield pytest.param(less, id=f"{name} dropped")
        for index in range(len(policy["conditions"])):
            less = deepcopy(document)
            del less["staticPolicies"][position]["conditions"][index]
            yield pytest.param(less, id=f"{name} without condition {index}")


def expect_both_ways(effect: str, decided: Set[str], aside: Set[str]) -> None:
    """A policy decides cases in its own way alone, and stands aside in one that ends in the other."""
    ours, other = ("ALLOW", "DENY") if effect == "permit" else ("DENY", "ALLOW")
    assert decided == {ours}
    assert other in aside
