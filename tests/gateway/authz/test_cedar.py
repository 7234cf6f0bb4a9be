import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import policies
from gateway.authz.cedar import (
    CACHED_DECISIONS,
    Action,
    Authorizer,
    Decision,
    ModelView,
    PolicyError,
    Subject,
)
from gateway.authz.control import ControlAuthorizer

FOLDER = Path(policies.__file__).parent
SUBJECT = Subject("k_1", "t_1", "acme", "active", "team", frozenset({"digits"}))
MODEL = ModelView("m_1", "digits", everyone=False, tenants=frozenset({"acme"}))
ALLOWED = Decision(allowed=True, policies=("tenant-has-model",))
DENIED = Decision(allowed=False, policies=())
EVERY = "forbid (principal, action, resource)"
OVERFLOW = "9223372036854775807 + 1 > 0"  # valid, and fails whenever it is evaluated


@pytest.fixture
def authorizer() -> Authorizer:
    return Authorizer.load(FOLDER)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file in ("inference.cedar", "inference.cedarschema"):
        shutil.copy(FOLDER / file, tmp_path)
    return tmp_path


def add(folder: Path, policy: str) -> None:
    with (folder / "inference.cedar").open("a") as file:
        file.write(policy)


# The rule, in Python.


def rule(subject: Subject, action: Action, model: ModelView) -> Decision:
    forbidden = {
        "key-is-limited": action != "discover"
        and subject.models is not None
        and model.name not in subject.models,
        "tenant-restricts-regions": action != "discover"
        and subject.tenant_regions is not None
        and (model.region is None or model.region not in subject.tenant_regions),
        "tenant-restricts-models": action != "discover"
        and subject.tenant_models is not None
        and model.name not in subject.tenant_models,
        "tenant-is-not-active": subject.tenant_state != "active",
    }
    if any(forbidden.values()):
        return Decision(
            allowed=False, policies=tuple(sorted(name for name, holds in forbidden.items() if holds))
        )
    return ALLOWED if model.everyone or subject.tenant_name in model.tenants else DENIED


ids = st.text(max_size=12)
tenant_names = st.sampled_from(["acme", "globex", 'a"b', "*", ""]) | ids
model_names = st.sampled_from(["digits", "story", "d\\", "*", ""]) | ids
regions = st.sampled_from(["north", "south", ""]) | ids
subjects = st.builds(
    Subject,
    principal_id=ids,
    tenant_id=ids,
    tenant_name=tenant_names,
    tenant_state=st.sampled_from(["active", "active", "suspended", "closed"]),
    plan=ids,
    models=st.none() | st.frozensets(model_names, max_size=4),
    tenant_regions=st.none() | st.frozensets(regions, max_size=3),
    tenant_models=st.none() | st.frozensets(model_names, max_size=4),
)
models = st.builds(
    ModelView,
    id=ids,
    name=model_names,
    everyone=st.booleans(),
    tenants=st.frozensets(tenant_names, max_size=4),
    region=st.none() | regions,
)
actions = st.sampled_from(["discover", "infer", "describe"])

SHARED = Authorizer.load(FOLDER)


@given(subject=subjects, action=actions, model=models)
def test_cedar_decides_as_the_rule_for_any_names_and_ids(
    subject: Subject, action: Action, model: ModelView
) -> None:
    assert SHARED.decide(subject, action, model) == rule(subject, action, model)
    assert SHARED.undecided == 0, SHARED.last_undecided


# Fail closed.


@pytest.mark.parametrize(
    ("subject", "action", "model"),
    [
        pytest.param(replace(SUBJECT, tenant_state="bogus"), "infer", MODEL, id="a state that is none"),
        pytest.param(SUBJECT, "drop", MODEL, id="an action that is none"),
        pytest.param(replace(SUBJECT, tenant_id=7), "infer", MODEL, id="an id that is no text"),
        pytest.param(SUBJECT, "infer", replace(MODEL, everyone="yes"), id="a flag that is text"),
        pytest.param(SUBJECT, "infer", replace(MODEL, name="\ud800"), id="a name that is no Unicode"),
        pytest.param(replace(SUBJECT, models=["digits"]), "infer", MODEL, id="a value that is not frozen"),
        pytest.param(None, "infer", MODEL, id="nobody"),
    ],
)
def test_what_cedar_cannot_decide_is_denied_counted_and_not_kept(
    authorizer: Authorizer, subject: Any, action: Any, model: Any
) -> None:
    for times in (1, 2):
        assert authorizer.decide(subject, action, model) == DENIED
        assert authorizer.undecided == times
    assert authorizer.last_undecided
    assert authorizer.decide(SUBJECT, "infer", MODEL) == ALLOWED


@pytest.mark.parametrize("effect", ["forbid", "permit"])
def test_a_policy_that_fails_denies_though_another_permits(folder: Path, effect: str) -> None:
    condition = f'when {{ resource.name == "digits" && {OVERFLOW} }}'
    add(folder, f'@id("x") {effect} (principal, action, resource) {condition};')
    authorizer = Authorizer.load(folder)
    assert authorizer.decide(SUBJECT, "infer", MODEL) == DENIED
    assert "overflow" in authorizer.last_undecided
    other = replace(MODEL, name="story")
    assert authorizer.decide(replace(SUBJECT, models=None), "infer", other) == ALLOWED


# The cache.


def test_an_answer_is_kept_and_at_most_ten_thousand_are(authorizer: Authorizer) -> None:
    for _ in range(3):
        authorizer.decide(replace(SUBJECT), "infer", replace(MODEL))
    kept = authorizer._answer.cache_info()
    assert (kept.misses, kept.hits) == (1, 2)
    assert kept.maxsize == CACHED_DECISIONS == 10_000


@pytest.mark.parametrize(
    "change",
    [
        {"tenant_state": "suspended"},
        {"models": frozenset({"story"})},
        {"tenant_name": "globex"},
        {"tenant_regions": frozenset({"north"})},
        {"tenant_models": frozenset({"story"})},
    ],
)
def test_a_kept_answer_does_not_outlive_what_it_was_given_for(
    authorizer: Authorizer, change: dict[str, Any]
) -> None:
    assert authorizer.decide(SUBJECT, "infer", MODEL).allowed
    assert not authorizer.decide(replace(SUBJECT, **change), "infer", MODEL).allowed


def test_a_model_that_changes_hands_is_judged_anew(authorizer: Authorizer) -> None:
    assert authorizer.decide(SUBJECT, "discover", MODEL).allowed
    assert not authorizer.decide(SUBJECT, "discover", replace(MODEL, tenants=frozenset({"globex"}))).allowed


# Policies an operator may write.


def test_a_policy_can_name_a_plan_and_a_tenant_in_its_head(folder: Path) -> None:
    add(folder, '@id("no-trials") forbid (principal in Plan::"trial", action, resource);')
    add(folder, '@id("not-t-9") forbid (principal in Tenant::"t_9", action, resource);')
    authorizer = Authorizer.load(folder)
    assert authorizer.decide(SUBJECT, "infer", MODEL) == ALLOWED
    assert authorizer.decide(replace(SUBJECT, plan="trial"), "infer", MODEL).policies == ("no-trials",)
    both = replace(SUBJECT, plan="trial", tenant_id="t_9")
    assert authorizer.decide(both, "infer", MODEL).policies == ("no-trials", "not-t-9")


def test_an_action_that_no_policy_names_starts_out_denied(folder: Path) -> None:
    schema = folder / "inference.cedarschema"
    schema.write_text(schema.read_text().replace("action discover,", "action unheard, discover,"))
    authorizer = Authorizer.load(folder)
    new: Any = "unheard"
    assert authorizer.decide(SUBJECT, new, MODEL) == DENIED
    assert authorizer.undecided == 0
    limited = replace(SUBJECT, models=frozenset[str]())
    assert authorizer.decide(limited, new, MODEL).policies == ("key-is-limited",)


def test_the_version_changes_with_either_file_and_with_nothing_else(folder: Path) -> None:
    before = Authorizer.load(folder).version
    assert before == Authorizer.load(FOLDER).version
    versions = {before}
    for file in folder.iterdir():
        file.write_text(file.read_text() + "// a remark\n")
        versions.add(Authorizer.load(folder).version)
    assert len(versions) == 3


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("permit (principal", "unexpected end"),
        (f"{EVERY};", "policy8, counted from 0, has no @id"),
        (f'@id("") {EVERY};', "has no @id"),
        (f'@id("key-is-limited") {EVERY};', '"key-is-limited") is given twice'),
        ('@id("x") forbid (principal == ?principal, action, resource);', "templates"),
        ('@id("x") forbid (principal, action == Action::"infr", resource);', "for policy x, unrecognized"),
        ('@id("x") forbid (principal in Robot::"r", action, resource);', "Robot"),
        (f'@id("x") {EVERY} unless {{ principal.models.contains("a") }};', "optional"),
        (f'@id("x") {EVERY} when {{ principal.tenant.state == TenantState::"shut" }};', "shut"),
        (f'@id("x") {EVERY} when {{ {OVERFLOW} }};', "overflow"),
    ],
)
def test_policies_that_are_nonsense_are_refused_with_file_and_reason(
    folder: Path, policy: str, reason: str
) -> None:
    add(folder, policy)
    with pytest.raises(PolicyError) as refused:
        Authorizer.load(folder)
    assert refused.value.file.parent == folder
    assert reason in refused.value.reason


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("entity Plan;", "entity Plan"),
        ("name: String,\n    everyone", "title: String,\n    everyone"),
        ("    everyone: Bool,", "    everyone: Bool,\n    size: Long,"),
        ("models?: Set", "models: Set"),
        (', "closed"', ""),
        ("action discover, infer, describe", "action discover, infer"),
    ],
)
def test_a_schema_that_does_not_fit_what_we_ask_is_refused_at_load(
    folder: Path, right: str, wrong: str
) -> None:
    file = folder / "inference.cedarschema"
    text = file.read_text()
    assert right in text
    file.write_text(text.replace(right, wrong))
    (folder / "inference.cedar").write_text('@id("x") permit (principal, action, resource);')
    with pytest.raises(PolicyError) as refused:
        Authorizer.load(folder)
    assert refused.value.file == file


@pytest.mark.parametrize("lost", ["inference.cedar", "inference.cedarschema"])
def test_a_file_that_is_missing_empty_or_no_text_is_refused(folder: Path, lost: str) -> None:
    for content in (None, b"", b"\xff"):
        (folder / lost).unlink(missing_ok=True)
        if content is not None:
            (folder / lost).write_bytes(content)
        with pytest.raises(PolicyError):
            Authorizer.load(folder)


def test_no_two_policies_of_a_set_have_one_id_in_whatever_files(tmp_path: Path) -> None:
    for name in ControlAuthorizer.sources():
        shutil.copy(FOLDER / name, tmp_path)
    with (tmp_path / "operator.cedar").open("a") as file:
        file.write('@id("key-is-above-ones-role") forbid (principal is Operator, action, resource);')
    with pytest.raises(PolicyError, match=r'operator.cedar: @id\("key-is-above-ones-role"\) is given twice'):
        ControlAuthorizer.load(tmp_path)
