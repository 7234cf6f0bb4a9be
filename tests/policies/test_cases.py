"""The policies say what their cases say, and no policy stands without a case that needs it."""

import json
from typing import Any, get_args

import cedarpy
import msgspec
import pytest

from gateway.authz.cases import FILES, Case, ControlCase, InferenceCases, loaded, parsed, wrong
from gateway.authz.cedar import Authorizer, Decision
from gateway.authz.control import ControlAuthorizer
from gateway.authz.policies import Policies
from tenants.ports import OPERATOR_ROLES, CallerRole, PlatformAction, Question, TenantAction
from tests.policies import weakening
from tests.policies.weakening import FOLDER, effects, expect_both_ways, weakened

# A file of policies has a file of cases; those of one set are judged together.
SETS: dict[str, type[Policies]] = {
    name.partition(".")[0]: Authorizer if kind is InferenceCases else ControlAuthorizer
    for name, kind in FILES.items()
}
CASES: dict[str, Any] = {name: loaded(FOLDER, f"{name}.cases.toml") for name in SETS}
WHOLE = {name: kind.load(FOLDER) for name, kind in SETS.items()}
IDS = {name: effects(weakening.parsed(name)) for name in SETS}
TEXT = (FOLDER / "inference.cases.toml").read_text("utf-8")


def document(name: str) -> Any:
    return weakening.parsed(*(file.partition(".")[0] for file in SETS[name].files))


def schema(name: str) -> cedarpy.Schema:
    return cedarpy.Schema.from_str((FOLDER / f"{SETS[name].name}.cedarschema").read_text("utf-8"))


def test_every_file_of_policies_has_one_of_cases_and_is_in_a_set() -> None:
    files = {file for kind in SETS.values() for file in kind.files}
    assert {it.name for it in FOLDER.glob("*.cedar")} == files == {f"{name}.cedar" for name in SETS}


@pytest.mark.parametrize(
    ("name", "case"),
    [pytest.param(name, case, id=f"{name}: {case.name}") for name, it in CASES.items() for case in it.cases],
)
def test_the_policies_decide_as_the_case_says_and_for_its_reasons(name: str, case: Case) -> None:
    assert CASES[name].outcome(WHOLE[name], case) == case.expected
    assert WHOLE[name].undecided == 0


@pytest.mark.parametrize(
    ("name", "less"),
    [
        pytest.param(name, *less.values, id=f"{name}: {less.id}")
        for name, ids in IDS.items()
        for less in weakened(document(name), ids.keys())
    ],
)
def test_no_policy_and_no_condition_can_go_without_a_case_noticing(name: str, less: Any) -> None:
    policies = cedarpy.PolicySet.from_json_str(json.dumps(less))
    authorizer = SETS[name](schema(name), policies, version="weakened")
    assert any(
        CASES[name].outcome(authorizer, case).allowed != case.expected.allowed for case in CASES[name].cases
    )


@pytest.mark.parametrize(("name", "id_"), [(name, id_) for name, ids in IDS.items() for id_ in ids])
def test_every_policy_decides_a_case_and_stands_aside_in_one(name: str, id_: str) -> None:
    decided = {case.decision for case in CASES[name].cases if id_ in case.policies}
    aside = {case.decision for case in CASES[name].cases if id_ not in case.policies}
    expect_both_ways(IDS[name][id_], decided, aside)


@pytest.mark.parametrize("name", IDS)
def test_every_policy_says_in_a_sentence_what_it_is_for(name: str) -> None:
    told = WHOLE[name].told()
    assert told.keys() >= IDS[name].keys()
    for id_ in IDS[name]:
        assert told[id_].effect == IDS[name][id_]
        assert len(told[id_].reason.split()) > 3, id_
    assert len({it.reason for it in told.values()}) == len(told)


def test_every_name_in_the_cases_is_declared_and_used() -> None:
    for name, it in CASES.items():
        assert {id_ for case in it.cases for id_ in case.policies} == set(IDS[name])
        if isinstance(it, InferenceCases):
            assert {case.principal for case in it.cases} == set(it.principals)
            assert {case.model for case in it.cases} == set(it.models)
            assert {principal.tenant for principal in it.principals.values()} == set(it.tenants)
        else:
            its: Any = it
            assert {case.caller for case in its.cases} == set(its.callers)
            own = {caller.tenant for caller in its.callers.values()}
            assert own | {case.tenant for case in its.cases} == {*its.tenants, None}


@pytest.mark.parametrize("action", [*get_args(PlatformAction), *get_args(TenantAction)])
def test_every_action_is_asked_about_in_a_case(action: str) -> None:
    cases = [case for it in CASES.values() for case in it.cases if isinstance(case, ControlCase)]
    found = {case.decision for case in cases if case.action == action}
    assert found == {"ALLOW", "DENY"}


@pytest.mark.parametrize(
    ("right", "other"),
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
def test_a_case_file_with_an_unknown_field_or_word_is_refused(right: str, other: str) -> None:
    assert right in TEXT
    with pytest.raises(msgspec.ValidationError):
        parsed(TEXT.replace(right, other, 1), InferenceCases)


def test_a_case_that_comes_out_otherwise_is_named_with_both_outcomes() -> None:
    policies = WHOLE["inference"]
    assert list(wrong(CASES["inference"], policies)) == []
    text = TEXT.replace(
        'decision = "DENY"\npolicies = ["key-is-limited"]', 'decision = "ALLOW"\npolicies = []', 1
    )
    (said,) = wrong(parsed(text, InferenceCases), policies)
    assert said.endswith(": it is DENY by key-is-limited, and should be ALLOW by no policy")
    unknown = parsed(TEXT.replace('principal = "northern"', 'principal = "nobody"', 1), InferenceCases)
    (said,) = wrong(unknown, policies)
    assert said.endswith(": 'nobody' is declared nowhere in the file")


# Operators and tenants: two kinds of principal, so that no policy of the one is about the other.


@pytest.mark.parametrize(("name", "kind"), [("operator", "Operator"), ("control", "Caller")])
def test_a_policy_of_operators_or_of_tenants_is_for_their_kind_of_principal_alone(
    name: str, kind: str
) -> None:
    for policy in weakening.parsed(name)["staticPolicies"].values():
        assert policy["principal"] == {"op": "is", "entity_type": kind}, policy["annotations"]["id"]


@pytest.mark.parametrize("role", get_args(CallerRole))
def test_no_tenants_principal_meets_a_policy_of_operators(role: CallerRole) -> None:
    authorizer = ControlAuthorizer.load(FOLDER)
    theirs: list[tuple[Any, str | None]] = [(action, None) for action in get_args(PlatformAction)]
    theirs += [(action, tenant) for action in get_args(TenantAction) for tenant in ("t_own", "t_other")]
    for action, tenant in theirs:
        found = authorizer.decide(Question("k_1", role, "t_own", action, tenant, gives_reason=True))
        assert not IDS["operator"].keys() & set(found.policies)
        assert found == Decision(allowed=False, policies=()) or role not in OPERATOR_ROLES


def test_what_cedar_cannot_decide_is_denied_and_counted() -> None:
    authorizer = ControlAuthorizer.load(FOLDER)
    nonsense = Question("k_1", "operator", None, "govern")  # of no tenant, where the schema wants one
    assert authorizer.decide(nonsense) == Decision(allowed=False, policies=())
    assert authorizer.undecided == 1


def test_the_table_of_the_readme_is_what_cedar_says() -> None:
    authorizer = ControlAuthorizer.load(FOLDER)
    roles = get_args(CallerRole)
    rows = [f"| | {' | '.join(roles)} |", "|---" * (len(roles) + 1) + "|"]

    def said(role: CallerRole, action: Any) -> str:
        own = None if role in OPERATOR_ROLES else "t_own"
        tenant = "t_own" if action in get_args(TenantAction) else None
        for reason, word in ((False, "yes"), (True, "with a reason")):
            if authorizer.decide(Question("k_1", role, own, action, tenant, gives_reason=reason)).allowed:
                return word
        return ""

    actions = dict.fromkeys((*get_args(PlatformAction), *get_args(TenantAction)))
    rows += (f"| `{it}` | {' | '.join(said(role, it) for role in roles)} |" for it in actions)
    text = (FOLDER / "README.md").read_text("utf-8")
    table = text.split("<!-- roles -->")[1].split("<!-- /roles -->")[0].strip()
    assert table == "\n".join(rows), "\n".join(rows)
