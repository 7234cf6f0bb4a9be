"""What is written as a document is what is read of it, whatever it is; and a damaged one is a fault where it is damaged."""

import json
import os.path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tenants.catalogue import Declared, faults, name_of
from tenants.certificates import TenantCertificate
from tenants.customer import Member, TenantDocument
from tenants.fleet import Fleet, Process, Replicas
from tenants.issuers import Issuer, TenantIssuer
from tenants.model import Canary, CanaryInput, Model, Scaling, TensorMetadata
from tenants.names import TENANT
from tenants.plans import Limits, Plan, Prices, Rate
from tests.tenants.test_documents import read, values

_NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
_SECONDS = st.floats(0, 86_400, exclude_min=True)
_BYTES = st.integers(1, 2**50)
_PRINTABLE = st.characters(codec="utf-8", exclude_categories=["C"]) | st.sampled_from("\n\t")
_SHOWN = st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]) | st.sampled_from("\n\t")
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
_MODELS |= st.builds(
    lambda name, said, tags, tensors: Model(
        "", name, "/srv/m", "*", description=said, tags=tags, inputs=tensors, outputs=tensors
    ),
    _NAMES,
    st.text(_SHOWN, max_size=2000),
    st.lists(_NAMES, unique=True, max_size=3).map(tuple),
    st.lists(
        st.builds(
            TensorMetadata,
            _TEXTS,
            st.sampled_from(["BF16", "BYTES"]),
            st.lists(st.integers(-1, 9), max_size=3).map(tuple),
            st.text(_SHOWN, max_size=20),
        ),
        unique_by=lambda tensor: tensor.name,
        max_size=3,
    ).map(tuple),
)
_AMOUNTS = st.from_regex(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,6})?", fullmatch=True)
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
    st.none() | st.builds(Prices, st.just("EUR"), _AMOUNTS, _AMOUNTS, _AMOUNTS),
)
_URLS = st.from_regex(r"https://[a-z]{1,9}\.example(/[a-z]{0,5})?", fullmatch=True)
_CLAIMS = st.from_regex(r"[a-z_]{1,9}(\.[a-z]{1,9})?", fullmatch=True)


def _mapped(roles: list[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(_NAMES, st.sampled_from(roles), min_size=1, max_size=3)


_OWN = st.builds(
    TenantIssuer, _URLS, _TEXTS, st.none() | _URLS, _CLAIMS, st.booleans(), _mapped(["admin", "billing"])
)
_OWN |= st.builds(TenantIssuer, _URLS, _TEXTS, roles_claim=st.none() | _CLAIMS)
_ISSUERS = st.builds(
    Issuer, _URLS, _TEXTS, st.none() | _URLS, _CLAIMS, st.booleans(), st.none() | _mapped(["viewer"]), _CLAIMS
)
_ISSUERS |= st.builds(
    Issuer, _URLS, _TEXTS, roles_claim=_CLAIMS, roles=_mapped(["operator"]), operators=st.sampled_from([True])
)
_CERTIFICATES = st.builds(
    TenantCertificate,
    _NAMES,
    dns=st.from_regex(r"[a-z]{1,9}", fullmatch=True),
    models=st.none() | st.just(("digits", "010")),
) | st.builds(TenantCertificate, _NAMES, uri=_URLS)
_TENANTS = st.builds(
    TenantDocument,
    _NAMES.filter(lambda name: name not in TENANT.reserved),
    _NAMES,
    st.none()
    | st.lists(
        st.builds(Member, st.emails(), st.sampled_from(["admin", "viewer"])),
        unique_by=lambda member: member.key,
        max_size=3,
    ).map(tuple),
    st.sampled_from(["active", "suspended"]),
    st.none() | st.lists(_OWN, unique_by=lambda issuer: issuer.pair, max_size=3).map(tuple),
    certificates=st.none()
    | st.lists(
        _CERTIFICATES, unique_by=(lambda one: one.name, lambda one: one.identity), min_size=1, max_size=3
    ).map(tuple),
)

DECLARED = _FLEETS | _ISSUERS | _MODELS | _PLANS | _TENANTS


def render(value: Declared) -> str:
    """A document of the value, in YAML's flow style."""
    tree = {"kind": name_of(value)[0], **msgspec.to_builtins(value)}
    return _flow({name: it for name, it in tree.items() if name not in ("id", "v")})


def _flow(tree: Any) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{name}: {_flow(it)}" for name, it in tree.items() if it is not None) + "}"
    if isinstance(tree, list | tuple):
        return "[" + ", ".join(map(_flow, tree)) + "]"
    if isinstance(tree, float):
        return repr(tree) if "e" not in repr(tree) else f"{tree:.17e}"
    return json.dumps(tree, ensure_ascii=False)


@settings(deadline=None)
@given(st.lists(DECLARED, max_size=4, unique_by=name_of))
def test_what_is_written_is_what_is_read(wanted: list[Declared]) -> None:
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
