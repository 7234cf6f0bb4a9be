"""What the policies say, why, and whether they are whole: the work of `gateway policy`, which loads Cedar."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast, get_args

from gateway.auth.known import model_view, principal_of
from gateway.authz import cases
from gateway.authz.cedar import Action, Decision
from gateway.authz.current import SHOWN, Current
from gateway.authz.errors import PolicyError
from gateway.commands.arguments import wrong_usage
from gateway.commands.command import Asked, asked
from gateway.settings import Settings
from tenants import keys, tenant
from tenants.directory import Credentials
from tenants.errors import NotFound
from tenants.keys import ApiKey
from tenants.members import Account
from tenants.model import Model
from tenants.plans import Plan
from tenants.ports import OPERATOR_ROLES, CallerRole, PlatformAction, Question, TenantAction
from tenants.privacy import Privacy
from tenants.tenant import Tenant

_UNAUTHENTICATED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404
_USES: Final = get_args(Action)
_OF_TENANTS: Final = get_args(TenantAction)
_OF_PLATFORM: Final = get_args(PlatformAction)
_NONE_PERMITS: Final = "no policy permits it"
_NOBODYS: Final = Decision(allowed=False, policies=())
"""A denial that no policy was asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`heard` is the status that a client would hear, None where it is let through; `why`, where it is not a policy that says so."""

    decision: Decision
    heard: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks, as far as control goes; `owner` None: an operator. `credentials` are those of a tenant's."""

    role: CallerRole
    id: str
    owner: Tenant | None = None
    credentials: Credentials | None = None
    key: ApiKey | None = None


@asked
async def check(it: Asked) -> int:
    if fault := _misuse(it.given):
        return wrong_usage(f"{fault}; see: gateway policy check --help")
    current = Current.load(it.given.policies or it.settings.policies)
    who = await _who(it)
    answer = _shut_out(who, it.now_us)
    if answer is None:
        uses = it.given.action in _USES
        answer = await (_uses if uses else _controls)(it, who, current)
    return _told(answer, current, it.given)


def _misuse(given: argparse.Namespace) -> str:
    """What argparse cannot tell; "" for what makes sense."""
    uses = given.action in _USES
    if uses and not given.model:
        return f"--action {given.action} is asked about a --model"
    if not uses and given.model:
        return f"--action {given.action} is not asked about a model"
    if given.role is not None and given.key:
        return "a key has the role of its account: leave --role out"
    if given.role is not None and (given.role in OPERATOR_ROLES) != given.operator:
        return f"--role {given.role} is {'an operator' if given.role in OPERATOR_ROLES else 'of a tenant'}'s"
    if not uses and given.action not in _OF_PLATFORM and given.operator and not given.on:
        return f"--action {given.action} is asked about a tenant: name it with --on"
    return ""


async def _who(it: Asked) -> Who:
    """Raises NotFound."""
    given, directory = it.given, it.directory
    if given.operator:
        return Who(given.role or "operator", "k_")
    if given.key is None:
        owner = await directory.tenants.show(given.tenant)
        role = None if given.role in (None, "none") else given.role
        account = Account("s_", owner.id, "", role, 0) if role else None
        key = ApiKey("k_", owner.id, "", "", None, 0, None, None, account.id if account else None)
    else:
        name = await directory.keys.owner_of(given.key)
        if name is None:
            key = await directory.keys.show(None, given.key)
            return Who("break-glass" if key.break_glass else "operator", key.id, key=key)
        owner = await directory.tenants.show(name)
        key = await directory.keys.show(name, given.key)
        account = None
        if key.account_id is not None:
            try:
                account = (await directory.accounts.find(name, key.account_id)).value
            except NotFound:
                return Who("none", key.id, owner)
    values = directory.values
    plan = (await values.find(Plan, owner.plan)).value
    private = (await values.find(Privacy, owner.privacy)).value if owner.privacy is not None else None
    credentials = Credentials(key, owner, plan, account, private)
    return Who(account.role if account else "none", key.id, owner, credentials, key)


def _shut_out(who: Who, now_us: int) -> Answer | None:
    """Whoever is recognized by nobody is not judged by policies."""
    works = who.key is None or keys.state(who.key, now_us) in keys.WORKING
    if works and (who.owner is None or principal_of(who.credentials) is not None):
        return None
    why = "the key is revoked or has ended, or its account is gone, or its tenant is closed"
    return Answer(_NOBODYS, _UNAUTHENTICATED, why)


async def _uses(it: Asked, who: Who, current: Current) -> Answer:
    """As a request is judged (`pipeline.py`): whether the model is there for them, and then the action."""
    principal = principal_of(who.credentials)
    if principal is None:
        return Answer(
            _NOBODYS, _UNAUTHENTICATED, "an operator's key is for the control API, and uses no model"
        )
    try:
        model = model_view((await it.directory.values.find(Model, it.given.model)).value)
    except NotFound as fault:
        return Answer(_NOBODYS, _NOT_FOUND, fault.sentence)
    found = current.inference.decide(principal.subject, "discover", model)
    if not found.allowed:
        return Answer(found, _FORBIDDEN if found.policies else _NOT_FOUND)
    decided = current.inference.decide(principal.subject, cast("Action", it.given.action), model)
    return Answer(decided, None if decided.allowed else _FORBIDDEN)


async def _controls(it: Asked, who: Who, current: Current) -> Answer:
    """As an operation of the control API is judged: another tenant's is not there, whatever the policies say."""
    given, theirs = it.given, who.owner
    on = theirs
    if given.on is not None:
        on = await it.directory.tenants.show(given.on)
    if given.action not in _OF_TENANTS or (given.action == "whoami" and theirs is None):
        on = None
    if theirs is not None and on is not None and on.id != theirs.id:
        why = f"the tenant {on.name!r} is not there for whoever is of another"
        return Answer(_NOBODYS, _NOT_FOUND, why)
    question = Question(
        caller_id=who.id,
        role=who.role,
        of_tenant_id=theirs.id if theirs else None,
        action=given.action,
        tenant_id=on.id if on else None,
        tenant_state=tenant.state(on, it.now_us) if on else "active",
        gives=given.gives,
        widens=given.widens,
        loosens=given.loosens,
        hastens=given.hastens,
        gives_reason=bool(given.reason),
    )
    decided = current.decide(question)
    return Answer(decided, None if decided.allowed else _FORBIDDEN)


def _told(answer: Answer, current: Current, given: argparse.Namespace) -> int:
    told = current.inference.told() if given.action in _USES else current.control.told()
    decided = answer.decision
    why = answer.why or ("" if decided.policies else _NONE_PERMITS)
    if given.json:
        policies = [
            {"id": name, "effect": told[name].effect, "reason": told[name].reason}
            for name in decided.policies
        ]
        word = "ALLOW" if decided.allowed else "DENY"
        print(json.dumps({"decision": word, "heard": answer.heard, "policies": policies, "why": why}))
    else:
        print("ALLOW" if decided.allowed else f"DENY: the client hears {answer.heard}")
        for name in decided.policies:
            print(f"{name}: {told[name].reason or told[name].effect}")
        if why:
            print(why)
    return 0 if decided.allowed else 1


async def validate(settings: Settings, given: argparse.Namespace) -> int:
    """Raises PolicyError."""
    folder = given.policies or settings.policies
    try:
        current = Current.load(folder)
    except PolicyError as fault:
        if not given.json:
            raise
        print(json.dumps({"whole": False, "file": str(fault.file), "reason": fault.reason}))
        return 1
    many = len(current.inference.told()) + len(current.control.told())
    if given.json:
        print(json.dumps({"whole": True, "policies": many, "version": current.version}))
    else:
        print(f"whole: {many} policies, version {current.version[:SHOWN]}")
    return 0


async def test(settings: Settings, given: argparse.Namespace) -> int:
    """Raises PolicyError."""
    folder: Path = given.policies or settings.policies
    current = Current.load(folder)
    many, wrong = 0, list[str]()
    for name in cases.FILES:
        found = cases.loaded(folder, name)
        policies = current.inference if isinstance(found, cases.InferenceCases) else current.control
        many += len(found.cases)
        wrong += (f"{name}: {said}" for said in cases.wrong(found, policies))
    if given.json:
        print(json.dumps({"cases": many, "wrong": wrong}))
    else:
        print("\n".join(wrong) if wrong else f"all {many} cases come out as they should")
    return 1 if wrong else 0
