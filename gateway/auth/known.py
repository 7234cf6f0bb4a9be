"""What this process knows of the directory: keys with their tenants and plans, the models and the fleets. Nothing here asks for anything.

A warm key costs no look-up, and its age is checked at each use by one comparison. `cluster/feed` says when the directory was last looked
at and drops what was changed; `auth/look_ups` learns what is not known. Both confirmations are dated from the start of the look, on a
clock that counts while the process or the machine stands still, so that whoever goes on looks before it serves:

    age of the last look       under FRESH_SECONDS    known keys are served
                               else                   the next request waits for a look; see `is_due`
    age of the last answer     over stale_seconds     nobody is served: 503

So a key that was revoked works for FRESH_SECONDS at most, and for `stale_seconds` while the table gives no answer.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from math import inf
from typing import Final

from gateway.auth.conditions import conditions
from gateway.auth.principal import Principal
from gateway.auth.trust import Trust
from gateway.authz.cedar import ModelView, Subject, SubjectRole
from tenants.directory import Credentials
from tenants.fleet import Fleet
from tenants.model import Model
from tenants.tenant import Tenant

FRESH_SECONDS: Final = 3.0
"""Under the five seconds that are promised, by more than what lies between two looks and a look may take."""
UNKNOWN_SECONDS: Final = 5.0
_NOTHING: Final[Set[str]] = frozenset()

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Known:
    """`clock` gives seconds since the machine was started, those that it slept among them. Not shared between loops."""

    clock: Callable[[], float]
    stale_seconds: float = 60.0
    most_keys: int = 10_000
    confirmed_at: float = -inf
    looked_at: float = -inf
    serves_until: float = -inf
    epoch: int = 0
    """Moves with each change. What was read across one may be older than it, and is not remembered."""
    since: int = 0
    """The number of the directory's last change whose effects are known here, or are about to be read."""
    emptied: int = 0
    elsewhere: frozenset[str] = frozenset()
    """The models that a server has which speaks OpenAI's API and no other."""
    trust: Trust = field(default_factory=Trust)
    """The same of tokens. What concerns them is dropped with what concerns keys."""
    _principals: dict[str, Principal] = field(default_factory=dict)
    _is_full: bool = False
    """Only then does it matter which key was used last: to note it costs a warm key a twentieth of its time."""
    _unknown: OrderedDict[str, float] = field(default_factory=OrderedDict)
    _views: Mapping[str, ModelView] = field(default_factory=dict)
    _models: Mapping[str, Model] = field(default_factory=dict)
    _fleets: Mapping[str, Fleet] = field(default_factory=dict)

    # What requests ask

    def warm(self, digest: str) -> Principal | None:
        """Who the key or token with this digest stands for, if that is known here and fresh enough; else it is to be looked up."""
        if self.clock() >= self.serves_until:
            return None
        principal = self._principals.get(digest)
        if principal is None:
            return self.trust.token(digest)
        if self._is_full:
            del self._principals[digest]
            self._principals[digest] = principal
        return principal

    def is_unknown(self, digest: str) -> bool:
        """Whether the directory had no such key, issuer or tenant a moment ago."""
        return self._unknown.get(digest, -inf) > self.clock()

    @property
    def is_due(self) -> bool:
        """Whether nobody is to be served before the directory was looked at once more."""
        return self.clock() >= self.looked_at + FRESH_SECONDS

    @property
    def age_seconds(self) -> float:
        """How long ago the directory last confirmed all that is known here."""
        return self.clock() - self.confirmed_at

    @property
    def is_stale(self) -> bool:
        return self.age_seconds >= self.stale_seconds

    def model(self, name: str) -> ModelView | None:
        return self._views.get(name)

    def models(self) -> Mapping[str, Model]:
        """Every model that some tenant has, by name. Another mapping once one of them has changed."""
        return self._models

    def fleets(self) -> Mapping[str, Fleet]:
        """Every fleet by name. Another mapping once one of them has changed."""
        return self._fleets

    # What the directory says

    def looked(self, started: float, *, answered: bool) -> None:
        """A look that began then is over."""
        self.looked_at = started
        if answered:
            self.confirmed_at = started
        self.serves_until = min(self.looked_at + FRESH_SECONDS, self.confirmed_at + self.stale_seconds)

    def concerned(self, subjects: Mapping[str, Set[str]]) -> list[str]:
        """The known keys that a change of these, ids by their kind, concerns. What was unknown may be known now."""
        self.epoch += 1
        self._unknown.clear()
        self.trust.concerned(subjects)
        keys, tenants, accounts, plans, privacies = (
            subjects.get(kind, _NOTHING) for kind in ("key", "tenant", "account", "plan", "privacy")
        )
        return [
            digest
            for digest, it in self._principals.items()
            if it.id in keys
            or it.tenant_id in tenants
            or it.account_id in accounts
            or it.plan.name in plans
            or (it.privacy and it.privacy.name in privacies)
        ]

    def learn(self, digest: str, credentials: Credentials | None) -> Principal | None:
        """Remember who the key stands for, or that there is no such key; beyond `most_keys` the longest unused is forgotten."""
        principal = principal_of(credentials, self.since)
        if principal is None:
            self._principals.pop(digest, None)
            self.learn_unknown(digest)
            return None
        before = self._principals.get(digest)
        if before == principal:
            return before
        self._principals[digest] = principal
        if len(self._principals) > self.most_keys:
            del self._principals[next(iter(self._principals))]
        self._is_full = len(self._principals) == self.most_keys
        return principal

    def learn_unknown(self, name: str) -> None:
        """Remember for a moment that there is none of this name."""
        self._unknown.pop(name, None)
        self._unknown[name] = self.clock() + UNKNOWN_SECONDS
        if len(self._unknown) > self.most_keys:
            self._unknown.popitem(last=False)

    def forget(self, digests: Iterable[str]) -> None:
        for digest in digests:
            self._principals.pop(digest, None)

    def empty(self) -> None:
        """No key and no token is known any more. The models stay until others are read: what is served by them are those."""
        self.epoch += 1
        self.emptied += bool(self._principals or self._unknown or len(self.trust))
        self.trust.empty()
        self._principals.clear()
        self._unknown.clear()

    def catalogue(self, models: Mapping[str, Model], fleets: Mapping[str, Fleet]) -> bool:
        """From now on these are all; whether that is anything new."""
        models = {name: model for name, model in models.items() if model.tenants}
        is_new = (models, fleets) != (self._models, self._fleets)
        if fleets != self._fleets:
            self._fleets = fleets
        if models != self._models:
            self._models = models
            self._views = {name: model_view(model) for name, model in models.items()}
            self.elsewhere = frozenset(name for name, model in models.items() if model.is_elsewhere)
        return is_new


def principal_of(credentials: Credentials | None, since: int = 0) -> Principal | None:
    """Who is served by these, which were read once that change was known; None where nobody ever is again."""
    if credentials is None or credentials.key.revoked_us is not None or credentials.tenant.state == "closed":
        return None
    key, tenant, plan, account = credentials.key, credentials.tenant, credentials.plan, credentials.account
    try:
        bounds = conditions(key.networks, key.hours, networks_of(tenant))
    except ValueError as fault:  # as of a zone that this machine does not know
        _log.error("%s is not served: %s", key.id, fault)
        return None
    return Principal(
        id=key.id,
        name=key.name,
        tenant_id=tenant.id,
        tenant_name=tenant.name,
        account_id=key.account_id,
        plan=plan,
        subject=subject_of(key.id, tenant, models=key.models, role=account.role if account else None),
        expires_us=end_of(key.expires_us, tenant),
        conditions=bounds,
        limits=key.limits,
        since=since,
        privacy=credentials.privacy,
    )


def networks_of(tenant: Tenant) -> tuple[str, ...] | None:
    """Where all credentials of the tenant are bound to; None: nowhere."""
    return tenant.restrictions.networks if tenant.restrictions else None


def subject_of(
    principal_id: str, tenant: Tenant, *, models: Iterable[str] | None = None, role: SubjectRole | None
) -> Subject:
    """As policies see whoever is of this tenant, with what it restricts itself to."""
    own = tenant.restrictions
    return Subject(
        principal_id=principal_id,
        tenant_id=tenant.id,
        tenant_name=tenant.name,
        tenant_state=tenant.state,
        plan=tenant.plan,
        models=_set(models),
        role=role,
        tenant_regions=_set(own.regions) if own else None,
        tenant_models=_set(own.models) if own else None,
    )


def end_of(own_us: int | None, tenant: Tenant) -> int | None:
    """When a credential that ends then is over: with its tenant, if that is closed before."""
    closes_us = tenant.closes_us if tenant.state == "closing" else None
    return min((end for end in (own_us, closes_us) if end is not None), default=None)


def _set(names: Iterable[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def model_view(model: Model) -> ModelView:
    everyone = model.tenants == "*"
    tenants = frozenset[str]() if everyone else frozenset(model.tenants)
    return ModelView(id=model.id, name=model.name, everyone=everyone, tenants=tenants, region=model.region)
