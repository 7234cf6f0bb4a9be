"""What clients send and are sent: typed, times in RFC 3339 and UTC, never a stored secret. Pure.

Plans, privacies, models and fleets have the fields of their rows (`strict.py`). A field may be added; one that is here keeps its meaning.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Generic, TypeVar

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, defstruct

from tenants import keys, tenant
from tenants.api.strict import shown, strict
from tenants.certificates import MOST_CERTIFICATES, TenantCertificate
from tenants.conditions import KeyLimits
from tenants.directory import KeyRecord, Minted
from tenants.directory.leaks import Leak
from tenants.events import Event
from tenants.holdings import Holding
from tenants.hours import Hours
from tenants.issuers import MOST_ISSUERS, Issuer, TenantIssuer
from tenants.keys import MOST_SECONDS, PREFIX, ApiKey
from tenants.members import Account, Member, Role
from tenants.model import Model
from tenants.networks import Ranges
from tenants.ports import CallerRole
from tenants.restrictions import Restrictions
from tenants.tenant import Tenant

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

Moment = Annotated[datetime, Meta(tz=True)]
Seconds = Annotated[float, Meta(ge=0, le=MOST_SECONDS)]

_OF_MODELS: Final = ("id", "name", "description", "tags", "inputs", "outputs", "region")

_Item = TypeVar("_Item")


def moment(us: int) -> datetime:
    return _EPOCH + us * _MICROSECOND


def microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


# What is sent, and answered as it may be sent again

IssuerShape: Any = defstruct(
    "Issuer",
    [("id", str, "")],
    bases=(strict(Issuer),),
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    namespace={"__doc__": Issuer.__doc__ and Issuer.__doc__.partition("\n")[0]},
)
"""`id` is that of the path, and may be left out."""


def _own(many: str, kind: type[Struct], most: int, what: str) -> Any:
    """All that a tenant has of one sort."""
    one: Any = strict(kind)
    return defstruct(
        f"Tenant{many.title()}",
        [(many, Annotated[tuple[one, ...], Meta(max_length=most)])],
        frozen=True,
        forbid_unknown_fields=True,
        namespace={"__doc__": f"All that a tenant has{what}; to leave it out is not to have none."},
    )


OwnIssuers: Any = _own("issuers", TenantIssuer, MOST_ISSUERS, " for itself")
OwnCertificates: Any = _own("certificates", TenantCertificate, MOST_CERTIFICATES, "")


# What is sent


class Sent(Struct, frozen=True, forbid_unknown_fields=True):
    """A body; what it does not name is refused."""


class Nothing(Sent, frozen=True):
    """No body, or {}."""


class NewTenant(Sent, frozen=True):
    name: str
    plan: str
    privacy: str | None = None
    kms_key: str | None = None


class TenantChange(Sent, frozen=True):
    """What is left out stays. `privacy` null: it has none any more; and so `kms_key`, without which the deployment's key wraps."""

    plan: str | UnsetType = UNSET
    privacy: str | UnsetType | None = UNSET
    kms_key: str | UnsetType | None = UNSET


class Closing(Sent, frozen=True):
    """For so long it may be reopened."""

    after_seconds: Seconds = 0.0


class NewMember(Sent, frozen=True):
    email: str
    role: Role


class NewAccount(Sent, frozen=True):
    name: str
    role: Role


class RoleChange(Sent, frozen=True):
    role: Role


class AnyNewKey(Sent, frozen=True):
    """It ends after so many seconds, or at that time, or when it is revoked. `networks`: ranges of addresses that it may be used from, as
    192.0.2.0/24; `hours`: when. null: from everywhere, always.
    """

    name: str = ""
    expires_seconds: Annotated[float, Meta(gt=0, le=MOST_SECONDS)] | None = None
    expires_at: Moment | None = None
    networks: Ranges | None = None
    hours: Hours | None = None


class NewOperatorKey(AnyNewKey, frozen=True):
    """`break_glass`: for emergencies; it says why with every request, reads too, and each has an event."""

    break_glass: bool = False


class NewKey(AnyNewKey, frozen=True):
    """`models`: what it may use, null: all that the tenant may. `account`: the id of a service account, whose role it has. `limits`: its
    own, beside its tenant's.
    """

    models: tuple[str, ...] | None = None
    account: str | None = None
    limits: KeyLimits | None = None


class Rotation(Sent, frozen=True):
    """For so long the old key works too."""

    overlap_seconds: Seconds = 86_400.0


class LeakedKey(Sent, frozen=True):
    """A text that somebody has who should not. `and_made` ends the keys too that it made, and that those made."""

    api_key: Annotated[str, Meta(max_length=256)]
    and_made: bool = False


# What is answered

TenantModel: Any = strict(Model, "TenantModel", _OF_MODELS)


class Listed(Struct, Generic[_Item], frozen=True):
    """A page may be short, even empty, while there is more: only `next_cursor` tells."""

    items: tuple[_Item, ...]
    next_cursor: str | None


class TenantView(Struct, frozen=True):
    """`kms_key` is the ARN of the key of its own that wraps its data keys, null: the deployment's does."""

    id: str
    name: str
    plan: str
    state: tenant.State
    created_at: Moment
    closes_at: Moment | None
    privacy: str | None
    kms_key: str | None


class MemberView(Struct, frozen=True):
    id: str
    email: str
    role: Role
    created_at: Moment


class AccountView(Struct, frozen=True):
    id: str
    name: str
    role: Role
    created_at: Moment


class KeyView(Struct, frozen=True):
    """`hint` is how its text begins. `models` null: all that its tenant may use. `successor` is the key that it was rotated to, `made_by`
    the one that made it, null where no key did: then its first event tells who. `last_used_at` may be a minute late. `orphaned`: its
    service account is gone. `break_glass`: it is an operators' key for emergencies.
    """

    id: str
    name: str
    hint: str
    state: keys.Shown
    models: tuple[str, ...] | None
    account: str | None
    created_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None
    successor: str | None
    networks: tuple[str, ...] | None
    hours: Hours | None
    limits: KeyLimits | None
    made_by: str | None
    last_used_at: Moment | None
    break_glass: bool


class MintedKey(KeyView, frozen=True):
    """A new key. `api_key` is its text, shown this once: null where the request was repeated."""

    api_key: str | None


class MadeKey(KeyView, frozen=True):
    """`tenant` is its name, null for an operator's."""

    tenant: str | None


class LeakView(MadeKey, frozen=True):
    """A key that is revoked now, or was already. `was` is where it stood until then, `made` are the keys that it made, and those that they
    made, oldest first.
    """

    was: keys.State
    made: tuple[MadeKey, ...]


class EventView(Struct, frozen=True):
    """Who did what to what. `before` and `after` are the stored records, or null."""

    id: str
    at: Moment
    actor: str
    action: str
    subject: str
    reason: str
    before: Raw
    after: Raw


class Whoami(Struct, frozen=True):
    """Whose credential this is. `id` stands for them in events, and is the key's for a key, the member's for a member's token, else one of
    the token's own; `key` is null for a token. `tenant` is its name, null for an operator's; `account` is the one that the key is of.
    """

    id: str
    key: str | None
    role: CallerRole
    tenant: str | None
    account: str | None


# From the one to the other


def tenant_view(value: Tenant, now_us: int) -> TenantView:
    return TenantView(
        id=value.id,
        name=value.name,
        plan=value.plan,
        state=tenant.state(value, now_us),
        created_at=moment(value.created_us),
        closes_at=None if value.closes_us is None else moment(value.closes_us),
        privacy=value.privacy,
        kms_key=value.kms_key,
    )


def restrictions_view(value: Tenant, _: int) -> Restrictions:
    return value.restrictions or Restrictions()


def member_view(value: Member, _: int) -> MemberView:
    return MemberView(value.id, value.email, value.role, moment(value.created_us))


def account_view(value: Account, _: int) -> AccountView:
    return AccountView(value.id, value.name, value.role, moment(value.created_us))


def key_view(value: KeyRecord, now_us: int) -> KeyView:
    return KeyView(**_key_fields(value, now_us))


class RecordKeyView(Struct, frozen=True):
    """`key` and `commitment`: 32 bytes, Base64 for URLs."""

    series: str
    data_key: str
    key: str
    commitment: str


class RecordKeysView(Struct, frozen=True):
    keys: tuple[RecordKeyView, ...]


def minted_view(value: Minted, now_us: int) -> MintedKey:
    return MintedKey(**_key_fields(KeyRecord(value.key), now_us), api_key=value.secret.reveal())


def replayed_view(value: ApiKey, now_us: int) -> MintedKey:
    return MintedKey(**_key_fields(KeyRecord(value), now_us), api_key=None)


def leak_view(value: Leak, now_us: int) -> LeakView:
    made = tuple(MadeKey(**_key_fields(it.record, now_us), tenant=it.tenant) for it in value.made)
    fields, was = _key_fields(value.key.record, now_us), keys.state_when_revoked(value.key.record.key)
    return LeakView(**fields, tenant=value.key.tenant, was=was, made=made)


def _key_fields(record: KeyRecord, now_us: int) -> dict[str, Any]:
    value = record.key
    return {
        "id": value.id,
        "name": value.name,
        "hint": f"{PREFIX}{value.hint}",
        "state": record.state(now_us),
        "models": value.models,
        "account": value.account_id,
        "created_at": moment(value.created_us),
        "expires_at": None if value.expires_us is None else moment(value.expires_us),
        "revoked_at": None if value.revoked_us is None else moment(value.revoked_us),
        "successor": value.successor_id,
        "networks": value.networks,
        "hours": value.hours,
        "limits": value.limits,
        "made_by": value.made_by,
        "last_used_at": None if record.used_us is None else moment(record.used_us),
        "break_glass": value.break_glass,
    }


def issuer_view(value: Issuer, now_us: int) -> dict[str, Any]:
    return {"id": value.id, **shown(value, now_us)}


def holding_view(value: Holding[Any], now_us: int) -> dict[str, Any]:
    return {name: it for name, it in shown(value, now_us).items() if name != "tenant_id"}


def event_view(value: Event, _: int) -> EventView:
    return EventView(
        id=value.id,
        at=moment(value.at_us),
        actor=value.actor,
        action=value.action,
        subject=value.subject,
        reason=value.reason,
        before=value.before,
        after=value.after,
    )


def tenant_model(value: Model, now_us: int) -> dict[str, Any]:
    """What a tenant sees of a model that it may call: what it is for, and nothing of where and for whom else it is."""
    return {name: it for name, it in shown(value, now_us).items() if name in _OF_MODELS}
