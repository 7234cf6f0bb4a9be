"""The OpenAPI document is the table's: every operation with what it takes and gives, and every answer as it says."""

import re
from typing import Any

import pytest

from tenants.api.openapi import document
from tenants.api.problems import TABLE
from tenants.api.routes import OPERATIONS
from tests.tenants.api.worlds import World

DOCUMENT = document()


def refs(tree: Any) -> set[str]:
    if isinstance(tree, dict):
        own = {tree["$ref"]} if isinstance(tree.get("$ref"), str) else set()
        return own.union(*(refs(it) for it in tree.values())) if tree else own
    return set().union(*(refs(it) for it in tree)) if isinstance(tree, list) and tree else set()


def test_every_operation_is_described_once() -> None:
    described = [
        (method.upper(), path, it["operationId"])
        for path, them in DOCUMENT["paths"].items()
        for method, it in them.items()
    ]
    assert sorted(described) == sorted((it.method, it.full_path, it.id) for it in OPERATIONS)
    assert len({it.id for it in OPERATIONS}) == len(OPERATIONS)


def test_every_reference_of_the_document_leads_somewhere_and_nothing_is_left_over() -> None:
    named = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert refs(DOCUMENT) == named


def test_nothing_that_clients_send_takes_a_field_that_it_does_not_name() -> None:
    sent = [
        it["requestBody"]
        for them in DOCUMENT["paths"].values()
        for it in them.values()
        if "requestBody" in it
    ]
    waiting, seen = refs(sent), set()
    while waiting:
        ref = waiting.pop()
        seen.add(ref)
        schema = DOCUMENT["components"]["schemas"][ref.rpartition("/")[2]]
        assert schema.get("additionalProperties") is False, ref
        waiting |= refs(schema) - seen


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda it: it.id)
def test_what_an_operation_takes_follows_from_its_method(operation: Any) -> None:
    it = DOCUMENT["paths"][operation.full_path][operation.method.lower()]
    headers = {one["name"] for one in it["parameters"] if one["in"] == "header"}
    assert ("Idempotency-Key" in headers) == (operation.method == "POST")
    assert ("If-Match" in headers) == (operation.method in ("PUT", "PATCH", "DELETE"))
    assert {one["name"] for one in it["parameters"] if one["in"] == "path"} == set(
        re.findall(r"\{(\w+)\}", operation.path)
    )
    assert "reason" in {one["name"] for one in it["parameters"]}


def test_every_problem_may_happen_somewhere() -> None:
    assert {code for it in OPERATIONS for code in it.problems} == set(TABLE)


async def test_the_document_needs_no_credential(world: World) -> None:
    answer = await world.ask("GET", "/control/openapi.json", by="nobody")
    assert answer.status == 200
    assert answer.json["openapi"] == "3.1.0"
    assert answer.json["paths"].keys() == DOCUMENT["paths"].keys()
