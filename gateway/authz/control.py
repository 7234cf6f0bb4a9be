"""Cedar decisions for the control API: may this caller do this to that tenant, or to what is of no tenant? Fails closed (`policies.py`)."""

from itertools import product
from typing import Any, ClassVar, Final, get_args

from gateway.authz.policies import Decision, Policies, UndecidedError, uid
from tenants.members import ROLES
from tenants.ports import OPERATOR_ROLES, CallerRole, PlatformAction, Question, TenantAction
from tenants.tenant import State

_PLATFORM: Final = uid("Platform", "platform")


class ControlAuthorizer(Policies):
    """Who may control what: `control.cedar` of a tenant's own people, `operator.cedar` of operators. An Authorizer of `tenants.ports`."""

    name: ClassVar[str] = "control"
    files: ClassVar[tuple[str, ...]] = ("control.cedar", "operator.cedar")

    def decide(self, question: Question) -> Decision:
        return self._closed(lambda: self._ask(question))

    def _ask(self, question: Question) -> Decision:
        request = {
            "principal": _principal(question),
            "action": uid("Action", question.action),
            "resource": _resource(question),
        }
        context: dict[str, Any] = {}
        if question.gives_reason:
            context["reason"] = True
        if question.gives is not None:
            context["gives"] = {"__entity": uid("Role", question.gives)}
        if question.widens:
            context["widens"] = True
        if question.loosens:
            context["loosens"] = True
        if question.hastens:
            context["hastens"] = True
        return self._judged(request, _entities(question), context)

    def _rehearse(self) -> None:
        for role, action, said in product(get_args(CallerRole), get_args(PlatformAction), (False, True)):
            self._ask(Question("k_", role, _own(role), action, gives_reason=said))
        for role, action, state in product(get_args(CallerRole), get_args(TenantAction), get_args(State)):
            self._ask(Question("k_", role, _own(role), action, "t_", state, gives_reason=True))
        for role, gives in product(get_args(CallerRole), ROLES):
            asked = Question(
                "k_", role, _own(role), "issue", "t_", "active", gives, widens=True, loosens=True
            )
            self._ask(asked)
        for role in get_args(CallerRole):
            self._ask(Question("k_", role, _own(role), "destroy", "t_", "active", hastens=True))
        self._ask(Question("k_", "operator", None, "empower", loosens=True))


def _own(role: CallerRole) -> str | None:
    """Whose such a caller may be."""
    return None if role in OPERATOR_ROLES else "t_"


def _principal(question: Question) -> dict[str, str]:
    """An operator is no Caller, so no policy of the one is about the other. Whoever were both is nobody: Cedar is not asked."""
    is_operator = question.role in OPERATOR_ROLES
    if is_operator and question.of_tenant_id is not None:
        raise UndecidedError(f"the role {question.role} is nobody's of a tenant")
    return uid("Operator" if is_operator else "Caller", question.caller_id)


def _resource(question: Question) -> dict[str, str]:
    return _PLATFORM if question.tenant_id is None else uid("Tenant", question.tenant_id)


def _entities(question: Question) -> list[dict[str, Any]]:
    """The caller and what it asks for, as control.cedarschema declares them."""
    own = [] if question.of_tenant_id is None else [uid("Tenant", question.of_tenant_id)]
    role = uid("OperatorRole" if question.role in OPERATOR_ROLES else "Role", question.role)
    entities: list[dict[str, Any]] = [
        {"uid": _principal(question), "attrs": {"role": {"__entity": role}}, "parents": own}
    ]
    if question.tenant_id is None:
        return [*entities, {"uid": _PLATFORM, "attrs": {}, "parents": []}]
    state = {"__entity": uid("TenantState", question.tenant_state)}
    return [*entities, {"uid": _resource(question), "attrs": {"state": state}, "parents": []}]
