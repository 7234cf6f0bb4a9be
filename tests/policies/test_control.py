"""The control API's policies say what their cases say, and no policy stands without a case that needs it."""

import json
import tomllib
from typing import Any, Literal, get_args

import cedarpy
import msgspec
import pytest

from gateway.authz.control import ControlAuthorizer
from gateway.authz.policies import Decision
from tenants.members import Role
from tenants.ports import CallerRole, PlatformAction, Question, TenantAction
from tenants.tenant import State
from tests.policies.weakening import FOLDER, Strict, effects, expect_both_ways, parsed, weakened

POLICIES = parsed("control")
IDS = effects(POLICIES)
SCHEMA = cedarpy.Schema.from_str((FOLDER / "control.cedarschema").read_text("utf-8"))


class Tenant(Strict, frozen=True):
    state: State


class Caller(Strict, frozen=True):
    role: CallerRole
    tenant: str | None = None


class Case(Strict, frozen=True):
    name: str
    caller: str
    action: PlatformAction | TenantAction
    decision: Literal["ALLOW", "DENY"]
    policies: tuple[str, ...]
    tenant: str | None = None
    gives: Role | None = None
    widens: bool = False
    loosens: bool = False


class Cases(Strict, frozen=True):
    tenants: dict[str, Tenant]
    callers: dict[str, Caller]
    cases: tuple[Case, ...]

    def outcome(self, authorizer: ControlAuthorizer, case: Case) -> Decision:
        caller = self.callers[case.caller]
        return authorizer.decide(
            Question(
                key_id=f"k_{case.caller}",
                role=caller.role,
                of_tenant_id=caller.tenant and f"t_{caller.tenant}",
                action=case.action,
                tenant_id=case.tenant and f"t_{case.tenant}",
                tenant_state=self.tenants[case.tenant].state if case.tenant else "active",
                gives=case.gives,
                widens=case.widens,
                loosens=case.loosens,
            )
        )


TEXT = (FOLDER / "control.cases.toml").read_text("utf-8")
CASES = msgspec.convert(tomllib.loads(TEXT), Cases)


def expected(case: Case) -> Decision:
    return Decision(allowed=case.decision == "ALLOW", policies=case.policies)


@pytest.fixture(scope="module")
def authorizer() -> ControlAuthorizer:
    return ControlAuthorizer.load(FOLDER)


@pytest.mark.parametrize("case", CASES.cases, ids=lambda case: case.name)
def test_the_policies_decide_as_the_case_says_and_for_its_reasons(
    case: Case, authorizer: ControlAuthorizer
) -> None:
    assert CASES.outcome(authorizer, case) == expected(case)
    assert authorizer.undecided == 0


@pytest.mark.parametrize("document", list(weakened(POLICIES)))
def test_no_policy_and_no_condition_can_go_without_a_case_noticing(document: Any) -> None:
    less = cedarpy.PolicySet.from_json_str(json.dumps(document))
    authorizer = ControlAuthorizer(SCHEMA, less, version="weakened")
    assert any(CASES.outcome(authorizer, case).allowed != expected(case).allowed for case in CASES.cases)


@pytest.mark.parametrize("name", IDS)
def test_every_policy_decides_a_case_and_stands_aside_in_one(name: str) -> None:
    decided = {case.decision for case in CASES.cases if name in case.policies}
    aside = {case.decision for case in CASES.cases if name not in case.policies}
    expect_both_ways(IDS[name], decided, aside)


def test_every_name_in_the_cases_is_declared_and_used() -> None:
    assert {case.caller for case in CASES.cases} == set(CASES.callers)
    own = {caller.tenant for caller in CASES.callers.values()}
    assert own | {case.tenant for case in CASES.cases} == {*CASES.tenants, None}
    assert {name for case in CASES.cases for name in case.policies} == set(IDS)


@pytest.mark.parametrize("action", [*get_args(PlatformAction), *get_args(TenantAction)])
def test_every_action_is_asked_about_in_a_case(action: str) -> None:
    assert any(case.action == action and case.decision == "ALLOW" for case in CASES.cases)
    if action != "whoami":
        assert any(case.action == action and case.decision == "DENY" for case in CASES.cases)


def test_what_cedar_cannot_decide_is_denied_and_counted() -> None:
    authorizer = ControlAuthorizer.load(FOLDER)
    nonsense = Question("k_1", "operator", None, "govern")  # of no tenant, where the schema wants one
    assert authorizer.decide(nonsense) == Decision(allowed=False, policies=())
    assert authorizer.undecided == 1


def test_the_table_of_the_readme_is_what_cedar_says(authorizer: ControlAuthorizer) -> None:
    roles = get_args(CallerRole)
    rows = [f"| | {' | '.join(roles)} |", "|---" * (len(roles) + 1) + "|"]
    for action in dict.fromkeys((*get_args(PlatformAction), *get_args(TenantAction))):
        tenant = "t_own" if action in get_args(TenantAction) else None
        said = (
            authorizer.decide(
                Question("k_1", role, None if role == "operator" else "t_own", action, tenant)
            ).allowed
            for role in roles
        )
        rows.append(f"| `{action}` | {' | '.join('yes' if it else '' for it in said)} |")
    text = (FOLDER / "README.md").read_text("utf-8")
    assert text.split("<!-- roles -->")[1].split("<!-- /roles -->")[0].strip() == "\n".join(rows)
