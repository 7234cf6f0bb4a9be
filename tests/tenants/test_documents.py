"""Documents say what they mean, or every fault is named with file, line and path, and nothing of that document is used."""

import pytest

from tenants.catalogue import Declared
from tenants.customer import Member, TenantDocument
from tenants.documents import MOST_DOCUMENTS, Documents, Source, parse
from tenants.fleet import Fleet, Process, Replicas
from tenants.issuers import Issuer, TenantIssuer
from tenants.model import MOST_ROW_BYTES, Canary, CanaryInput, Model, Scaling
from tenants.nodes import MOST_BYTES
from tenants.plans import Limits, Plan, Prices, Rate

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
prices: {currency: USD, per_1000_requests: "0.10", per_million_tokens: "0.40", per_compute_second: "0.0012"}
---
kind: Tenant
name: acme
plan: team
members: [{email: admin@acme.example, role: admin}]
issuers:
  - {issuer: "https://login.acme.example", audience: gateway, jwks_url: "https://login.acme.example/jwks", roles_claim: roles}
---
kind: Issuer
issuer: "https://login.example"
audience: gateway
jwks_url: "https://login.example/jwks"
tenant_claim: tenant
roles_claim: roles
roles: {gw-admins: admin}
"""


def read(text: str) -> Documents:
    return parse([Source("a.yaml", "/srv/documents", text.encode())])


def said(text: str) -> list[str]:
    """The faults, in order of their lines."""
    return [str(fault) for fault in sorted(read(text).faults)]


def values(declared: Documents) -> list[Declared]:
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
        Plan("team", 2, Limits(16777216, Rate(50.0, 100), 20), Prices("USD", "0.10", "0.40", "0.0012")),
        TenantDocument(
            "acme",
            "team",
            (Member("admin@acme.example", "admin"),),
            issuers=(
                TenantIssuer(
                    "https://login.acme.example", "gateway", "https://login.acme.example/jwks", "roles"
                ),
            ),
        ),
        Issuer(
            "https://login.example",
            "gateway",
            "https://login.example/jwks",
            "roles",
            roles={"gw-admins": "admin"},
            tenant_claim="tenant",
        ),
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
    ("kind: Fleet", "kind: Float", "1: kind: must be one of Fleet, Issuer, Model, Plan, Privacy, Tenant"),
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
    ("limits:", "limits:\n  requests_per_day: 0", "23: limits.requests_per_day: Expected int >= 1"),
    ("limits:", "limits:\n  tokens_per_minute: many", "23: limits.tokens_per_minute: Expected int, got str"),
    (
        "limits:",
        "limits:\n  money_per_month: 500.00",
        "23: limits.money_per_month: Expected str, got float; a text is in",
    ),
    ("limits:", "limits:\n  soft: {}", "23: limits.soft.money_per_month: is missing"),
    (
        "limits:",
        "limits:\n  soft: {money_per_month: '5', colour: 5}",
        "23: limits.soft.colour: unknown key; known are money_per_month",
    ),
    (
        "limits:",
        "limits:\n  per_key: {soft: {}}",
        "23: limits.per_key.soft: unknown key; known are requests_per_second",
    ),
    (
        "limits:",
        "limits:\n  per_model:\n    a.b:\n      requests_per_second: {rate: 1, burst: 0}",
        "25: limits.per_model.a.b.requests_per_second.burst: Expected int >= 1",
    ),
    ("limits:", "limits:\n  per_model: [a]", "23: limits.per_model: Expected a mapping, got a list"),
    ("limits:", "limits:\n  per_model: {a: 5}", "23: limits.per_model.a: Expected a mapping, got 5"),
    ('"0.10"', "0.10", "26: prices.per_1000_requests: Expected str, got float; a text is in quotes"),
    ('"0.10"', "'-1'", '26: prices.per_1000_requests: must be an amount like "500.00"'),
    ("USD", "US", "26: prices.currency: must be three letters of ISO 4217"),
    ("currency: USD, ", "", "26: prices.currency: is missing"),
    ("name: acme", "name: Acme", "29: name: must be 1 to 63"),
    ("plan: team", "plan: Team", "30: plan: must be 1 to 63"),
    ("plan: team", "plan: team\nstate: closed", "31: state: Invalid enum value 'closed'"),
    ("plan: team", "plan: team\nprivacy: Default", "31: privacy: must be 1 to 63"),
    ("plan: team", "plan: team\nid: x", "31: id: unknown key; known are name, plan, members, state"),
    ("role: admin", "role: owner", "31: members[0].role: Invalid enum value 'owner'"),
    (", role: admin", "", "31: members[0].role: is missing"),
    ("admin@acme.example", "admin", "31: members[0].email: must be an email address"),
    (
        "[{email: admin@acme.example, role: admin}]",
        "\n- {email: a@acme.example, role: admin}\n- {email: A@acme.example, role: viewer}",
        "33: members[1].email: is that of members[0] already",
    ),
    ("https://login.acme", "http://login.acme", "33: issuers[0].issuer: must start with https://"),
    ("acme.example/jwks", "acme.example/jwks#1", "33: issuers[0].jwks_url: must be https://host"),
    ("roles_claim: roles}", "tenant_claim: t}", "33: issuers[0].tenant_claim: unknown key; known are"),
    ("audience: gateway, ", "", "33: issuers[0].audience: is missing"),
    (
        "issuers:\n",
        'issuers:\n  - {issuer: "https://login.acme.example", audience: gateway}\n',
        "34: issuers[1]: has the issuer and the audience of issuers[0]",
    ),
    ("tenant_claim: tenant\n", "", "35: tenant_claim: is missing"),
    ("tenant_claim: tenant\n", "operators: true\n", "41: roles.gw-admins: must be operator"),
    ("gw-admins: admin", "gw-admins: owner", "41: roles.gw-admins: Invalid enum value 'owner'"),
    ("roles: {gw-admins: admin}", "roles: {}", "41: roles: is empty"),
    ("kind: Issuer\nissuer:", "kind: Issuer\nname: a\nissuer:", "36: name: unknown key"),
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
    second = Source("b.yaml", "/", b"kind: Model\nname: x\nrepository: /m\ntenants: [Q]\n---\nkind: Privacy")
    assert [(it.file, it.line, it.path) for it in parse([first, second]).faults] == [
        ("a.yaml", 3, "replicas.min"),
        ("a.yaml", 3, "replicas.max"),
        ("a.yaml", 4, "colour"),
        ("b.yaml", 4, "tenants[0]"),
        ("b.yaml", 6, "name"),
    ]


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
