"""The policies say what their cases say, and no policy stands without a case that needs it."""

import json
import tomllib
from typing import Any, Literal

import cedarpy
import msgspec
import pytest

from gateway.authz.cedar import Action, Authorizer, Decision, ModelView, Subject, TenantState
from tenants.members import Role
from tests.policies.weakening import FOLDER, Strict, effects, expect_both_ways, parsed, weakened

SCHEMA = cedarpy.Schema.from_str((FOLDER / "inference.cedarschema").read_text("utf-8"))
POLICIES = parsed("inference")
IDS = effects(POLICIES)


class Tenant(Strict, frozen=True):
    state: TenantState
    plan: str


class Principal(Strict, frozen=True):
    tenant: str
    models: frozenset[str] | None = None
    role: Role | None = None


class Model(Strict, frozen=True):
    tenants: frozenset[str] | Literal["*"]


class Case(Strict, frozen=True):
    name: str
    principal: str
    action: Action
    model: str
    decision: Literal["ALLOW", "DENY"]
    policies: tuple[str, ...]


class Cases(Strict, frozen=True):
    tenants: dict[str, Tenant]
    principals: dict[str, Principal]
    models: dict[str, Model]
    cases: tuple[Case, ...]

    def outcome(self, authorizer: Authorizer, case: Case) -> Decision:
        principal, model = self.principals[case.principal], self.models[case.model]
        tenant = self.tenants[principal.tenant]
        everyone = model.tenants == "*"
        subject = Subject(
            principal_id=f"k_{case.principal}",
            tenant_id=f"t_{principal.tenant}",
            tenant_name=principal.tenant,
            tenant_state=tenant.state,
            plan=tenant.plan,
            models=principal.models,
            role=principal.role,
        )
        names = frozenset[str]() if everyone else frozenset(model.tenants)
        return authorizer.decide(
            subject, case.action, ModelView(f"m_{case.model}", case.model, everyone=everyone, tenants=names)
        )


def read(text: str) -> Cases:
    return msgspec.convert(tomllib.loads(text), Cases)


TEXT = (FOLDER / "inference.cases.toml").read_text("utf-8")
CASES = read(TEXT)


def expected(case: Case) -> Decision:
    return Decision(allowed=case.decision == "ALLOW", policies=case.policies)


@pytest.mark.parametrize("case", CASES.cases, ids=lambda case: case.name)
def test_the_policies_decide_as_the_case_says_and_for_its_reasons(case: Case) -> None:
    authorizer = Authorizer.load(FOLDER)
    assert CASES.outcome(authorizer, case) == expected(case)
    assert authorizer.undecided == 0


@pytest.mark.parametrize("document", list(weakened(POLICIES)))
def test_no_policy_and_no_condition_can_go_without_a_case_noticing(document: Any) -> None:
    authorizer = Authorizer(SCHEMA, cedarpy.PolicySet.from_json_str(json.dumps(document)), version="weakened")
    assert any(CASES.outcome(authorizer, case).allowed != expected(case).allowed for case in CASES.cases)


@pytest.mark.parametrize("name", IDS)
def test_every_policy_decides_a_case_and_stands_aside_in_one(name: str) -> None:
    decided = {case.decision for case in CASES.cases if name in case.policies}
    aside = {case.decision for case in CASES.cases if name not in case.policies}
    expect_both_ways(IDS[name], decided, aside)


def test_every_name_in_the_cases_is_declared_and_used() -> None:
    assert {case.principal for case in CASES.cases} == set(CASES.principals)
    assert {case.model for case in CASES.cases} == set(CASES.models)
    assert {principal.tenant for principal in CASES.principals.values()} == set(CASES.tenants)
    assert {name for case in CASES.cases for name in case.policies} == set(IDS)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('plan = "team" }', 'plan = "team", colour = "red" }'),
        ('tenant = "globex" }', 'tenant = "globex", model = [] }'),
        ('tenants = "*" }', 'tenants = "all" }'),
        ('state = "closed"', 'state = "shut"'),
        ('role = "viewer"', 'role = "owner"'),
        ('decision = "DENY"', 'decision = "REFUSE"'),
        ('action = "discover"', 'action = "discover"\nbecause = "so"'),
        ("[tenants]", "[others]\n[tenants]"),
    ],
)
def test_a_case_file_with_an_unknown_field_or_word_is_refused(right: str, wrong: str) -> None:
    assert right in TEXT
    with pytest.raises(msgspec.ValidationError):
        read(TEXT.replace(right, wrong, 1))
