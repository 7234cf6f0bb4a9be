"""Cases: what the policies must say to whom, in files beside them (`inference.cases.toml`, `control.cases.toml`, `operator.cases.toml`).

Whoever changes a policy changes its cases with it, and `gateway policy test` says whether the two agree.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import Struct

from gateway.authz.cedar import Action, Authorizer, ModelView, Subject, SubjectRole, TenantState
from gateway.authz.control import ControlAuthorizer
from gateway.authz.errors import PolicyError
from gateway.authz.policies import Decision, read
from tenants.members import Role
from tenants.ports import CallerRole, PlatformAction, Question, TenantAction
from tenants.tenant import State

_Cases = TypeVar("_Cases", bound=Struct)


class Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a file of cases."""


class Case(Strict, frozen=True):
    """`policies` are the ids that decided: the permits of an ALLOW, the forbids of a DENY; none where nothing permitted it."""

    name: str
    decision: Literal["ALLOW", "DENY"]
    policies: tuple[str, ...]

    @property
    def expected(self) -> Decision:
        return Decision(allowed=self.decision == "ALLOW", policies=self.policies)


class InferenceTenant(Strict, frozen=True):
    state: TenantState
    plan: str
    regions: frozenset[str] | None = None
    models: frozenset[str] | None = None


class Principal(Strict, frozen=True):
    tenant: str
    models: frozenset[str] | None = None
    role: SubjectRole | None = None


class CasesModel(Strict, frozen=True):
    tenants: frozenset[str] | Literal["*"]
    region: str | None = None


class InferenceCase(Case, frozen=True, kw_only=True):
    principal: str
    action: Action
    model: str


class InferenceCases(Strict, frozen=True):
    """`outcome` raises KeyError for a name that the file does not declare."""

    tenants: dict[str, InferenceTenant]
    principals: dict[str, Principal]
    models: dict[str, CasesModel]
    cases: tuple[InferenceCase, ...]

    def outcome(self, policies: Authorizer, case: InferenceCase) -> Decision:
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
            tenant_regions=tenant.regions,
            tenant_models=tenant.models,
        )
        names = frozenset[str]() if everyone else frozenset(model.tenants)
        view = ModelView(f"m_{case.model}", case.model, everyone=everyone, tenants=names, region=model.region)
        return policies.decide(subject, case.action, view)


class ControlTenant(Strict, frozen=True):
    state: State


class Caller(Strict, frozen=True):
    role: CallerRole
    tenant: str | None = None


class ControlCase(Case, frozen=True, kw_only=True):
    caller: str
    action: PlatformAction | TenantAction
    tenant: str | None = None
    gives: Role | None = None
    widens: bool = False
    loosens: bool = False
    hastens: bool = False
    reason: bool = False


class ControlCases(Strict, frozen=True):
    """`outcome` raises KeyError for a name that the file does not declare."""

    tenants: dict[str, ControlTenant]
    callers: dict[str, Caller]
    cases: tuple[ControlCase, ...]

    def outcome(self, policies: ControlAuthorizer, case: ControlCase) -> Decision:
        caller = self.callers[case.caller]
        return policies.decide(
            Question(
                caller_id=f"k_{case.caller}",
                role=caller.role,
                of_tenant_id=caller.tenant and f"t_{caller.tenant}",
                action=case.action,
                tenant_id=case.tenant and f"t_{case.tenant}",
                tenant_state=self.tenants[case.tenant].state if case.tenant else "active",
                gives=case.gives,
                widens=case.widens,
                loosens=case.loosens,
                hastens=case.hastens,
                gives_reason=case.reason,
            )
        )


Cases = InferenceCases | ControlCases

FILES: Final[dict[str, type[Cases]]] = {
    "inference.cases.toml": InferenceCases,
    "control.cases.toml": ControlCases,
    "operator.cases.toml": ControlCases,
}


def loaded(folder: Path, name: str) -> Cases:
    """The cases of one of FILES. Raises PolicyError."""
    try:
        return parsed(read(folder / name), FILES[name])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise PolicyError(folder / name, str(error)) from error


def parsed(text: str, kind: type[_Cases]) -> _Cases:
    """Raises tomllib.TOMLDecodeError, msgspec.ValidationError."""
    return msgspec.convert(tomllib.loads(text), kind)


def wrong(cases: Cases, policies: Any) -> Iterator[str]:
    """Those that come out otherwise with policies of their set, a sentence each."""
    for case in cases.cases:
        try:
            found = cases.outcome(policies, case)  # type: ignore[arg-type]
        except KeyError as error:
            yield f"{case.name}: {error} is declared nowhere in the file"
            continue
        if found != case.expected:
            yield f"{case.name}: it is {_said(found)}, and should be {_said(case.expected)}"


def _said(decision: Decision) -> str:
    return f"{'ALLOW' if decision.allowed else 'DENY'} by {', '.join(decision.policies) or 'no policy'}"
