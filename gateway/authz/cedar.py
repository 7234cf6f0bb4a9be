"""One Cedar decision: may this subject do this to that model? Fails closed (`policies.py`)."""

from functools import lru_cache
from itertools import product
from typing import Any, ClassVar, Final, Literal, get_args

import cedarpy
import msgspec

from gateway.authz.errors import PolicyError
from gateway.authz.policies import DENIED_UNDECIDED, Decision, Policies, UndecidedError, uid
from gateway.authz.questions import Action
from tenants.members import ROLES, Role

__all__ = [
    "CACHED_DECISIONS",
    "DENIED_UNDECIDED",
    "Action",
    "Authorizer",
    "Decision",
    "ModelView",
    "PolicyError",
    "Subject",
    "SubjectRole",
    "TenantState",
    "UndecidedError",
]

SubjectRole = Role | Literal["none"]
"""`none` is a token of an issuer that gives roles, and gave none."""
_ROLES: Final[tuple[SubjectRole | None, ...]] = (None, *ROLES, "none")
TenantState = Literal["active", "suspended", "closing", "closed"]

CACHED_DECISIONS: Final = 10_000


class Subject(msgspec.Struct, frozen=True, cache_hash=True):
    """Who asks. `models` None: every model of the tenant. `role` None: no service account's, so nothing narrows it by that.

    `tenant_regions` and `tenant_models` are what the tenant restricts itself to, None: it does not.
    """

    principal_id: str
    tenant_id: str
    tenant_name: str
    tenant_state: TenantState
    plan: str
    models: frozenset[str] | None
    role: SubjectRole | None = None
    tenant_regions: frozenset[str] | None = None
    tenant_models: frozenset[str] | None = None


class ModelView(msgspec.Struct, frozen=True, cache_hash=True):
    """A model as policies see it. `tenants` are names; they do not matter where `everyone` is true. `region` None: none is known."""

    id: str
    name: str
    everyone: bool
    tenants: frozenset[str]
    region: str | None = None


class Authorizer(Policies):
    """Who may use which model: `inference.cedar`."""

    name: ClassVar[str] = "inference"
    files: ClassVar[tuple[str, ...]] = ("inference.cedar",)

    def __init__(self, schema: cedarpy.Schema, policies: cedarpy.PolicySet, version: str) -> None:
        super().__init__(schema, policies, version)
        self._answer = lru_cache(CACHED_DECISIONS)(self._ask)  # what raises is not kept

    def decide(self, subject: Subject, action: Action, model: ModelView) -> Decision:
        """Answer from the 10,000 last used decisions, or ask Cedar.

        The key of the cache is all that Cedar reads, so an answer cannot outlive what it was given for.
        A failure is asked again next time.
        """
        return self._closed(lambda: self._answer(subject, action, model))

    def _ask(self, subject: Subject, action: Action, model: ModelView) -> Decision:
        request = {
            "principal": uid("Principal", subject.principal_id),
            "action": uid("Action", action),
            "resource": uid("Model", model.id),
        }
        return self._judged(request, _entities(subject, model))

    def _rehearse(self) -> None:
        """Ask about every kind of subject once; raises UndecidedError if Cedar cannot say."""
        some, none = frozenset({"it"}), frozenset[str]()
        narrowings = ((None, None, None), (some, some, None), (none, some, "it"))
        for state, role, action, (models, restricted, region) in product(
            get_args(TenantState), _ROLES, get_args(Action), narrowings
        ):
            subject = Subject("k_", "t_", "it", state, "plan", models, role, restricted, restricted)
            model = ModelView("m_", "it", everyone=False, tenants=some, region=region)
            self._ask(subject, action, model)


def _entities(subject: Subject, model: ModelView) -> list[dict[str, Any]]:
    """The four entities of one question, as inference.cedarschema declares them. What is None is no attribute."""
    plan = uid("Plan", subject.plan)
    tenant = uid("Tenant", subject.tenant_id)
    role = None if subject.role is None else uid("Role", subject.role)
    return [
        {"uid": plan, "attrs": {}, "parents": []},
        {
            "uid": tenant,
            "attrs": {
                "name": subject.tenant_name,
                "state": uid("TenantState", subject.tenant_state),
                **_present(regions=subject.tenant_regions, models=subject.tenant_models),
            },
            "parents": [plan],
        },
        {
            "uid": uid("Principal", subject.principal_id),
            "attrs": {"tenant": tenant, **_present(models=subject.models, role=role)},
            "parents": [tenant],
        },
        {
            "uid": uid("Model", model.id),
            "attrs": {
                "name": model.name,
                "everyone": model.everyone,
                "tenants": model.tenants,
                **_present(region=model.region),
            },
            "parents": [],
        },
    ]


def _present(**attributes: Any) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
