"""Documents say what they mean, or every fault is named with file, line and path, and nothing of that document is used."""

import json
import os.path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.catalogue import Value, faults
from tenants.documents import MOST_DOCUMENTS, Documents, Source, parse
from tenants.fleet import Fleet, Process, Replicas
from tenants.model import MOST_ROW_BYTES, Canary, CanaryInput, Model, Scaling
from tenants.nodes import MOST_BYTES
from tenants.plans import Limits, Plan, Rate

EVERYTHING = """\
kind: Fleet
name: local
scaler: {type: process}
replicas: {min: 0, max: 2}
memory_bytes: 2147483648
idle_seconds: 60
---
kind: Model
name: digits
fleet: local
repository: infra/models
memory_bytes: 67108864
scaling: {max_replicas: 2, target_concurrency: 8, idle_seconds: 60, start_deadline_seconds: 30}
tenants: [acme]
canary:
  inputs:
    - {name: image, datatype: FP32, shape: [1, 2], data: [0, 0.5]}
---
kind: Plan
name: team
weight: 2
limits:
  requests_per_second: {rate: 50, burst: 100}
  concurrent_requests: 20
  body_bytes: 16777216
"""


def read(text: str) -> Documents:
    return parse([Source("a.yaml", "/srv/documents", text.encode())])


def said(text: str) -> list[str]:
    """The faults, in order of their lines."""
    return [str(fault) for fault in sorted(read(text).faults)]


def values(declared: Documents) -> list[Value]:
    assert declared.faults == ()
    return [document.value for document in declared.documents]


def test_documents_are_read_as_the_design_writes_them() -> None:
    assert values(read(EVERYTHING)) == [
        Fleet("local", Process(), Replicas(0, 2), 2147483648, 60.0),
        Model(
            "",
            "digits",
            "/srv/documents/infra/models",
            ("acme",),
            "local",
            67108864,
            Scaling(2, 8.0, 60.0, 30.0),
            Canary((CanaryInput("image", "FP32", (1, 2), (0, 0.5)),)),
        ),
        Plan("team", 2, Limits(16777216, Rate(50.0, 100), 20)),
    ]


def test_what_a_document_leaves_out_is_what_its_row_means_without_it() -> None:
    text = 'kind: Fleet\nname: a\n---\nkind: Model\nname: b\nrepository: /m\ntenants: "*"'
    assert values(read(text)) == [Fleet("a"), Model("", "b", "/m", "*")]


@pytest.mark.parametrize(
    ("written", "folder"),
    [
        ("models", "/srv/documents/models"),
        ("./models", "/srv/documents/models"),
        ("../models", "/srv/models"),
        (".", "/srv/documents"),
        ("/elsewhere", "/elsewhere"),
    ],
)
def test_a_repository_is_relative_to_its_document(written: str, folder: str) -> None:
    (model,) = values(read(f'kind: Model\nname: b\nrepository: {written}\ntenants: "*"'))
    assert isinstance(model, Model)
    assert model.repository == folder


# One fault each, by where it is put into EVERYTHING.
FAULTS = [
    ("kind: Fleet", "kind: Float", "1: kind: must be one of Fleet, Model, Plan"),
    ("kind: Fleet\n", "", "1: kind: is missing"),
    ("kind: Fleet", "kind: [Fleet]", "1: kind: must be one of"),
    ("name: local\n", "", "1: name: is missing"),
    ("name: local", "name: Local", "2: name: must be 1 to 63"),
    ("name: local", "name: 7", "2: name: Expected str, got int"),
    ("name: local", "name: on", "2: name: 'on' is read differently"),
    ("name: local", "name:", "2: name: is empty"),
    ("name: local", "name: local\nv: 1", "3: v: unknown key"),
    ("name: local", "name: local\nid: x", "3: id: unknown key"),
    ("type: process", "type: ecs", "3: scaler.type: must be process; ecs and kubernetes are not built yet"),
    ("{type: process}", "process", "3: scaler: Expected a mapping, got 'process'"),
    ("type: process", "type: process, image: x", "3: scaler.image: unknown key; known are type"),
    ("min: 0", "min: -1", "4: replicas.min: Expected int >= 0"),
    ("min: 0", "min: 3", "4: replicas.min: is 3, more than replicas.max (2)"),
    ("max: 2}", "max: 0}", "4: replicas.max: Expected int >= 1"),
    ("max: 2}", "max: 2.0}", "4: replicas.max: Expected int, got float"),
    ("max: 2}", "max: '2'}", "4: replicas.max: Expected int, got str"),
    ("max: 2}", "max: true}", "4: replicas.max: Expected int, got bool"),
    ("2147483648", "0x10", "5: memory_bytes: '0x10' is read differently"),
    ("2147483648", "2 GiB", "5: memory_bytes: Expected int, got str; in bytes, as 4294967296"),
    ("idle_seconds: 60\n", "idle_seconds: .inf\n", "6: idle_seconds: '.inf' is read differently"),
    ("idle_seconds: 60\n", "idle_seconds: 0\n", "6: idle_seconds: Expected float > 0.0"),
    (
        "idle_seconds: 60\n",
        "idle_seconds: 60\nidle_seconds: 61\n",
        "7: the key 'idle_seconds' was there before",
    ),
    ("name: digits", "name: ../digits", "9: name: must be 1 to 128"),
    ("fleet: local", "fleet: [local]", "10: fleet: Expected one value, got a list"),
    ("infra/models", "s3://bucket/models", "11: repository: must be a folder; s3:// and the like"),
    ("infra/models", '"a\\nb"', "11: repository: must be the path of a folder"),
    ("infra/models", '""', "11: repository: must be the path of a folder"),
    ("67108864", "-1", "12: memory_bytes: Expected int >= 1"),
    ("max_replicas: 2", "max_replicas: 0", "13: scaling.max_replicas: Expected int >= 1"),
    ("max_replicas: 2", "max_replica: 2", "13: scaling.max_replica: unknown key; known are max_replicas,"),
    ("concurrency: 8", "concurrency: 1e3", "13: scaling.target_concurrency: '1e3' is read differently"),
    ("concurrency: 8", "concurrency: &x 8", "13: anchors (&x) are not taken: write it out"),
    ("[acme]", "acme", "14: tenants: Invalid enum value 'acme'"),
    ("[acme]", "[acme, Beta]", "14: tenants[1]: must be 1 to 63"),
    ("[acme]", "[acme, 7]", "14: tenants[1]: Expected str, got int"),
    ("[acme]", "{acme: true}", "14: tenants: Expected one value, got a mapping"),
    ("  inputs:", "  input: 1\n  inputs:", "16: canary.input: unknown key; known are inputs"),
    ("FP32", "FP16", "17: canary.inputs[0].datatype: must be one of BOOL, BYTES"),
    ("FP32", "INT32", "17: canary.inputs[0].data[1]: is no INT32"),
    ("[1, 2]", "[1, 3]", "17: canary.inputs[0].data: has 2 elements, and the shape 3"),
    ("[1, 2]", "[1, -2]", "17: canary.inputs[0].shape[1]: Expected int >= 0"),
    ("weight: 2", "weight: 0", "21: weight: Expected int >= 1"),
    (
        "limits:",
        "limits:\n  soft: {a: 1}",
        "23: limits.soft: is not built yet, and a limit that nobody keeps",
    ),
    ("limits:", "limits:\n  requests_per_day: 5", "23: limits.requests_per_day: is not built yet"),
    ("weight: 2", "weight: 2\nprices: {currency: USD}", "22: prices: is not built yet: nothing is billed"),
    ("rate: 50", "rate: 0", "23: limits.requests_per_second.rate: Expected float >= 0.0001"),
    ("  body_bytes: 16777216", "", "23: limits.body_bytes: is missing"),
]


@pytest.mark.parametrize(("was", "becomes", "fault"), FAULTS, ids=[fault for _, _, fault in FAULTS])
def test_a_fault_is_named_with_file_line_and_path_and_it_alone(was: str, becomes: str, fault: str) -> None:
    assert EVERYTHING.count(was) >= 1
    (found,) = said(EVERYTHING.replace(was, becomes, 1))
    assert found.startswith(f"a.yaml:{fault}")


def test_every_fault_of_every_file_is_named_and_not_only_the_first() -> None:
    first = Source("a.yaml", "/", b"kind: Fleet\nname: local\nreplicas: {min: -1, max: 0}\ncolour: red")
    second = Source("b.yaml", "/", b"kind: Model\nname: x\nrepository: /m\ntenants: [Q]\n---\nkind: Tenant")
    assert [(it.file, it.line, it.path) for it in parse([first, second]).faults] == [
        ("a.yaml", 3, "replicas.min"),
        ("a.yaml", 3, "replicas.max"),
        ("a.yaml", 4, "colour"),
        ("b.yaml", 4, "tenants[0]"),
        ("b.yaml", 6, "kind"),
    ]


@pytest.mark.parametrize("kind", ["Tenant", "Privacy", "Issuer"])
def test_a_kind_that_is_not_built_yet_is_said_to_be(kind: str) -> None:
    (found,) = said(f"kind: {kind}\nname: x\nanything: [1]")
    assert found.startswith("a.yaml:1: kind: documents of this kind are not built yet")


@pytest.mark.parametrize("text", ["7", "[]", "text", "- kind: Fleet"])
def test_a_document_that_is_no_mapping_is_a_fault(text: str) -> None:
    (found,) = said(text)
    assert found.startswith("a.yaml:1: Expected a mapping with a kind, got ")


def test_a_name_that_is_declared_twice_is_a_fault_that_leads_to_the_first() -> None:
    one = b"kind: Fleet\nname: local"
    declared = parse([Source("a.yaml", "/", one), Source("b.yaml", "/", b"# again\n" + one)])
    (fault,) = declared.faults
    assert str(fault) == "b.yaml:3: name: a Fleet of this name is declared in a.yaml:1 already"
    assert declared.documents == ()
    assert values(
        parse(
            [
                Source(
                    "a.yaml", "/", one + b"\n---\nkind: Plan\nname: local\nweight: 1\nlimits: {body_bytes: 1}"
                )
            ]
        )
    )


def test_there_is_a_most_to_how_many_and_how_large() -> None:
    many = "---\n".join(f"kind: Fleet\nname: f{n}\n" for n in range(MOST_DOCUMENTS + 1))
    (found,) = said(many)
    assert found.endswith(f"there are more than {MOST_DOCUMENTS} documents")
    assert len(values(read(many.rpartition("---\n")[0]))) == MOST_DOCUMENTS
    (found,) = said("#" * (MOST_BYTES + 1))
    assert str(MOST_BYTES) in found


def test_a_model_that_no_row_can_hold_is_a_fault() -> None:
    data = ", ".join(["0.123456789"] * 20_000)
    canary = f"canary: {{inputs: [{{name: a, datatype: FP64, shape: [20000], data: [{data}]}}]}}"
    (found,) = said(f'kind: Model\nname: b\nrepository: /m\ntenants: "*"\n{canary}')
    assert found.startswith("a.yaml:5: canary: the model takes 2")
    assert str(MOST_ROW_BYTES) in found


@pytest.mark.parametrize(
    ("datatype", "data", "good"),
    [
        ("BOOL", "true", True),
        ("BOOL", "1", False),
        ("BYTES", "'a'", True),
        ("BYTES", "1", False),
        ("FP32", "1", True),
        ("FP32", "true", False),
        ("FP32", "'1'", False),
        ("UINT8", "255", True),
        ("UINT8", "256", False),
        ("UINT8", "-1", False),
        ("INT8", "-128", True),
        ("INT8", "128", False),
        ("UINT64", "18446744073709551615", True),
        ("INT64", "9223372036854775808", False),
        ("INT32", "1.0", False),
        ("INT32", "true", False),
    ],
)
def test_what_a_canary_sends_is_of_its_datatype(datatype: str, data: str, good: bool) -> None:  # noqa: FBT001
    canary = f"canary: {{inputs: [{{name: a, datatype: {datatype}, shape: [1], data: [{data}]}}]}}"
    found = said(f'kind: Model\nname: b\nrepository: /m\ntenants: "*"\n{canary}')
    assert found == ([] if good else [f"a.yaml:5: canary.inputs[0].data[0]: is no {datatype}"])


# What is written is what is read.

_NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
_SECONDS = st.floats(0, 86_400, exclude_min=True)
_BYTES = st.integers(1, 2**50)
_PRINTABLE = st.characters(codec="utf-8", exclude_categories=["C"]) | st.sampled_from("\n\t")
_TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)
_TENSORS: st.SearchStrategy[CanaryInput] = st.one_of(
    *[
        st.builds(
            lambda name, datatype, data: CanaryInput(name, datatype, (len(data),), tuple(data)),
            _TEXTS,
            st.just(datatype),
            st.lists(elements, max_size=4),
        )
        for datatype, elements in {
            "BOOL": st.booleans(),
            "BYTES": st.text(_PRINTABLE, max_size=10),
            "FP64": st.floats(allow_nan=False, allow_infinity=False),
            "INT64": st.integers(-(2**63), 2**63 - 1),
            "UINT64": st.integers(0, 2**64 - 1),
        }.items()
    ]
)
_FLEETS = st.integers(1, 100).flatmap(
    lambda most: st.builds(
        Fleet,
        _NAMES,
        st.just(Process()),
        st.builds(Replicas, st.integers(0, most), st.just(most)),
        _BYTES,
        _SECONDS,
    )
)
_MODELS = st.builds(
    Model,
    st.just(""),
    st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", fullmatch=True),
    _TEXTS.filter(lambda text: "/" not in text).map(lambda text: os.path.normpath(f"/srv/{text}")),
    st.just("*") | st.lists(_NAMES, max_size=3).map(tuple),
    _NAMES,
    _BYTES,
    st.builds(Scaling, st.integers(1, 100), st.floats(0, 100_000, exclude_min=True), _SECONDS, _SECONDS),
    st.none() | st.builds(Canary, st.lists(_TENSORS, min_size=1, max_size=3).map(tuple)),
)
_PLANS = st.builds(
    Plan,
    _NAMES,
    st.integers(1, 1000),
    st.builds(
        Limits,
        _BYTES,
        st.none() | st.builds(Rate, st.floats(0.0001, 1_000_000), st.integers(1, 1_000_000)),
        st.none() | st.integers(1, 1_000_000),
    ),
)


def render(value: Value) -> str:
    """A document of the value, in YAML's flow style."""
    tree = {"kind": type(value).__name__, **msgspec.to_builtins(value)}
    return _flow({name: it for name, it in tree.items() if name not in ("id", "v")})


def _flow(tree: Any) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{name}: {_flow(it)}" for name, it in tree.items() if it is not None) + "}"
    if isinstance(tree, list | tuple):
        return "[" + ", ".join(map(_flow, tree)) + "]"
    if isinstance(tree, float):
        return repr(tree) if "e" not in repr(tree) else f"{tree:.17e}"
    return json.dumps(tree, ensure_ascii=False)


@given(st.lists(_FLEETS | _MODELS | _PLANS, max_size=4, unique_by=lambda value: (type(value), value.name)))
def test_what_is_written_is_what_is_read(wanted: list[Value]) -> None:
    assert not any(fault for value in wanted for fault in faults(value))
    assert values(read("\n---\n".join(map(render, wanted)))) == wanted


@given(_MODELS, st.data())
def test_a_document_without_one_of_its_keys_or_with_another_is_read_or_a_fault_at_that_path(
    model: Model, data: st.DataObject
) -> None:
    tree = msgspec.to_builtins(model)
    name = data.draw(st.sampled_from(["name", "repository", "tenants", "fleet", "memory_bytes", "scaling"]))
    tree[name] = data.draw(st.sampled_from([[], {}, 0.5, True, [[]], {"x": 1}]))
    declared = read(
        _flow({"kind": "Model", **{key: it for key, it in tree.items() if key not in ("id", "v")}})
    )
    assert all(fault.path.startswith(name) for fault in declared.faults)
    assert bool(declared.faults) != bool(declared.documents)
