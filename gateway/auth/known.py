"""What this process knows of the directory: keys with their tenants and plans, the models and the fleets.

A warm key costs no look-up. Everything known is read again every two seconds (`reread`, run by the composition root), so that a revoked
key stops working within five; until the change feed replaces this. While the Table is out of reach what is known goes on for
`stale_seconds`, then the door closes. A key that is not in the directory is remembered as unknown for at most five seconds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.auth.principal import Principal
from gateway.authz.cedar import ModelView, Subject
from gateway.errors import Code, GatewayError
from tenants.directory import Credentials, Directory
from tenants.errors import TableUnavailable
from tenants.fleet import Fleet
from tenants.model import Model

_UNKNOWN_SECONDS = 5.0
_REREAD_AT_ONCE = 50


@dataclass(slots=True)
class Known:
    """`clock` gives monotonic seconds. Not shared between loops."""

    directory: Directory
    clock: Callable[[], float]
    stale_seconds: float = 60.0
    most_keys: int = 10_000
    confirmed_at: float = 0.0
    _principals: dict[str, Principal] = field(default_factory=dict)
    _seen: dict[str, Credentials] = field(default_factory=dict)
    _unknown: dict[str, float] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()
    """The models that a server has which speaks OpenAI's API and no other."""
    _views: Mapping[str, ModelView] = field(default_factory=dict)
    _models: Mapping[str, Model] = field(default_factory=dict)
    _fleets: Mapping[str, Fleet] = field(default_factory=dict)

    @property
    def age_seconds(self) -> float:
        """How long ago the directory last confirmed all that is known here."""
        return self.clock() - self.confirmed_at

    def model(self, name: str) -> ModelView | None:
        return self._views.get(name)

    def models(self) -> Mapping[str, Model]:
        """Every model that some tenant has, by name. Another mapping once one of them has changed."""
        return self._models

    def fleets(self) -> Mapping[str, Fleet]:
        """Every fleet by name. Another mapping once one of them has changed."""
        return self._fleets

    def warm(self, digest: str) -> Principal | None:
        """Who the key with this digest stands for, if that is known here and fresh enough; else ask for the `principal`."""
        return self._principals.get(digest) if self.age_seconds <= self.stale_seconds else None

    async def principal(self, digest: str) -> Principal | None:
        """Who the key with this digest stands for; None for nobody. Raises DIRECTORY_UNAVAILABLE."""
        if self.age_seconds > self.stale_seconds:
            raise GatewayError(Code.DIRECTORY_UNAVAILABLE, retry_after_seconds=1)
        known = self._principals.get(digest)
        if known is not None:
            return known
        if self._unknown.get(digest, 0.0) > self.clock():
            return None
        try:
            credentials = await self.directory.keys.find(digest)
        except TableUnavailable as fault:
            raise GatewayError(
                Code.DIRECTORY_UNAVAILABLE, private=str(fault), retry_after_seconds=1
            ) from fault
        return self._learn(digest, credentials)

    async def reread(self) -> None:
        """Read all that is known again. Raises TableUnavailable, and then nothing is forgotten but all grows older."""
        started = self.clock()
        models = {
            name: model for name, model in (await self.directory.values.models()).items() if model.tenants
        }
        fleets = (
            await self.directory.values.fleets()
        )  # after the models, so that a new model's fleet is among them
        digests = list(self._principals)
        for first in range(0, len(digests), _REREAD_AT_ONCE):
            found = await self.directory.keys.reread(digests[first : first + _REREAD_AT_ONCE])
            for digest, credentials in found.items():
                self._learn(digest, credentials)
        if fleets != self._fleets:
            self._fleets = fleets
        if models != self._models:
            self._models = models
            self._views = {name: model_view(model) for name, model in models.items()}
            self.elsewhere = frozenset(name for name, model in models.items() if model.is_elsewhere)
        self.confirmed_at = started

    def _learn(self, digest: str, credentials: Credentials | None) -> Principal | None:
        if (
            credentials is None
            or credentials.key.revoked_us is not None
            or credentials.tenant.state == "closed"
        ):
            self._principals.pop(digest, None)
            self._seen.pop(digest, None)
            if len(self._unknown) >= self.most_keys:
                self._unknown.clear()
            self._unknown[digest] = self.clock() + _UNKNOWN_SECONDS
            return None
        if self._seen.get(digest) == credentials:
            return self._principals[digest]
        if len(self._principals) >= self.most_keys:
            oldest = next(iter(self._principals))
            del self._principals[oldest], self._seen[oldest]
        principal = make_principal(credentials)
        self._principals[digest] = principal
        self._seen[digest] = credentials
        return principal


def make_principal(credentials: Credentials) -> Principal:
    key, tenant, plan = credentials.key, credentials.tenant, credentials.plan
    models = None if key.models is None else frozenset(key.models)
    return Principal(
        key_id=key.id,
        key_name=key.name,
        tenant_id=tenant.id,
        tenant_name=tenant.name,
        plan=plan,
        subject=Subject(
            principal_id=key.id,
            tenant_id=tenant.id,
            tenant_name=tenant.name,
            tenant_state=tenant.state,
            plan=plan.name,
            models=models,
        ),
        expires_us=key.expires_us,
    )


def model_view(model: Model) -> ModelView:
    everyone = model.tenants == "*"
    tenants = frozenset[str]() if everyone else frozenset(model.tenants)
    return ModelView(id=model.id, name=model.name, everyone=everyone, tenants=tenants)
