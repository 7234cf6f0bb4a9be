"""One Cedar decision: may this subject do this to that model?

Fails closed: whatever is not Cedar's explicit Allow, given without an error, is a denial.
"""

import logging
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal, get_args

import cedarpy
import msgspec

from tenants.members import ROLES, Role

# The questions, as inference.cedarschema names them; "discover" is asked before either of the others.
Action = Literal["discover", "infer", "describe"]
TenantState = Literal["active", "suspended", "closing", "closed"]

CACHED_DECISIONS: Final = 10_000

_log = logging.getLogger(__name__)


class PolicyError(Exception):
    """The policies cannot be used; says which file and why. Stops the start: nobody meets half a policy."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason


class UndecidedError(Exception):
    """Cedar gave no decision, or one while a policy failed. Never leaves this file: it becomes a denial."""


class Subject(msgspec.Struct, frozen=True, cache_hash=True):
    """Who asks. `models` None: every model of the tenant. `role` None: no service account's, so nothing narrows it by that."""

    principal_id: str
    tenant_id: str
    tenant_name: str
    tenant_state: TenantState
    plan: str
    models: frozenset[str] | None
    role: Role | None = None


class ModelView(msgspec.Struct, frozen=True, cache_hash=True):
    """A model as policies see it. `tenants` are names; they do not matter where `everyone` is true."""

    id: str
    name: str
    everyone: bool
    tenants: frozenset[str]


class Decision(msgspec.Struct, frozen=True):
    """`policies`: the sorted @id of those that decided; none if none permitted it or Cedar could not say."""

    allowed: bool
    policies: tuple[str, ...]


DENIED_UNDECIDED: Final = Decision(allowed=False, policies=())


class Authorizer:
    """The policies of one folder, parsed once. Make them with `load`; a changed policy is a new Authorizer.

    `version` is the SHA-256 of schema and policies in hex. `undecided` counts the requests that were denied
    because Cedar could not say, `last_undecided` tells the operator why the last one was.
    """

    def __init__(self, schema: cedarpy.Schema, policies: cedarpy.PolicySet, version: str) -> None:
        self.version = version
        self.undecided = 0
        self.last_undecided = ""
        self._schema = schema
        self._policies = policies
        self._answer = lru_cache(CACHED_DECISIONS)(self._ask)  # what raises is not kept

    @classmethod
    def load(cls, folder: Path) -> "Authorizer":
        """Read `inference.cedarschema` and `inference.cedar`.

        Raises PolicyError for what cannot be read, does not parse or validate, has no @id of its own, or does
        not fit the entities that `decide` sends: found here, and not as a denial of everyone later.
        """
        schema_file, policy_file = folder / "inference.cedarschema", folder / "inference.cedar"
        schema_text, policy_text = _read(schema_file), _read(policy_file)
        try:
            schema = cedarpy.Schema.from_str(schema_text)
        except ValueError as error:
            raise PolicyError(schema_file, str(error)) from error
        try:
            policies = cedarpy.PolicySet.from_str(policy_text)
        except ValueError as error:
            raise PolicyError(policy_file, str(error)) from error
        if faults := list(_faults(policies, policy_text, schema)):
            raise PolicyError(policy_file, "; ".join(faults))
        version = sha256(f"{schema_text}\0{policy_text}".encode()).hexdigest()
        authorizer = cls(schema, policies, version)
        try:
            authorizer._rehearse()
        except UndecidedError as error:
            raise PolicyError(
                schema_file, f"it, or a policy, does not fit what the gateway asks: {error}"
            ) from error
        return authorizer

    def decide(self, subject: Subject, action: Action, model: ModelView) -> Decision:
        """Answer from the 10,000 last used decisions, or ask Cedar.

        The key of the cache is all that Cedar reads, so an answer cannot outlive what it was given for.
        A failure of Cedar, of its input or of a policy closes the door:
        it is a denial, counted in `undecided`, and asked again next time.
        """
        try:
            return self._answer(subject, action, model)
        except Exception as error:  # noqa: BLE001 -- fail closed, whatever it was
            self.undecided += 1
            if self.last_undecided != str(error):
                self.last_undecided = str(error)
                _log.error("Cedar could not decide, so it was denied: %s", error)
            return DENIED_UNDECIDED

    def _ask(self, subject: Subject, action: Action, model: ModelView) -> Decision:
        request = {
            "principal": _uid("Principal", subject.principal_id),
            "action": _uid("Action", action),
            "resource": _uid("Model", model.id),
        }
        entities = msgspec.json.encode(_entities(subject, model)).decode()
        result = cedarpy.is_authorized(request, self._policies, entities, self._schema)
        # Cedar skips a policy that fails and lets the others decide: a broken forbid would be no forbid.
        if result.decision is cedarpy.Decision.NoDecision or result.diagnostics.errors:
            raise UndecidedError("; ".join(result.diagnostics.errors))
        return Decision(
            allowed=result.decision is cedarpy.Decision.Allow,
            policies=tuple(sorted(result.diagnostics.id_annotations_by_reason.values())),
        )

    def _rehearse(self) -> None:
        """Ask about every kind of subject once; raises UndecidedError if Cedar cannot say."""
        model = ModelView("m_", "model", everyone=False, tenants=frozenset({"tenant"}))
        models = (None, frozenset({"model"}), frozenset[str]())
        roles = (None, *ROLES)
        for state, listed, role, action in product(get_args(TenantState), models, roles, get_args(Action)):
            self._ask(Subject("k_", "t_", "tenant", state, "plan", listed, role), action, model)


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(file, str(error)) from error


def _faults(policies: cedarpy.PolicySet, text: str, schema: cedarpy.Schema) -> Iterator[str]:
    parsed = policies.to_pst()
    if parsed.templates:
        yield "templates decide nothing until they are linked, which the gateway does not do"
    if not parsed.static_policies:
        yield "holds no policy, so it denies everything"
    names: dict[str, str] = {}
    for position, policy in parsed.static_policies.items():  # "policy0", "policy1", ...
        name = policy.annotations.get("id")
        if not name:
            yield f'{position}, counted from 0, has no @id("...")'
        elif name in names.values():
            yield f'@id("{name}") is given twice'
        else:
            names[position] = name
    for error in cedarpy.validate_policies(text, schema).errors:
        yield error.error.replace(f"`{error.policy_id}`", names.get(error.policy_id, error.policy_id))


def _uid(kind: str, name: str) -> dict[str, str]:
    return {"type": kind, "id": name}


def _entities(subject: Subject, model: ModelView) -> list[dict[str, Any]]:
    """The four entities of one question, as inference.cedarschema declares them."""
    plan = _uid("Plan", subject.plan)
    tenant = _uid("Tenant", subject.tenant_id)
    limit: dict[str, Any] = {} if subject.models is None else {"models": subject.models}
    role = {} if subject.role is None else {"role": _uid("Role", subject.role)}
    return [
        {"uid": plan, "attrs": {}, "parents": []},
        {
            "uid": tenant,
            "attrs": {"name": subject.tenant_name, "state": _uid("TenantState", subject.tenant_state)},
            "parents": [plan],
        },
        {
            "uid": _uid("Principal", subject.principal_id),
            "attrs": {"tenant": tenant, **limit, **role},
            "parents": [tenant],
        },
        {
            "uid": _uid("Model", model.id),
            "attrs": {"name": model.name, "everyone": model.everyone, "tenants": model.tenants},
            "parents": [],
        },
    ]
