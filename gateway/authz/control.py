"""Cedar decisions for the control API: may this caller do this to that tenant, or to what is of no tenant? Fails closed (`policies.py`)."""

from itertools import product
from typing import Any, ClassVar, Final, get_args

from gateway.authz.policies import Decision, Policies, uid
from tenants.members import ROLES
from tenants.ports import CallerRole, PlatformAction, Question, TenantAction
from tenants.tenant import State

_PLATFORM: Final = uid("Platform", "platform")


class ControlAuthorizer(Policies):
    """Who may control what: `control.cedar`. An Authorizer of `tenants.ports`."""

    name: ClassVar[str] = "control"

    def decide(self, question: Question) -> Decision:
        return self._closed(lambda: self._ask(question))

    def _ask(self, question: Question) -> Decision:
        request = {
            "principal": uid("Caller", question.key_id),
            "action": uid("Action", question.action),
            "resource": _resource(question),
        }
        context: dict[str, Any] = {}
        if question.gives is not None:
            context["gives"] = {"__entity": uid("Role", question.gives)}
        if question.widens:
            context["widens"] = True
        if question.loosens:
            context["loosens"] = True
        return self._judged(request, _entities(question), context)

    def _rehearse(self) -> None:
        for role, action in product(get_args(CallerRole), get_args(PlatformAction)):
            self._ask(Question("k_", role, None, action))
        for role, action, state in product(get_args(CallerRole), get_args(TenantAction), get_args(State)):
            self._ask(Question("k_", role, "t_", action, "t_", state))
        for role, gives in product(get_args(CallerRole), ROLES):
            self._ask(Question("k_", role, "t_", "issue", "t_", "active", gives, widens=True, loosens=True))
        self._ask(Question("k_", "operator", None, "empower", loosens=True))


def _resource(question: Question) -> dict[str, str]:
    return _PLATFORM if question.tenant_id is None else uid("Tenant", question.tenant_id)


def _entities(question: Question) -> list[dict[str, Any]]:
    """The caller and what it asks for, as control.cedarschema declares them."""
    own = [] if question.of_tenant_id is None else [uid("Tenant", question.of_tenant_id)]
    entities: list[dict[str, Any]] = [
        {
            "uid": uid("Caller", question.key_id),
            "attrs": {"role": {"__entity": uid("Role", question.role)}},
            "parents": own,
        }
    ]
    if question.tenant_id is None:
        return [*entities, {"uid": _PLATFORM, "attrs": {}, "parents": []}]
    state = {"__entity": uid("TenantState", question.tenant_state)}
    return [*entities, {"uid": _resource(question), "attrs": {"state": state}, "parents": []}]
