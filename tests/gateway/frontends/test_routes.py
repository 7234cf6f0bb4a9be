"""The table of routes is whole: it has what the front ends route, the OpenAPI documents describe and gRPC serves, and nothing else."""

import ast
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from starlette.routing import Route
from tritonclient.grpc import service_pb2 as official

from gateway.frontends import routes
from gateway.frontends.grpc_health import Health
from gateway.frontends.grpc_memory import MessageMemory
from gateway.frontends.http import Readiness, other_paths
from gateway.frontends.oip_grpc import OipGrpc
from gateway.frontends.oip_rest import METHOD, MODEL_PATH, OipRest
from gateway.frontends.operator import operator_paths
from gateway.pipeline import Pipeline
from tenants.api.application import Control, Listener
from tenants.api.openapi import PATH
from tenants.api.routes import OPERATIONS
from tests.conftest import ROOT
from tests.gateway.frontends.worlds import nothing, ready

FRONTENDS = ROOT / "gateway" / "frontends"
SOURCES = sorted(
    [*FRONTENDS.glob("*.py"), *(ROOT / "tenants" / "api").glob("*.py"), ROOT / "gateway" / "app.py"]
)
READY = Readiness(ready=True, state="ok")
NO_PIPELINE = cast("Pipeline", None)  # nothing is asked
PATHS = [PATH, *(it.full_path for it in OPERATIONS), *(it.path for it in routes.RPCS)]
PATHS += [it.path for it in (*routes.PUBLIC, *routes.OPERATOR)]


def described(name: str) -> Iterator[tuple[str, str, bool]]:
    """Each path of a document with its method, and whether it needs no credential."""
    for path, them in yaml.safe_load((FRONTENDS / f"{name}.openapi.yaml").read_text())["paths"].items():
        for method, it in them.items():
            if method != "parameters":
                yield method.upper(), path, it.get("security") == []


def test_the_documents_describe_what_the_table_has() -> None:
    inference = {(it.method, it.path, it.is_open) for it in (*routes.MODELS, *routes.OTHERS)}
    # Probes of whoever runs it, which are no part of the protocol.
    probes = {("GET", "/healthz", True), ("GET", "/readyz", True)}
    assert set(described("inference")) == inference - probes
    assert set(described("openai")) == {(it.method, it.path, it.is_open) for it in routes.OPENAI}


def test_no_path_is_there_twice_and_each_is_matched_by_what_answers_it() -> None:
    for table in (routes.PUBLIC, routes.OPERATOR):
        assert len({(it.method, it.path) for it in table}) == len(table)
    for it in routes.PUBLIC:
        found = MODEL_PATH.fullmatch(it.path.format(model="m", version="1").encode())
        assert (found is not None) == (it in routes.MODELS)
        assert found is None or METHOD[found["asked"]] == it.method
    assert len(routes.MODELS) == 2 * len(METHOD)


def routed(application: Any) -> dict[str, set[str]]:
    """The methods of each path of a Starlette application, but of the one for all that is not there."""
    found = [it for it in application.routes if it.path != "/{path:path}"]
    assert all(isinstance(it, Route) for it in found), "a mount hides what is below it"
    assert len({it.path for it in found}) == len(found)
    return {it.path: set(it.methods or ()) for it in found}


def test_starlette_routes_what_the_tables_have() -> None:
    oip = OipRest(NO_PIPELINE, cast("Any", None), 1)
    read = {"GET", "HEAD"}
    assert routed(other_paths(oip, lambda: READY)) == {it.path: read for it in routes.OTHERS}
    assert routed(operator_paths(nothing, ready)) == {it.path: read for it in routes.OPERATOR}


@pytest.mark.parametrize("listener", ["public", "operator"])
def test_the_control_api_routes_its_operations_at_both_listeners(listener: Listener) -> None:
    wanted = {PATH: {"GET", "HEAD"}}
    for it in OPERATIONS:
        wanted.setdefault(it.full_path, set()).update({it.method, *(["HEAD"] if it.method == "GET" else [])})
    control = Control(*cast("Any", (None,) * 5))  # nothing is asked
    assert routed(control.paths(listener)) == wanted


def test_grpc_serves_what_the_table_has_and_nothing_else_of_the_official_service() -> None:
    memory = MessageMemory(1, 1, lambda: 0, lambda: 0)
    oip = OipGrpc(NO_PIPELINE, memory, lambda: "", lambda: READY, 1, 1)
    assert oip.methods().keys() == {it.path for it in routes.INFERENCE}
    health = Health(lambda: READY, asyncio.Event(), lambda: "", memory)
    assert health.methods().keys() == {it.path for it in routes.CHECKS}
    (service,) = official.DESCRIPTOR.services_by_name.values()
    names = {it.name for it in service.methods}
    assert {it.path for it in routes.INFERENCE} <= {f"/{service.full_name}/{name}" for name in names}


def paths_in(source: str) -> set[str]:
    """What begins like a path in the texts of a program, its docstrings left out."""
    tree = ast.parse(source)
    said = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in said:
            text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            found |= set(re.findall(r"(?:^|(?<=[\s(|?:}]))/[A-Za-z][\w./]*", text))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda it: it.name)
def test_no_front_end_knows_a_path_that_no_table_has(path: Path) -> None:
    """Whoever adds a door beside the tables names its paths somewhere."""
    assert {it for it in paths_in(path.read_text()) if not any(it in known for known in PATHS)} == set()


def test_a_path_that_no_table_has_would_be_seen() -> None:
    assert paths_in('if scope["raw_path"].startswith(b"/portal/"): pass') == {"/portal/"}
    assert paths_in('Route(f"/debug/{name}/heap", dump)') == {"/debug/", "/heap"}
    assert paths_in('X = rf"/v9/(?P<a>b)(?:/more)?"') == {"/v9/", "/more"}
    assert paths_in('"""About /nothing."""\nTYPE = "application/json"') == set()
